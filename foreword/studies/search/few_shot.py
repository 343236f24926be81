"""Examples in front of the row: which ones, how many, in which order.

Order alone can move a small model between chance and its best (Lu et al. 2022), so sets and orders both are tried. The
examples come from training rows that are never asked.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from foreword.data.row import Row, references
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.messages import Message
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.rounds import State


@dataclass(frozen=True)
class FewShotProposer:
    """Sets of examples drawn evenly over the labels, typical ones, and the champion's examples in other orders.

    Args:
        rows: training rows to take them from.
        most: examples in front of a row at most.
    """

    task: Task
    rows: tuple[Row, ...]
    most: int
    name: str = "shots"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        dice, best = random.Random(state.dice(self.name)), state.best
        made: list[Variant] = []
        if best.examples:
            made += self._reordered(best, dice, max(1, wanted // 2))
        sizes = [size for size in (1, 2, 4, 8, 16) if size <= min(self.most, len(self.rows))]
        dice.shuffle(sizes)
        typical = True
        while sizes and len(made) < wanted:
            for size in sizes:
                chosen = self._typical(size) if typical else self._drawn(size, dice)
                typical = False
                change = Message("{n} example{n!p} in front", n=size)
                made.append(best.made(self.name, change, examples=tuple(row.id for row in chosen)))
        return made[:wanted]

    def _reordered(self, best: Variant, dice: random.Random, count: int) -> list[Variant]:
        made = []
        for _ in range(count):
            order = list(best.examples)
            dice.shuffle(order)
            made.append(best.made(self.name, "the examples in another order", examples=tuple(order)))
        if len(best.examples) > 1:
            made.append(best.made(self.name, "one example less", examples=best.examples[1:]))
        return made

    def _by_label(self) -> dict[str, list[Row]]:
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[(references(row.fields.get(self.task.target)) or ("",))[0] if self.task.labels else ""].append(row)
        return groups

    def _drawn(self, size: int, dice: random.Random) -> list[Row]:
        groups = self._by_label()
        names = sorted(groups)
        dice.shuffle(names)
        pools = {name: dice.sample(groups[name], len(groups[name])) for name in names}
        chosen: list[Row] = []
        while len(chosen) < size and any(pools.values()):
            for name in names:
                if pools[name] and len(chosen) < size:
                    chosen.append(pools[name].pop())
        dice.shuffle(chosen)
        return chosen

    def _typical(self, size: int) -> list[Row]:
        """The rows nearest to the middle of their label, by TF-IDF of words and characters."""
        groups = self._by_label()
        ranked = {name: [rows[i] for i in typical_first(self._texts(rows))] for name, rows in groups.items()}
        chosen: list[Row] = []
        for depth in range(size):
            for name in sorted(ranked):
                if depth < len(ranked[name]) and len(chosen) < size:
                    chosen.append(ranked[name][depth])
        return chosen

    def _texts(self, rows: Sequence[Row]) -> list[str]:
        fields = sorted(parsed(self.task.template).fields - {"row"})
        return ["\n".join(str(row.fields.get(name) or "") for name in fields) for row in rows]


def typical_first(texts: Sequence[str]) -> list[int]:
    """Indices of texts, those nearest to the mean of all first; short character n-grams serve every script."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(texts) < 3 or not any(text.strip() for text in texts):
        return list(range(len(texts)))
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform(texts)
    near = vectors @ vectors.mean(axis=0).T
    scores = [float(value) for value in near.A1] if hasattr(near, "A1") else near.ravel().tolist()
    return sorted(range(len(texts)), key=lambda index: (-scores[index], index))
