"""The probes: each makes pairs of answers, one as the row is and one after a change that should not matter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from foreword.core.inject.value import Foreword
from foreword.data.quality.unicode import cjk_share
from foreword.data.row import Row
from foreword.evaluation.predictions import Prediction
from foreword.studies.bias.findings import Finding, Flags, Pair, finding
from foreword.studies.bias.subject import Subject
from foreword.studies.bias.terms import Axis
from foreword.studies.prompts.rule_variants import with_label_order, wordings
from foreword.studies.prompts.variant import Variant

Answers = Sequence[Prediction | None]
Report = Callable[[str, int, int], None]


def counterfactuals(
    subject: Subject, axes: Sequence[Axis], answers: Answers, tolerance: float, seed: int, flags: Flags, report: Report
) -> list[Finding]:
    """Each row about somebody, or somewhere, else. An axis that no row names is left out."""
    out = []
    rewritten = {axis.name: (axis, made) for axis in axes if (made := _versions(subject, axis, answers))}
    family = sum(1 if axis.exchange else len(axis.groups) for axis, _ in rewritten.values())
    for axis, made in rewritten.values():
        after = subject.answer([row for _, _, row in made], report=lambda d, t, name=axis.name: report(name, d, t))  # type: ignore[misc]
        groups: dict[str, list[Pair]] = {}
        for (index, group, _), one in zip(made, after, strict=True):
            before = answers[index]
            if one is None or before is None:
                continue
            sign, change = 1, f"about {group}"
            if axis.exchange:
                first, second = axis.groups
                sign, change = (1 if group == first else -1), f"{first} instead of {second}"
            groups.setdefault(change, []).append(Pair(before, one, sign, _undone(axis, one, before, subject)))
        for change, pairs in groups.items():
            found = finding("counterfactual", axis.name, change, pairs, subject.task.labels, tolerance, seed, family)
            flags.add(found, pairs)
            out.append(found)
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


def orders(
    subject: Subject, answers: Answers, tolerance: float, seed: int, flags: Flags, report: Report
) -> tuple[list[Finding], list[str]]:
    """The labels, and the examples, of the prompt in other orders; and what could not be probed."""
    if not subject.prompted:
        return [], ["the order in the prompt cannot be probed: learned values stand in front, not text"]
    texts = dict(_orders(subject, random.Random(seed)))
    if not texts:
        return [], ["the prompt neither lists all label words once nor holds examples: it has no order to probe"]
    return _prompts(subject, "order", texts, answers, tolerance, seed, flags, report), []


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
            yield ("order of the examples", f"mixed {number}"), made


def paraphrases(
    subject: Subject, answers: Answers, tolerance: float, seed: int, flags: Flags, report: Report
) -> list[Finding]:
    """The prompt in other words, where it is text; and the row's text written in another way."""
    out = []
    if subject.prompted:
        start = Variant.of(replace(subject.task, guidance=subject.value.text), "prompt")
        made = [one for one in wordings(start, subject.task) if not one.change.startswith("written")]
        random.Random(seed).shuffle(made)
        texts = {("wording of the prompt", one.change): one.guidance for one in made[:6]}
        out += _prompts(subject, "paraphrase", texts, answers, tolerance, seed, flags, report)
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
            found = finding(
                "paraphrase", "way of writing", name, pairs, subject.task.labels, tolerance, seed, len(ways)
            )
            flags.add(found, pairs)
            out.append(found)
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


def _prompts(
    subject: Subject, probe: str, texts: dict[tuple[str, str], str], answers: Answers, tolerance: float, seed: int,
    flags: Flags, report: Report,
) -> list[Finding]:  # fmt: skip
    """The same rows behind other texts."""
    out = []
    for (axis, change), text in texts.items():
        after = subject.answer(
            subject.rows,
            Foreword(text=text),
            lambda d, t, name=f"{axis}: {change}": report(name, d, t),  # type: ignore[misc]
        )
        pairs = [Pair(a, b) for a, b in zip(answers, after, strict=True) if a is not None and b is not None]
        found = finding(probe, axis, change, pairs, subject.task.labels, tolerance, seed, len(texts))
        flags.add(found, pairs)
        out.append(found)
    return out
