"""The probes: each makes pairs of answers, one as the row is and one after a change that should not matter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from foreword.core.inject.value import Foreword
from foreword.data.quality.unicode import cjk_share
from foreword.data.row import Row
from foreword.evaluation.predictions import Prediction
from foreword.messages import Message
from foreword.studies.bias.findings import Change, Finding, Flags, Pair, finding
from foreword.studies.bias.subject import Subject
from foreword.studies.bias.terms import Axis
from foreword.studies.prompts.rule_variants import with_label_order, wordings
from foreword.studies.prompts.variant import Variant

Answers = Sequence[Prediction | None]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Probing:
    """What every probe of a subject shares.

    Args:
        answers: the subject's to its rows as they are; None for a row that could not be asked.
        tolerance: share of rows that may change their answer without being flagged.
        seed: of what is drawn, and of intervals.
        report: told how far a probe is.
        flags: takes up the rows that changed their answer.
    """

    subject: Subject
    answers: Answers
    tolerance: float
    seed: int
    report: Report
    flags: Flags = field(default_factory=Flags)

    def judge(self, probe: str, axis: str, change: str, pairs: Sequence[Pair], family: int) -> Finding:
        """The finding of one change, of ``family`` in its probe; its rows are taken up."""
        labels = self.subject.task.labels
        result = finding(Change(probe, axis, change, labels, self.tolerance, self.seed, family), pairs)
        self.flags.add(result, pairs)
        return result


def counterfactuals(probing: Probing, axes: Sequence[Axis]) -> list[Finding]:
    """Each row about somebody, or somewhere, else. An axis that no row names is left out."""
    out = []
    subject, answers, report = probing.subject, probing.answers, probing.report
    rewritten = {axis.name: (axis, made) for axis in axes if (made := _versions(subject, axis, answers))}
    family = sum(1 if axis.exchange else len(axis.groups) for axis, _ in rewritten.values())
    for axis, made in rewritten.values():
        after = subject.answer([row for _, _, row in made], report=lambda d, t, name=axis.name: report(name, d, t))  # type: ignore[misc]
        groups: dict[str, list[Pair]] = {}
        for (index, group, _), one in zip(made, after, strict=True):
            before = answers[index]
            if one is None or before is None:
                continue
            sign, way = 1, Message("about {name}", name=Message(group))
            if axis.exchange:
                first, second = axis.groups
                sign = 1 if group == first else -1
                way = Message("{a} instead of {b}", a=Message(first), b=Message(second))
            groups.setdefault(way, []).append(Pair(before, one, sign, _undone(axis, one, before, subject)))
        for change, pairs in groups.items():
            out.append(probing.judge("counterfactual", axis.name, change, pairs, family))
    return out


def _versions(subject: Subject, axis: Axis, answers: Answers) -> list[tuple[int, str, Row]]:
    """(row's index, group, the row about it) for each row that names somebody, all fields changed alike."""
    made = []
    for index, row in enumerate(subject.rows):
        if answers[index] is None:
            continue
        text = "\n".join(str(row.fields.get(name) or "") for name in subject.fields)
        for group in axis.versions(text):
            changed = subject.rewritten(row, lambda field, group=group: _about(axis, field, group))  # type: ignore[misc]
            if changed.fields != row.fields:
                made.append((index, group, changed))
    return made


def _about(axis: Axis, text: str, group: str) -> str:
    versions = axis.versions(text)
    if axis.exchange:
        return next(iter(versions.values()), text)
    return versions.get(group, text)


def _undone(axis: Axis, after: Prediction, before: Prediction, subject: Subject) -> str | None:
    """A written answer in which an exchange is exchanged back: its words were to follow those of the row."""
    if subject.task.labels:
        return None
    back = list(axis.versions(after.output).values())
    return before.output if before.output in back else None


def orders(probing: Probing) -> tuple[list[Finding], list[str]]:
    """The labels, and the examples, of the prompt in other orders; and what could not be probed."""
    subject = probing.subject
    if not subject.prompted:
        return [], ["the order in the prompt cannot be probed: learned values stand in front, not text"]
    texts = dict(_orders(subject, random.Random(probing.seed)))
    if not texts:
        return [], ["the prompt neither lists all label words once nor holds examples: it has no order to probe"]
    return _prompts(probing, "order", texts), []


def _orders(subject: Subject, dice: random.Random) -> Iterator[tuple[tuple[str, str], str]]:
    text, words = subject.value.text, list(subject.task.verbalizer.values())
    ways = (
        ("reversed", lambda found: found[::-1]),
        ("rotated", lambda found: found[1:] + found[:1]),
        ("sorted", sorted),
    )
    seen = {text}
    for name, arrange in ways:
        made = with_label_order(text, words, arrange)
        if made is not None and made not in seen:
            seen.add(made)
            yield ("label order", name), made
    blocks = [block for block in text.split("\n\n") if block.strip()]
    for number in range(1, 4):
        if len(blocks) < 3:
            return
        mixed = blocks[1:]
        dice.shuffle(mixed)
        made = "\n\n".join([blocks[0], *mixed]) + text[len(text.rstrip()) :]
        if made not in seen:
            seen.add(made)
            yield ("order of the examples", Message("mixed {n}", n=number)), made


def paraphrases(probing: Probing) -> list[Finding]:
    """The prompt in other words, where it is text; and the row's text written in another way."""
    out = []
    subject, answers, report = probing.subject, probing.answers, probing.report
    if subject.prompted:
        start = Variant.of(replace(subject.task, guidance=subject.value.text), "prompt")
        made = [one for one in wordings(start, subject.task) if not one.change.startswith("written")]
        random.Random(probing.seed).shuffle(made)
        texts = {("wording of the prompt", one.change): one.guidance for one in made[:6]}
        out += _prompts(probing, "paraphrase", texts)
    ways = _surface(subject)
    for name, write in ways.items():
        rows = [subject.rewritten(row, write) for row in subject.rows]
        changed = [i for i, row in enumerate(rows) if row.fields != subject.rows[i].fields and answers[i] is not None]
        after = subject.answer([rows[i] for i in changed], report=lambda d, t, name=name: report(name, d, t))  # type: ignore[misc]
        pairs = [
            Pair(before, one)
            for i, one in zip(changed, after, strict=True)
            if one is not None and (before := answers[i]) is not None
        ]
        if pairs:
            out.append(probing.judge("paraphrase", "way of writing", name, pairs, len(ways)))
    return out


def _surface(subject: Subject) -> dict[str, Callable[[str], str]]:
    """Changes of a text that leave what it says."""
    ways: dict[str, Callable[[str], str]] = {
        "without the last punctuation": lambda text: re.sub(r"[.!?。！？]+\s*$", "", text),
        "a full stop more": lambda text: text.rstrip() + ("。" if cjk_share([text]) > 0.5 else " ."),
        "in quotation marks": lambda text: f"“{text}”" if cjk_share([text]) > 0.5 else f'"{text}"',
    }
    sample = [str(row.fields.get(name) or "") for row in subject.rows[:100] for name in subject.fields]
    if cjk_share(sample) <= 0.5:
        ways["in lower case"] = str.lower
    return ways


def _prompts(probing: Probing, probe: str, texts: dict[tuple[str, str], str]) -> list[Finding]:
    """The same rows behind other texts."""
    out = []
    for (axis, change), text in texts.items():
        after = probing.subject.answer(
            probing.subject.rows,
            Foreword(text=text),
            lambda d, t, name=f"{axis}: {change}": probing.report(name, d, t),  # type: ignore[misc]
        )
        pairs = [Pair(a, b) for a, b in zip(probing.answers, after, strict=True) if a is not None and b is not None]
        out.append(probing.judge(probe, axis, change, pairs, len(texts)))
    return out
