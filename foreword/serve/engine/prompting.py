"""From what a client sends (a message, a text, or a row's fields) to the row that the foreword was trained on.

A file brings its own template, so a client sends what the template is about and not the prompt. The model's control
tokens in a client's text are spelled out: a message cannot end its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from foreword.data.readers.chat_messages import expand_conversations
from foreword.data.row import Raw, Row, Source, unusable
from foreword.data.task.task import Task
from foreword.data.task.template import empty_fields, parsed
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import token_ids
from foreword.errors import DataError, SettingsError
from foreword.serve.engine.served import Served

# A space of no width: what is written stays readable and is no control token any more.
_GAP = "\u200b"
_WHERE = Source("request", 1)


@lru_cache(maxsize=8)
def control_tokens(tokenizer: Any) -> tuple[tuple[str, ...], frozenset[int]]:
    """The texts and the ids of the tokens that steer a model and stand for no text, the longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    found = {str(token): int(number) for number, token in added.items() if token.special}
    found |= dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    texts = sorted((text for text in found if len(text) > 1), key=len, reverse=True)
    return tuple(texts), frozenset(found.values())


def spelled_out(tokenizer: Any, text: str) -> str:
    """The text with a gap in every control token, also in one that would come to be when another is taken out."""
    for token in control_tokens(tokenizer)[0]:
        text = text.replace(token, token[0] + _GAP + token[1:])
    return text


def harmless(tokenizer: Any, value: object) -> object:
    """A field's value with every text in it spelled out.

    Raises:
        DataError: a NUL character or half of a surrogate pair.
    """
    why = unusable(value)
    if why:
        raise DataError(f"the text has {why}", where="request", hint="send text in UTF-8")
    if isinstance(value, str):
        return spelled_out(tokenizer, value)
    if isinstance(value, Mapping):
        return {str(key): harmless(tokenizer, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(tokenizer, item) for item in value]
    return value


def fields_of(task: Task) -> list[str]:
    """The fields that a row of the task has."""
    return sorted((parsed(task.template).fields | {task.guidance_column}) - {"row", ""})


def fields_of_text(task: Task, text: str) -> dict[str, object]:
    """The row of a task with one field.

    Raises:
        SettingsError: it has several.
    """
    names = fields_of(task)
    if len(names) != 1:
        raise SettingsError(
            "one text cannot fill a template with several fields",
            expected=", ".join(names),
            hint='send them by name: "fields": {"NAME": "TEXT", ...}',
        )
    return {names[0]: text}


def fields_of_messages(task: Task, messages: Sequence[Mapping[str, str]]) -> dict[str, object]:
    """The row that a conversation is, as the reader of chat transcripts makes it for training.

    Raises:
        SettingsError: a template with several fields, or a conversation without a user's message.
    """
    turns = [{"role": message["role"], "content": message["content"]} for message in messages]
    if turns[-1]["role"] != "user":
        raise SettingsError("the last message is not the user's", where="messages", received=turns[-1]["role"])
    made = expand_conversations(Raw(("messages",), [({"messages": turns}, 1)]), "request", labelled=False)
    if made.problems:
        raise SettingsError(made.problems[0].message, where="messages")
    fields = made.records[0][0]
    said = {task.turns: fields[made.turns]} if task.turns and made.turns in fields else {}
    return {**fields_of_text(task, str(fields["prompt"])), **said}


def row_of(served: Served, fields: Mapping[str, object], first_k: int | None = None) -> Example:
    """The row as the foreword is asked it.

    Raises:
        DataError: a field is missing, or the fields together spell a control token.
    """
    task, tokenizer = served.task, served.asker.tokenizer
    safe = {str(key): harmless(tokenizer, value) for key, value in fields.items()}
    missing = empty_fields(parsed(task.template), safe)
    if missing:
        names = ", ".join(fields_of(task))
        raise DataError("a field of the template is missing or empty", expected=names, received=f"no {missing[0]!r}")
    example = _encoded(served, safe, first_k)
    blank = {key: "x" if isinstance(value, str) else value for key, value in safe.items()}
    if _controls(tokenizer, example) > _controls(tokenizer, _encoded(served, blank, first_k)):
        raise DataError("the fields together spell a control token of the model", where="request")
    return example


def _encoded(served: Served, fields: Mapping[str, object], first_k: int | None) -> Example:
    encoder = served.asker.encoder(first_k)
    rows = encoder.encode([Row("request", fields, _WHERE)], labelled=False)
    return served.asker.worded(served.value, rows)[0]


def _controls(tokenizer: Any, example: Example) -> int:
    ids = control_tokens(tokenizer)[1]
    return sum(token in ids for token in example.input_ids)


def chat_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """The ids of a conversation with the bare model, in its own chat template.

    Raises:
        SettingsError: the tokenizer has no chat template, or the template refuses the messages.
        DataError: a message has a character that is none.
    """
    if not tokenizer.chat_template:
        raise SettingsError(
            "the base has no chat template", where="messages", hint="use /v1/completions, or ask a foreword"
        )
    turns = [{"role": turn["role"], "content": str(harmless(tokenizer, turn["content"]))} for turn in messages]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    try:
        text = str(tokenizer.apply_chat_template(turns, **options))
        plain = str(tokenizer.apply_chat_template([{**turn, "content": "x"} for turn in turns], **options))
    except Exception as error:
        raise SettingsError(f"the base's chat template refuses the messages: {error}", where="messages") from error
    ids, controls = token_ids(tokenizer, text), control_tokens(tokenizer)[1]
    if sum(token in controls for token in ids) > sum(token in controls for token in token_ids(tokenizer, plain)):
        raise DataError("the messages together spell a control token of the model", where="messages")
    return ids
