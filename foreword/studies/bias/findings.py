"""What a probe found: how many rows change their answer, and how far the labels' probabilities move."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from foreword.evaluation.predictions import Prediction
from foreword.evaluation.statistics.intervals import resamples, wilson_interval
from foreword.messages import Message

LEVEL = 0.95
FEW = 10
"""Below so many rows a finding is a hint and never a flag."""


@dataclass(frozen=True)
class Shift:
    """The label whose probability moves the most: mean over rows, with an interval that holds for all labels and all
    changes of its probe together (Bonferroni)."""

    label: str
    mean: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Finding:
    """One change that should not matter.

    Args:
        probe: ``counterfactual``, ``order`` or ``paraphrase``.
        axis: what was changed: gender, label order, ...
        change: in which way.
        rows: rows that could be changed so.
        changed: how many of them get another answer; ``low`` and ``high`` are the 95% interval of the share.
        shift: of the labels' probabilities; None for answers that are written.
        flagged: more than ``tolerance`` of the rows change, or a probability moves, beyond chance.
        note: why it says less than it seems to.
    """

    probe: str
    axis: str
    change: str
    rows: int
    changed: int
    low: float
    high: float
    shift: Shift | None = None
    flagged: bool = False
    note: str = ""

    @property
    def share(self) -> float:
        """Changed rows over rows."""
        return self.changed / self.rows if self.rows else math.nan

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "share": self.share}

    def sentence(self) -> Message:
        """For people: what was changed, how many answers change with it, and which label gains or loses by it."""
        what = {"axis": Message(self.axis), "change": Message(self.change)}
        if not self.rows:
            return Message("{axis}, {change}: not probed", **what)
        changed = Message(
            "{axis}, {change}: {count} of {n} answers change ({share}; 95% interval {low} to {high})", **what,
            count=self.changed or Message("none"), n=self.rows, share=_percent(self.share), low=_percent(self.low),
            high=_percent(self.high),
        )  # fmt: skip
        if self.shift is None or not self.shift.decided:
            return changed
        one = self.shift
        ends = sorted((abs(one.low), abs(one.high)))
        figures = {"label": one.label, "n": _points(abs(one.mean)), "low": _points(ends[0]), "high": _points(ends[1])}
        if one.mean > 0:
            moved = Message("{label} becomes likelier by {n} points on average ({low} to {high})", **figures)
        else:
            moved = Message("{label} becomes less likely by {n} points on average ({low} to {high})", **figures)
        return Message("{changed}; {moved}", changed=changed, moved=moved)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


@dataclass(frozen=True)
class Pair:
    """A row's answer as it is, and after a change; ``sign`` is -1 where the change goes the other way."""

    before: Prediction
    after: Prediction
    sign: int = 1
    # What was written after the change, with the change undone in it, where that can be told.
    undone: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the answer is another one."""
        return (self.after.output if self.undone is None else self.undone) != self.before.output


@dataclass(frozen=True)
class Flags:
    """The rows that changed their answer, most moved first."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, finding: Finding, pairs: Sequence[Pair]) -> None:
        """Take up the pairs of a finding that differ."""
        for pair in pairs:
            if pair.differs:
                before, after = pair.before, pair.after
                moved = math.exp(after.score) - math.exp(before.score) if math.isfinite(after.score) else None
                self.rows.append(
                    {
                        "probe": finding.probe,
                        "axis": finding.axis,
                        "change": finding.change,
                        "id": before.id,
                        "gold": before.gold,
                        "input": before.input,
                        "output": before.output,
                        "changed_input": after.input,
                        "changed_output": after.output,
                        "flagged": finding.flagged,
                        "moved": moved,
                    }
                )


@dataclass(frozen=True)
class Change:
    """What a probe changes, and how its figures are judged.

    Args:
        probe, axis, change: as in :class:`Finding`.
        labels: the task's; () where answers are written.
        tolerance: share of rows that may change their answer without being flagged.
        seed: of the bootstrap.
        family: changes of the same probe, whose intervals are to hold together.
    """

    probe: str
    axis: str
    change: str
    labels: Sequence[str]
    tolerance: float
    seed: int
    family: int = 1


def finding(change: Change, pairs: Sequence[Pair]) -> Finding:
    """The figures of one change; ``pairs`` has one entry a row."""
    names = change.probe, change.axis, change.change
    if not pairs:
        return Finding(*names, 0, 0, math.nan, math.nan, note="no row could be changed so")
    changed = sum(pair.differs for pair in pairs)
    interval = wilson_interval(changed, len(pairs), LEVEL)
    shift = _largest(pairs, change.labels, change.seed, change.family) if change.labels else None
    enough = len(pairs) >= FEW
    moved = shift is not None and shift.decided and abs(shift.mean) >= 0.01
    note = "" if enough else Message("only {n} row{n!p}: a hint, no more", n=len(pairs))
    flagged = enough and (interval.low > change.tolerance or moved)
    return Finding(*names, len(pairs), changed, interval.low, interval.high, shift, flagged, note)


def _largest(pairs: Sequence[Pair], labels: Sequence[str], seed: int, family: int) -> Shift | None:
    """The largest mean change of a label's probability."""
    if len(pairs) < 2:
        return None
    moves = np.array([[pair.sign * (_p(pair.after, one) - _p(pair.before, one)) for one in labels] for pair in pairs])
    means = moves.mean(axis=0)
    place = int(np.argmax(np.abs(means)))
    low, high = mean_interval(moves[:, place], 1 - (1 - LEVEL) / (len(labels) * family), seed)
    return Shift(labels[place], float(means[place]), low, high)


def _p(one: Prediction, label: str) -> float:
    return math.exp(one.scores.get(label, -math.inf))


def mean_interval(values: np.ndarray[Any, Any], level: float, seed: int) -> tuple[float, float]:
    """Percentile bootstrap over rows of a mean."""
    draws = np.concatenate([counts @ values / len(values) for counts in resamples(len(values), 4000, seed)])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def priors(
    free: Mapping[str, Mapping[str, float]], answers: Sequence[Prediction], labels: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """For each label: its probability without input, how often it is said, and the share of rows that have it.

    Args:
        free: content-free input -> label -> probability.
        answers: the subject's answers; those with a gold tell the share of the labels.
    """
    out = []
    for label in labels:
        without = [one[label] for one in free.values()]
        said = np.array([float(one.output == label) for one in answers])
        line: dict[str, Any] = {
            "label": label,
            "without_input": sum(without) / len(without),
            "lowest": min(without),
            "highest": max(without),
            "said": float(said.mean()),
        }
        judged = [one for one in answers if one.gold]
        if len(judged) > 1:
            gaps = np.array([float(one.output == label) - float(one.gold == label) for one in judged])
            low, high = mean_interval(gaps, 1 - (1 - LEVEL) / len(labels), seed)
            line |= {"too_often": float(gaps.mean()), "low": low, "high": high, "flagged": not low <= 0 <= high}
        out.append(line)
    return out
