"""Whether answers have to do with the right ones at all, whatever their shares are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist


def unrelated_p(outputs: Sequence[str], golds: Sequence[str]) -> float:
    """One-sided p-value of as many right answers if they were dealt out at random (Cohen's kappa with fixed margins).

    Near 0: the answers follow the labels, also where hardly more of them are right than the most frequent label would
    be. 1 for answers or labels that are all the same.
    """
    rows = len(golds)
    said, right = Counter(outputs), Counter(golds)
    if rows < 2 or len(said) < 2 or len(right) < 2:
        return 1.0
    both = {name: said[name] * right[name] for name in said if name in right}
    expected = sum(both.values()) / rows
    # The variance of a count of matches between two shuffled lists.
    own = sum(count * (rows - said[name]) * (rows - right[name]) for name, count in both.items())
    pairs = sum(both.values()) ** 2 - sum(count**2 for count in both.values())
    variance = (own + pairs) / (rows**2 * (rows - 1))
    if variance <= 0:
        return 1.0
    hits = sum(output == gold for output, gold in zip(outputs, golds, strict=True))
    # Half a step: with two labels, a swap makes two more right or two fewer.
    half = 1.0 if len(said.keys() | right.keys()) == 2 else 0.5
    return 1 - NormalDist().cdf((hits - half - expected) / math.sqrt(variance))


def entropy(labels: Sequence[str]) -> float:
    """Nats a label: the loss of whoever knows the shares of the labels and nothing of the rows."""
    counts = Counter(labels)
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())
