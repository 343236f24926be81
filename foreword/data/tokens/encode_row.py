"""From a row's fields to its token ids: fields, guidance, template, places, special tokens.

The text between two places is tokenised apart, as the lead is, so that the ids around a soft slot are the same whatever
stands in it, and a slot that starts from words is exactly those words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from foreword.data.task.guidance import front_of, of_row, replaced
from foreword.data.task.infill import Part, arranged
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.task.template_marks import LITERAL, MASK, SOFT, Mark, literal_mark, split
from foreword.data.tokens.tokenize import Tokenizer, conversation, joined, mask_id, pieces, token_ids
from foreword.errors import TemplateError


def slot_starts(task: Task, tokenizer: Tokenizer) -> tuple[tuple[int | None, ...], ...]:
    """For each group of soft slots of the task's template, the token that each slot stands for (None: for no word).

    Raises:
        TemplateError: a group's words have no tokens.
    """
    groups = []
    for number, soft in enumerate(parsed(task.template).soft):
        words = task.guidance if soft.guidance else soft.words
        ids = joined(tokenizer, words, first=False)
        if not ids and soft.count is None:
            raise TemplateError(
                "the words of a soft slot have no tokens",
                where="template",
                expected="words, or a number of slots",
                received=f"soft group {number + 1}: {words!r}",
            )
        count = len(ids) if soft.count is None else soft.count
        groups.append(tuple(ids[i % len(ids)] if ids else None for i in range(count)))
    return tuple(groups)


def spoken(ids: Sequence[int], starts: Sequence[int | None]) -> tuple[int, ...]:
    """A row's ids with the words that its soft slots stand for in their places, as a text prompt has them."""
    words = (token if token >= 0 else starts[-1 - token] for token in ids)
    return tuple(token for token in words if token is not None)


def readable(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of a row's ids, each run of soft slots as ``{soft n}``."""
    text, slots = "", 0
    run: list[int] = []
    for token in (*ids, None):
        if run and (token is None or token < 0):
            text, run = text + str(tokenizer.decode(run)), []
        if slots and (token is None or token >= 0):
            text, slots = f"{text}{{soft {slots}}}", 0
        if token is None:
            break
        if token < 0:
            slots += 1
        else:
            run.append(token)
    return text


@dataclass(frozen=True)
class RowEncoder:
    """Makes the ids of rows for one task and tokenizer.

    Args:
        special_tokens: the tokenizer's own special tokens go around each row (encoders, encoder-decoders).
        guided: False leaves the guidance out of rows that have it in them.
    """

    task: Task
    tokenizer: Tokenizer
    special_tokens: bool
    guided: bool = True

    def parts(self, fields: Mapping[str, object]) -> tuple[list[Part], bool]:
        """The texts and places of a row, and whether a span of it gave way to the guidance.

        Raises:
            TemplateError: the row lacks a field of the template.
        """
        guidance = of_row(self.task, fields) if self.guided else ""
        if self.task.turns and self.task.chat:
            return self._turns(fields), False
        fields = self._literal(fields)
        fields, changed = replaced(self.task, fields, guidance)
        template, front = parsed(self.task.template), front_of(self.task, guidance)
        own: list[Part] = list(template.parts(fields, guidance))
        if template.gap:
            own = arranged(own, self.tokenizer, self.special_tokens)
        if self._tail and own and isinstance(own[-1], str):
            own[-1] += self._tail
        elif self._tail:
            own.append(self._tail)
        return [*([front] if front else []), *own], changed

    def _turns(self, fields: Mapping[str, object]) -> list[Part]:
        """A conversation's turns as the chat template writes them."""
        turns = fields.get(self.task.turns)
        if not isinstance(turns, list) or not turns:
            turns = [{"role": "user", "content": parsed(self.task.template).render(fields).removesuffix("\n")}]
        return list(split(self.written(turns)))

    def written(self, turns: Sequence[Mapping[str, str]]) -> str:
        """The turns as the chat template writes them, up to where the next answer begins; special tokens that they
        spell are marks."""
        spelled = [{"role": turn["role"], "content": self.marked(turn["content"])} for turn in turns]
        return conversation(self.task, self.tokenizer, spelled)

    def _literal(self, fields: Mapping[str, object]) -> Mapping[str, object]:
        """The fields with marks in the place of special tokens that a row's text spells: these are text."""
        template = parsed(self.task.template)
        if template.gap or template.masked:
            return fields
        changed = {}
        for name in template.fields:
            value = fields.get(name)
            if isinstance(value, str) and self.marked(value) != value:
                changed[name] = self.marked(value)
        return {**fields, **changed} if changed else fields

    def marked(self, text: str) -> str:
        """A text with marks in the place of the special tokens that it spells."""
        if self._spelled is None:
            return text
        return self._spelled.sub(lambda match: literal_mark(self._spellings.index(match[0])), text)

    @cached_property
    def _spellings(self) -> list[str]:
        """The special tokens that a text could spell, longest first."""
        names = getattr(self.tokenizer, "all_special_tokens", ())
        return sorted({str(name) for name in names if str(name).strip()}, key=lambda name: (-len(name), name))

    @cached_property
    def _spelled(self) -> re.Pattern[str] | None:
        return re.compile("|".join(map(re.escape, self._spellings))) if self._spellings else None

    @cached_property
    def _tail(self) -> str:
        return pieces(self.task, self.tokenizer).tail

    @cached_property
    def _groups(self) -> list[list[int]]:
        """The placeholder ids of each soft group: ``-1 - i`` for slot i."""
        groups, first = [], 0
        for starts in slot_starts(self.task, self.tokenizer):
            groups.append([-1 - slot for slot in range(first, first + len(starts))])
            first += len(starts)
        return groups

    @cached_property
    def _mask(self) -> tuple[int, bool]:
        """The mask token, and whether it takes the white space in front of it along (RoBERTa's)."""
        token = mask_id(self.tokenizer)
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).get(token)
        return token, bool(getattr(added, "lstrip", False))

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens in front of a row and behind it."""
        plain, framed = token_ids(self.tokenizer, "a"), token_ids(self.tokenizer, "a", True)
        start = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
        return framed[:start], framed[start + len(plain) :]

    def ids(self, rows: Sequence[Sequence[Part]]) -> list[list[int]]:
        """The ids of rows, given as their parts; rows of one text go through the tokenizer together."""
        whole = {number: "".join(map(str, row)) for number, row in enumerate(rows) if self._is_plain(row)}
        texts = list(whole.values())
        found = (
            self.tokenizer(texts, add_special_tokens=self.special_tokens, verbose=False)["input_ids"] if texts else []
        )
        plain = dict(zip(whole, map(list, found), strict=True))
        return [plain[number] if number in plain else self._assembled(row) for number, row in enumerate(rows)]

    def _is_plain(self, row: Sequence[Part]) -> bool:
        front = bool(self.task.guidance_column or self.task.guidance_in_row)
        return not front and all(isinstance(part, str) for part in row)

    def _assembled(self, row: Sequence[Part]) -> list[int]:
        masked = parsed(self.task.template).masked
        ids: list[int] = []
        for place, part in enumerate(row):
            if isinstance(part, int):
                ids.append(part)
            elif isinstance(part, Mark) and part.name == LITERAL:
                ids += token_ids(self.tokenizer, self._spellings[part.group], literal=True)
            elif isinstance(part, Mark):
                ids += self._groups[part.group] if part.name == SOFT else [self._mask[0]] if part.name == MASK else []
            else:
                ids += self._text(part, place == 0, row[place + 1 : place + 2], masked)
        before, after = self._frame if self.special_tokens else ([], [])
        return [*before, *ids, *after]

    def _text(self, text: str, first: bool, following: Sequence[Part], masked: bool) -> list[int]:
        if not masked:
            return joined(self.tokenizer, text, first)
        mask, strips = self._mask
        if strips and following and isinstance(following[0], Mark) and following[0].name == MASK:
            text = text.rstrip()
        # A row's own text may spell the mask; only the template's asks for an answer.
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        return [int(unknown or 0) if token == mask else token for token in joined(self.tokenizer, text, first)]
