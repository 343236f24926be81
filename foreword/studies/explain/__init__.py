"""What a foreword says and does: its nearest words, what each part of it is worth, where attention goes, and a text
that answers like it.

explain.py loads a file and makes the card, explain_card.py draws it; each of
the other files makes one part of it.
"""
