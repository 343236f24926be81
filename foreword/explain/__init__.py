"""What a foreword says and does: its nearest words, what each part of it is worth, where attention goes, and a text
that answers like it.

:func:`foreword.explain.run.explain` loads a file and makes the card, :mod:`foreword.explain.result` draws it; each of
the other files makes one part of it.
"""
