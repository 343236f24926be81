"""Rows in other forms that have the same label: case, punctuation, fewer words, synonyms, other templates.

What becomes of a row follows from the seed, the epoch and the row's id, and from nothing else: a resumed run learns
from the same forms. Only the fields of the template change; tags move with their words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from foreword.data.quality.unicode import is_cjk
from foreword.data.row import Row
from foreword.data.task.tagging import OUTSIDE, words_of
from foreword.data.task.task import Task
from foreword.data.task.template import Template
from foreword.errors import DataError, SettingsError
from foreword.messages import Message

FORMS = ("case", "punctuation", "dropout", "synonyms", "template")
_UNIT = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff]|[^\s\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff]+|\s+")
_END = ".!?。！？"
_WIDE = str.maketrans(",.!?:;()", "，。！？：；（）")
_NARROW = str.maketrans("，。！？：；（）", ",.!?:;()")
# Words and the spaces between them that a synonym may have.
_UNITS = 7


@dataclass(frozen=True)
class Varied:
    """A row's fields in another form: how many words changed, and the template it is shown with ("": the task's)."""

    fields: Mapping[str, object]
    words: int
    template: str = ""


@dataclass(frozen=True)
class Augmenter:
    """Changes rows.

    Args:
        forms: names out of ``FORMS``.
        share: of the rows of an epoch that change, 0 to 1.
        dropout: share of the words that are left out.
        synonyms: word -> words that may stand for it.
        templates: variants of the task's template.
        seed: of everything that is drawn.
    """

    task: Task
    forms: tuple[str, ...]
    share: float = 0.5
    dropout: float = 0.1
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ()
    seed: int = 13

    def __post_init__(self) -> None:
        unknown = [name for name in self.forms if name not in FORMS]
        if unknown:
            near = get_close_matches(unknown[0], FORMS, 1)
            hint = Message("did you mean {value}?", value=near[0]) if near else None
            expected = ", ".join(FORMS)
            raise SettingsError("no such form", where="augment", expected=expected, received=unknown[0], hint=hint)
        if self.task.kind == "tagging" and "punctuation" in self.forms:
            raise SettingsError("punctuation has tags of its own here", where="augment", hint="use case or dropout")
        for name, given in (("synonyms", bool(self.synonyms)), ("template", bool(self.templates))):
            if (name in self.forms) != given:
                setting = f"augment_{name}s" if name == "template" else f"augment_{name}"
                hint = Message("name {name} in augment and give {setting}, or neither", name=name, setting=setting)
                raise SettingsError(
                    Message("augment by {name} needs its own setting", name=name), where=setting, hint=hint
                )
        for source in self.templates:
            missing = Template(self.task.template).fields - Template(source).fields
            if missing:
                raise SettingsError(
                    "a variant of the template leaves out a field",
                    where="augment_templates",
                    expected=", ".join(sorted(Template(self.task.template).fields)),
                    received=source,
                )

    def vary(self, row: Row, epoch: int) -> Varied | None:
        """The row's form in an epoch; None where it stays as it is."""
        dice = random.Random(f"{self.seed}/{epoch}/{row.id}")
        if dice.random() >= self.share:
            return None
        template = dice.choice(self.templates) if self.templates else ""
        changed, count = dict(row.fields), 0
        if self.task.kind == "tagging":
            count = self._tagged(changed, dice)
        else:
            for name in sorted(Template(self.task.template).fields - {self.task.target, "row"}):
                text = changed.get(name)
                if isinstance(text, str) and text.strip():
                    changed[name], words = self._text(text, dice)
                    count += words
        return Varied(changed, count, template) if count or template else None

    def _text(self, text: str, dice: random.Random) -> tuple[str, int]:
        units = _UNIT.findall(text)
        units, count = self._exchanged(units, dice, _UNITS)
        if "dropout" in self.forms:
            kept = [unit for unit in units if unit.isspace() or dice.random() >= self.dropout]
            if any(not unit.isspace() for unit in kept):
                count += len(units) - len(kept)
                units = kept
        made = re.sub(r"[ \t]{2,}", " ", "".join(units)).strip()
        if "punctuation" in self.forms:
            other = _punctuated(made, dice)
            count += other != made
            made = other
        if "case" in self.forms:
            other = dice.choice((str.lower, str.upper, _swapped_first))(made)
            count += sum(a != b for a, b in zip(made.split(), other.split(), strict=False))
            made = other
        return (made, count) if made else (text, 0)

    def _tagged(self, fields: dict[str, object], dice: random.Random) -> int:
        """Words and tags together; only words outside of spans are left out."""
        words, tags = words_of(fields.get(self.task.words)), words_of(fields.get(self.task.target))
        words, count = self._exchanged(words, dice, 1)
        words = [word.replace(" ", "\u00a0") for word in words]
        if "dropout" in self.forms and OUTSIDE in self.task.labels:
            pairs = list(zip(words, tags, strict=True))
            kept = [(word, tag) for word, tag in pairs if tag != OUTSIDE or dice.random() >= self.dropout]
            if kept:
                count += len(pairs) - len(kept)
                words, tags = [word for word, _ in kept], [tag for _, tag in kept]
        if "case" in self.forms:
            turn = dice.choice((str.lower, str.upper))
            other = [turn(word) for word in words]
            count += sum(a != b for a, b in zip(words, other, strict=True))
            words = other
        fields[self.task.words], fields[self.task.target] = " ".join(words), " ".join(tags)
        return count

    def _exchanged(self, units: list[str], dice: random.Random, most: int) -> tuple[list[str], int]:
        """Units with half of the words that have synonyms exchanged; words of up to ``most`` units are found."""
        if not self.synonyms:
            return units, 0
        made, count, place = [], 0, 0
        while place < len(units):
            length = next(
                (n for n in range(most, 0, -1) if "".join(units[place : place + n]).lower() in self.synonyms), 0
            )
            word = "".join(units[place : place + length])
            if length and dice.random() < 0.5:
                other = dice.choice(self.synonyms[word.lower()])
                made.append(other[:1].upper() + other[1:] if word[:1].isupper() else other)
                count += 1
            else:
                made += units[place : place + max(1, length)]
            place += max(1, length)
        return made, count


def _swapped_first(text: str) -> str:
    return text[:1].swapcase() + text[1:]


def _punctuated(text: str, dice: random.Random) -> str:
    """With or without the mark at its end; Chinese text also with marks of the other width."""
    if any(is_cjk(char) for char in text[:200]) and dice.random() < 0.5:
        return text.translate(_NARROW if any(ord(mark) in _NARROW for mark in text) else _WIDE)
    if text[-1:] in _END:
        return text.rstrip(_END) or text
    return text + ("。" if is_cjk(text[-1:]) else ".")


def read_synonyms(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Words that may stand for each other: a group a line, commas between; lines that begin with # are left out.

    Raises:
        DataError: the file cannot be read, or a line has one word only.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = "a text file in UTF-8, such as `good, fine, great` in a line"
        raise DataError("the synonyms cannot be read", where=str(path), received=error, hint=hint) from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        group = list(dict.fromkeys(word.strip() for word in re.split(r"[,，\t]", line) if word.strip()))
        if len(group) < 2:
            hint = "write words that may stand for each other, with commas between"
            raise DataError("a line has one word only", where=f"{path}:{number}", received=line.strip(), hint=hint)
        for word in group:
            others = tuple(other for other in group if other.lower() != word.lower())
            found[word.lower()] = tuple(dict.fromkeys((*found.get(word.lower(), ()), *others)))
    return found


def with_template(task: Task, varied: Varied) -> Task:
    """The task as a varied row is shown with it."""
    return replace(task, template=varied.template) if varied.template else task
