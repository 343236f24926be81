"""Bias and sensitivity: what changes an answer that should not.

terms, data/   ->  lists of words that belong together: genders, names, regions; English and Chinese
subject        ->  what is asked: a foreword, or a prompt
counterfactual ->  the same row about somebody else
probes         ->  the answer to nothing, the order of labels and examples, other words for the same
run            ->  all of it, with intervals, and the rows that were flagged
"""
