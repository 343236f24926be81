"""Examples (token ids with what they should lead to) and their grouping into batches."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from foreword.data.row import Row, references
from foreword.data.task.label_sets import joined, labels_of_cell, separator_of
from foreword.data.task.tagging import words_of
from foreword.data.task.task import Task
from foreword.data.task.template import Template, parsed
from foreword.data.tokens.encode_row import RowEncoder
from foreword.data.tokens.tokenize import (
    Tokenizer,
    answer_ids,
    completion,
    end_id,
    label_ids,
    lead_ids,
    token_ids,
)
from foreword.data.tokens.windows import CONTINUES
from foreword.data.tokens.word_ids import WordEncoder
from foreword.errors import DataError, TemplateError
from foreword.messages import Message

__all__ = ["Encoder", "Example", "batches", "eval_batches", "lead_ids"]


@dataclass(frozen=True)
class Example:
    """One row as token ids.

    Attributes:
        id: the row's.
        input_ids: the row's text, without the lead; [T].
        target_ids: generation: the completion with its end; classification: ().
        gold: index of the label in ``task.labels``, -1 for generation and for rows without a label.
        reference: the label, or the (first) reference text; "" when there is none.
        references: all reference texts.
        cut: ``first_k`` shortened one of its fields.
        places: tagging: where in ``input_ids`` each word's tag is read; -1: the word was cut off.
        tags: tagging: index of each word's tag in ``task.labels``, -1 where it is none of them.
        words: tagging: the words, as text.
        replaced: a span of it gave way to the guidance.
        counted: generation: places in ``target_ids`` of the tokens that are learned; (): all of them.
        fits: several labels a row: for each label 1 where the row has it, else 0; (): not known.
    """

    id: str
    input_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    gold: int
    reference: str
    references: tuple[str, ...] = ()
    cut: bool = False
    places: tuple[int, ...] = ()
    tags: tuple[int, ...] = ()
    words: str = ""
    replaced: bool = False
    fits: tuple[int, ...] = ()
    counted: tuple[int, ...] = ()

    @property
    def learned(self) -> Sequence[int]:
        """The places of the tokens that are learned among those of the target."""
        return self.counted or range(len(self.target_ids))

    def behind(self, lead: Sequence[int]) -> Example:
        """The same row with the tokens ``lead`` in front."""
        places = tuple(place if place < 0 else place + len(lead) for place in self.places)
        return replace(self, input_ids=(*lead, *self.input_ids), places=places)


@dataclass(frozen=True)
class Encoder:
    """How rows become token ids.

    Args:
        special_tokens: the tokenizer's own special tokens go around each text (encoders, encoder-decoders).
        first_k: keep only the first so many tokens of each field; None: all. ``Example.cut`` tells which were longer.
        guided: False: rows that have the guidance in them are written without it.
    """

    task: Task
    tokenizer: Tokenizer
    special_tokens: bool
    first_k: int | None = None
    guided: bool = True

    def encode(self, rows: Sequence[Row], *, max_length: int | None = None, labelled: bool = True) -> list[Example]:
        """Token ids for rows.

        Args:
            max_length: most tokens of a row, text and answer together (apart where ``special_tokens``, since an encoder
                never sees the answer), the lead not counted; None: any.
            labelled: False: a row may lack its target.

        Raises:
            DataError: with file:line: a missing field, a missing or unknown label, a row longer than ``max_length``.
        """
        task, how = self.task, (self.tokenizer, self.special_tokens)
        if task.plain:
            examples = [_plain(row, task, self.tokenizer, labelled) for row in rows]
            return self._short_enough(rows, examples, max_length)
        if task.kind == "multilabel":
            plain = _texts(rows, [()] * len(rows), RowEncoder(task, *how, self.guided), self.first_k)
            examples = [_with_labels(one, row, task, labelled) for one, row in zip(plain, rows, strict=True)]
            return self._short_enough(rows, examples, max_length)
        targets = [_target(row, task, labelled) for row in rows]
        if task.kind == "tagging":
            examples = list(_tagged(rows, targets, task, WordEncoder(task, *how, self.first_k, self.guided)))
        else:
            examples = list(_texts(rows, targets, RowEncoder(task, *how, self.guided), self.first_k))
        return self._short_enough(rows, examples, max_length)

    def _short_enough(self, rows: Sequence[Row], examples: list[Example], max_length: int | None) -> list[Example]:
        if max_length is not None:
            _refuse_long(rows, examples, self.words, max_length, self.special_tokens)
        return examples

    def one_by_one(self, rows: Sequence[Row]) -> Iterator[Example | str]:
        """The rows, or why one of them cannot be encoded."""
        for row in rows:
            try:
                [example] = self.encode([row])
            except DataError as error:
                yield error.problem
            else:
                yield example

    def size(self, example: Example) -> int:
        """Tokens that the base reads of a row with its answer, or with the longest words of a label.

        With ``special_tokens`` the answer is not read behind the text.
        """
        text, answer = len(example.input_ids), max(len(example.target_ids), self.words)
        return max(text, answer) if self.special_tokens else text + answer

    @cached_property
    def words(self) -> int:
        """Tokens of the longest words of a label; 0 where labels have none."""
        if not self.task.has_labels or self.task.head:
            return 0
        return max((len(words) for some in label_ids(self.task, self.tokenizer) for words in some), default=0)


def _texts(
    rows: Sequence[Row], targets: Sequence[tuple[str, ...]], writer: RowEncoder, first_k: int | None
) -> Iterator[Example]:
    task, tokenizer = writer.task, writer.tokenizer
    template = parsed(task.template)
    parts, cuts, changed = [], [], []
    for row in rows:
        fields, cut = _shortened(row.fields, template, tokenizer, first_k)
        cuts.append(cut)
        try:
            made, replaced = writer.parts(fields)
        except TemplateError as error:
            raise DataError(error.problem, where=str(row.source), hint="run the check on this file") from error
        parts.append(made)
        changed.append(replaced)
    ids = writer.ids(parts)
    end = end_id(task, tokenizer) if task.kind == "generation" else None
    index = {label: number for number, label in enumerate(task.labels)}
    for row, found, own, cut, replaced in zip(rows, targets, ids, cuts, changed, strict=True):
        answer: list[int] = []
        if task.kind == "generation" and found:
            answer = answer_ids(task, tokenizer, completion(task, found[0])) + ([] if end is None else [end])
        first = found[0] if found else ""
        gold = index.get(first, -1)
        yield Example(row.id, tuple(own), tuple(answer), gold, first, found, cut, replaced=replaced)


def _plain(row: Row, task: Task, tokenizer: Tokenizer, labelled: bool) -> Example:
    """A text as it stands: to learn it, every token behind the first and its end; to go on with it, all of it is input.

    Raises:
        DataError: it has no tokens.
    """
    text = parsed(task.template).render(row.fields)
    ids, end = token_ids(tokenizer, text, literal=True), end_id(task, tokenizer)
    if not ids:
        raise DataError("the text has no tokens", where=str(row.source))
    if not labelled:
        return Example(row.id, tuple(ids), (), -1, "")
    ends = [] if end is None or row.fields.get(CONTINUES) else [end]
    return Example(row.id, tuple(ids[:1]), (*ids[1:], *ends), -1, text)


def _with_labels(example: Example, row: Row, task: Task, labelled: bool) -> Example:
    """The example with the row's labels, of which there may be several or none."""
    value = row.fields.get(task.target)
    labels = labels_of_cell(value, separator_of([value]))
    if labels is None and labelled:
        raise _no_target(row, task)
    unknown = [label for label in labels or () if label not in task.verbalizer]
    if unknown and labelled:
        raise _unknown_label(row, task, unknown[0])
    if labels is None or unknown:
        return example
    fits = tuple(int(label in labels) for label in task.labels)
    return replace(example, fits=fits, reference=joined(label for label in task.labels if label in labels))


def _tagged(
    rows: Sequence[Row], targets: Sequence[tuple[str, ...]], task: Task, encoder: WordEncoder
) -> Iterator[Example]:
    index = {tag: number for number, tag in enumerate(task.labels)}
    for row, found in zip(rows, targets, strict=True):
        try:
            made = encoder.encode(row.fields)
        except TemplateError as error:
            raise DataError(error.problem, where=str(row.source), hint="run the check on this file") from error
        tags = tuple(index.get(tag, -1) for tag in words_of(found[0])) if found else ()
        if found and len(tags) != len(made.places):
            received = f"{len(made.places)} words and {len(tags)} tags"
            hint = "run the check on this file"
            raise DataError("each word needs one tag", where=str(row.source), received=received, hint=hint)
        shown = " ".join(words_of(found[0])) if found else ""
        words = " ".join(words_of(row.fields.get(task.words)))
        yield Example(row.id, made.ids, (), -1, shown, (), made.cut, made.places, tags, words)


def _target(row: Row, task: Task, labelled: bool) -> tuple[str, ...]:
    found = references(row.fields.get(task.target))
    if not found and labelled:
        raise _no_target(row, task)
    if found and labelled and task.kind == "classification" and found[0] not in task.verbalizer:
        raise _unknown_label(row, task, found[0])
    return found


def _no_target(row: Row, task: Task) -> DataError:
    problem = Message("the row has no {target!r}", target=task.target)
    return DataError(problem, where=str(row.source), hint="run the check on this file")


def _unknown_label(row: Row, task: Task, label: str) -> DataError:
    hint = "add it to --labels, or run the check on this file"
    return DataError("unknown label", where=str(row.source), expected=", ".join(task.labels), received=label, hint=hint)


def _shortened(
    fields: Mapping[str, object], template: Template, tokenizer: Tokenizer, first_k: int | None
) -> tuple[Mapping[str, object], bool]:
    """The fields with their first tokens only; the text is cut where a token ends, so the rest stays as written."""
    if first_k is None:
        return fields, False
    result, cut = dict(fields), False
    for name in template.fields:
        value = fields.get(name)
        # A token is at most a few characters long but at least one byte: short texts need no tokenizer.
        if not isinstance(value, str) or len(value.encode("utf-8")) <= first_k:
            continue
        shorter = _first_tokens(value, tokenizer, first_k)
        cut |= len(shorter) < len(value)
        result[name] = shorter
    return result, cut


def _first_tokens(text: str, tokenizer: Tokenizer, first_k: int) -> str:
    """The characters that lie within the first k tokens as a whole: half a character is nothing to a reader.

    Several tokens may make one character (Chinese in bytes); the first one stays whatever k is.
    """
    if tokenizer.is_fast:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if len(offsets) <= first_k:
            return text
        end = min(offsets[first_k - 1][1], offsets[first_k][0]) or offsets[first_k - 1][1]
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1  # an accent belongs to the letter before it
        return text[:end]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text if len(ids) <= first_k else str(tokenizer.decode(ids[:first_k])).rstrip("\ufffd")


def _refuse_long(
    rows: Sequence[Row], examples: Sequence[Example], extra: int, max_length: int, special_tokens: bool
) -> None:
    def size(one: Example) -> int:
        text, answer = len(one.input_ids), max(len(one.target_ids), extra)
        return max(text, answer) if special_tokens else text + answer

    long = [(row, size(one)) for row, one in zip(rows, examples, strict=True) if size(one) > max_length]
    if long:
        row, tokens = long[0]
        more = Message(" ({n} rows are longer than that)", n=len(long)) if len(long) > 1 else ""
        raise DataError(
            "the row is longer than the model can read",
            where=str(row.source),
            expected=Message("at most {max_length} tokens{more}", max_length=max_length, more=more),
            received=f"{tokens} tokens",
            hint="shorten it, leave such rows out with --skip-bad, or keep the first tokens with --input-prefix",
        )


def batches(examples: Sequence[Example], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the examples in batches of like length, in an order that depends on seed and epoch only.

    Lengths get a little noise before sorting, so that the same rows do not meet in every epoch; every example is in
    exactly one batch.
    """
    dice = random.Random(f"{seed}/{epoch}")
    keys = [length_of(one) * (1 + 0.1 * dice.random()) + dice.random() for one in examples]
    result = chunks(sorted(range(len(examples)), key=lambda index: (keys[index], index)), batch_size)
    dice.shuffle(result)
    return result


def eval_batches(examples: Sequence[Example], batch_size: int) -> list[list[int]]:
    """Indices in batches by length, longest first, so that too little memory shows at once. No randomness."""
    return chunks(sorted(range(len(examples)), key=lambda index: (-length_of(examples[index]), index)), batch_size)


def length_of(one: Example) -> int:
    """Tokens of a row and its answer together."""
    return len(one.input_ids) + len(one.target_ids)


def chunks(order: list[int], batch_size: int) -> list[list[int]]:
    """Indices in batches, in their order."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, received {batch_size}")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
