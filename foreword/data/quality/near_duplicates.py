"""Nearly equal texts, exactly and fast: Jaccard similarity of character shingles with prefix filtering.

Two sets with a similarity of t share at least k elements among the first ``n - ceil(t n) + k`` of each, in any order
common to both; with the rarest shingles first that prefix is mostly unique to its text, and little is compared.
(Chaudhuri, Ganti and Kaushik 2006; Xiao et al., PPJoin, 2008; k above 1: Wang, Li and Feng, AdaptJoin, 2012.)
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

SHINGLE = 5
"""Characters in a shingle."""
LONGEST = 2000
"""Of a longer text only the first so many characters are compared."""
_SHARED = 8  # k above
_SMALLEST = 9  # unequal sets with a similarity of 0.9 have ten elements together
_MOST_CANDIDATES = 200


@dataclass(frozen=True)
class Pair:
    """Two texts by index (``first`` < ``second``) and their similarity, 0 to 1."""

    first: int
    second: int
    similarity: float


def near_pairs(texts: Sequence[str], groups: Sequence[str], threshold: float = 0.9) -> list[Pair]:
    """For each text its nearest neighbour among the earlier texts of each group.

    Args:
        texts: normalised texts. Equal texts and texts of less than 13 characters are not compared here.
        groups: a name for each text (its split).
        threshold: least Jaccard similarity of the sets of 5-character shingles, 0.9 or more.

    A text is compared with the 200 earlier ones that share most of its rare parts, so that time stays near linear also
    for rows made from one pattern.
    """
    sets, sizes = _ranked(texts)
    index: dict[int, list[int]] = defaultdict(list)
    pairs: list[Pair] = []
    for number, own in enumerate(sets):
        # Shingles of this text alone come first in its prefix and match nothing, so they are only counted.
        length = len(own) - math.ceil(threshold * sizes[number]) + _SHARED
        if sizes[number] < _SMALLEST or length < _SHARED:
            continue
        prefix = own[:length]
        shared = Counter(chain.from_iterable(index[one] for one in prefix if one in index))
        likely = [other for other, count in shared.items() if count >= _SHARED]
        likely = sorted(likely, key=shared.__getitem__, reverse=True)[:_MOST_CANDIDATES]
        pairs += _matches(number, likely, sets, sizes, texts, groups, threshold)
        for one in prefix:
            index[one].append(number)
    return pairs


def _ranked(texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
    """Each text's shingles that another text has too, as sorted ranks (rarest first), and the size of its whole set."""
    shingles = [_shingles(text) for text in texts]
    counts: Counter[str] = Counter()
    for own in shingles:
        counts.update(own)
    shared = sorted((one for one, count in counts.items() if count > 1), key=counts.__getitem__)
    ranks = {one: rank for rank, one in enumerate(shared)}
    return [sorted(ranks[one] for one in own if one in ranks) for own in shingles], [len(own) for own in shingles]


def _matches(
    number: int,
    likely: Sequence[int],
    sets: Sequence[list[int]],
    sizes: Sequence[int],
    texts: Sequence[str],
    groups: Sequence[str],
    threshold: float,
) -> list[Pair]:
    found: dict[str, Pair] = {}
    mine, length = frozenset(sets[number]), len(texts[number])
    for other in likely:
        theirs, other_length = sets[other], len(texts[other])
        if groups[other] in found or texts[other] == texts[number]:
            continue
        if min(sizes[number], sizes[other]) < threshold * max(sizes[number], sizes[other]):
            continue
        if min(length, other_length) < 0.8 * max(length, other_length):
            continue  # the beginnings are alike, the whole texts are not
        common = len(mine.intersection(theirs))
        similarity = common / (sizes[number] + sizes[other] - common)
        if similarity >= threshold:
            found[groups[other]] = Pair(other, number, similarity)
    return list(found.values())


def _shingles(text: str) -> list[str]:
    """The different shingles in the order of the text; a set would have another order in every process."""
    text = text[:LONGEST]
    return list(dict.fromkeys(text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1)))
