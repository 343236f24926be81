"""Conversations whose every assistant message is learned, not the last one alone: one row, one pass, a mask of tokens.

The row is cut where the first answer begins. What comes behind is its target, of which the tokens of answers and of
what ends them count, and those of questions do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from foreword.data.row import Row
from foreword.data.task.task import Task
from foreword.data.task.template_marks import split
from foreword.data.tokens.encode_row import RowEncoder
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import end_id
from foreword.errors import DataError, SettingsError, TemplateError


def refuse_all_turns(task: Task, decoder: bool, augmented: bool) -> None:
    """Refuse to learn every turn where rows have no turns, or a base that does not read on behind an answer.

    Raises:
        SettingsError: no conversations, no chat template asked for, no decoder, or rows in other forms.
    """
    if augmented:
        raise SettingsError(
            "loss_on=all_turns does not go with augment", where="loss_on", hint="leave one of the two out"
        )
    if not task.turns or not task.chat:
        raise SettingsError(
            "loss_on=all_turns is for conversations that go through the chat template as turns",
            where="loss_on",
            expected="rows with messages, and --chat",
            hint="add --chat, or leave loss_on at last",
        )
    if not decoder:
        raise SettingsError(
            "loss_on=all_turns is for decoders: others write one answer to what they have read",
            where="loss_on",
            hint="leave loss_on at last",
        )


def with_all_turns(rows: Sequence[Row], examples: Sequence[Example], writer: RowEncoder) -> list[Example]:
    """The examples with every assistant message of their row among what is learned.

    Raises:
        DataError: the chat template changes what was said before, so that no row holds all answers as they are written.
    """
    result = []
    for row, example in zip(rows, examples, strict=True):
        try:
            result.append(_whole(row.fields, example, writer))
        except TemplateError as error:
            raise DataError(error.problem, where=str(row.source), hint=error.hint) from error
    return result


def _whole(fields: Mapping[str, object], last: Example, writer: RowEncoder) -> Example:
    turns = fields.get(writer.task.turns)
    segments = list(_segments(turns, writer)) if isinstance(turns, list) else []
    if len(segments) < 2:
        return last
    ids = writer.ids([list(split(text)) for text, _ in segments])
    end = end_id(writer.task, writer.tokenizer)
    target: list[int] = []
    counted: list[int] = []
    for (_, learned), (_, before), tokens in zip(segments[1:], segments, ids[1:], strict=False):
        # What ends an answer stands at the head of the segment behind it.
        learns = range(len(tokens)) if learned else range(int(before and tokens[:1] == [end]))
        counted += [len(target) + place for place in learns]
        target += tokens
    counted += [len(target) + place for place in range(len(last.target_ids))]
    return replace(last, input_ids=tuple(ids[0]), target_ids=(*target, *last.target_ids), counted=tuple(counted))


def _segments(turns: Sequence[Mapping[str, str]], writer: RowEncoder) -> Iterator[tuple[str, bool]]:
    """The texts of a conversation up to its last answer, in order, and whether each is an answer to learn: one that
    something was said before.

    Raises:
        TemplateError: what the template writes of the first turns is not how it begins what it writes of more.
    """
    whole, done = writer.written(turns), 0
    asked = min((place for place, turn in enumerate(turns) if turn["role"] in ("user", "tool")), default=len(turns))
    for place, turn in enumerate(turns):
        if turn["role"] != "assistant" or place < asked:
            continue
        front = writer.written(turns[:place])
        answer = next((text for text in _spellings(writer, turn) if whole.startswith(front + text)), None)
        if answer is None or len(front) < done:
            raise TemplateError(
                "the chat template writes earlier answers otherwise than the last one",
                where="loss_on",
                hint="leave loss_on at last",
            )
        yield whole[done : len(front)], False
        yield answer, True
        done = len(front) + len(answer)
    yield whole[done:], False


def _spellings(writer: RowEncoder, turn: Mapping[str, str]) -> Iterator[str]:
    """An answer as a template may write it: as it stands, or without the white space around it."""
    text = writer.marked(turn["content"])
    yield from (text, text.strip())
