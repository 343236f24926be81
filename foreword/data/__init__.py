"""Data: from a file to rows, from rows to a task, from a task to token ids.

A row walks through this room once::

    read (delimited, jsonfile, memory, messages)  ->  Table of Rows with a Layout
    check, split                                  ->  what is wrong with it; train, dev, test; the data lock
    task, template                                ->  what the model is asked, and how an answer is read
    encoding, batch                               ->  token ids, grouped by length

Nothing here imports torch or another room; a tokenizer is passed in. Every problem names ``file:line``.
"""
