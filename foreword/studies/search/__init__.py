"""The prompt bench: variants of a prompt side by side, and a search for a better one on the user's own model.

A variant walks through the room once::

    variant, read   ->  what is asked: guidance, template, label words, examples in front
    judge           ->  its answers on rows, kept on disk
    race            ->  many variants on few rows, few variants on all of them
    loop            ->  rounds: propose, race, keep what is better; every round recorded
    honest          ->  the winner on rows that no round has seen
    report          ->  the matrix, the rounds, the settings to train with

The rows that choose the winner flatter it, the more so the more variants there were. So the figure that is shown first
comes from rows that were kept out of the search, beside the flattering one.
"""
