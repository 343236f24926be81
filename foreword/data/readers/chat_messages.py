"""Conversations to fields, told by their content: OpenAI ``messages``, ShareGPT ``conversations``, TRL's prompt and
completion as messages, and LLaMA-Factory's ``history``.

The last assistant message is the completion, what comes before it the prompt; with the label of a whole conversation as
the target, all of it is the input. The turns themselves stay in the field ``turns``, for a chat template.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foreword.data.readers.history import with_history
from foreword.data.row import Problem, Raw, is_missing, label_text
from foreword.messages import Message

Turn = tuple[str, str]
TURNS = "turns"
_PREFERRED = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "chosen", "prompt")
_NAMED = ("messages", "conversations")
_ROLE_KEYS = ("role", "from", "speaker", "author")
_CONTENT_KEYS = ("content", "value", "text", "message")
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "instruction"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bot", "model", "ai", "chatbot", "bard", "bing", "claude", "agent", "gpt4"),
        "assistant",
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    "function_call": "assistant",
}
_SAMPLE = 50


@dataclass
class _Counts:
    """What of the conversations is not used, or not as it stands: how often, and where first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str, count: int = 1) -> None:
        if count:
            self.counts[kind] += count
            self.first.setdefault(kind, where)

    def problems(self) -> list[Problem]:
        """One warning a kind."""
        texts = {
            "unanswered": "messages of users at the end have no answer and are left out",
            "tool_calls": "tool calls are read as JSON text",
        }
        return [
            Problem(
                kind,
                self.first[kind],
                Message("{count} {value}; this row has the first", count=count, value=texts[kind]),
                "warning",
            )
            for kind, count in self.counts.items()
        ]


def parsed_messages(value: object) -> object:
    """A list of messages that stands as text, in JSON or as Python spells it; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("[") or "{" not in value[:100]:
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return value


def is_conversation(value: object) -> bool:
    """Whether a cell is a list of messages, each with somebody who speaks and a text."""
    value = parsed_messages(value)
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and any(name in value for name in _ROLE_KEYS)
        and any(name in value for name in (*_CONTENT_KEYS, "tool_calls", "function_call"))
    )


def expand_conversations(
    raw: Raw, file: str, inputs: Sequence[str] = (), target: str | None = None, labelled: bool = True
) -> Raw:
    """The same rows with ``prompt``, ``completion`` and ``turns`` in place of conversations; others as they are.

    One user message becomes the prompt as it is; more turns (or a system message) become lines of "User: ...",
    "Assistant: ...". A conversation without a text to learn from is a problem, and the row is left out; with
    ``labelled`` false it may end with the user, and then has no completion. Where ``target`` is another column, the
    whole conversation is a text under its column's name.
    """
    raw = with_history(raw, file, inputs, target)
    column = _column(raw, target)
    if column is None:
        return raw
    whole = target is not None and target != "completion" and target != column and target in raw.columns
    beside = tuple(name for name in ("system", "history") if name in raw.columns and name not in (*inputs, target))
    parts = (column, "completion", *beside)
    rest = tuple(name for name in raw.columns if name not in (*parts, *(() if whole else ("prompt",))))
    made = (column,) if whole else ("prompt", "completion")
    result = Raw((*made, *rest), [], list(raw.problems), turns="" if whole else TURNS)
    if not whole:
        result.description = f"{column} -> last assistant message (generation)"
    counts = _Counts()
    for fields, line in raw.records:
        where = f"{file}:{line}"
        try:
            turns = _turns_of(fields, column, where, counts)
            new = {column: _transcript(turns)} if whole else _split(turns, labelled, where, counts)
        except ValueError as error:
            result.problems.append(Problem("unreadable", where, error.args[0]))
            continue
        result.records.append(({**new, **{name: fields[name] for name in rest if name in fields}}, line))
    result.problems += counts.problems()
    return result


def _column(raw: Raw, target: str | None) -> str | None:
    """The column of conversations: where half of the cells are such lists, or one of its name holds any list."""
    order = sorted(raw.columns, key=lambda name: _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED))
    for name in order:
        if name == target and name not in _NAMED:
            continue
        cells = [fields.get(name) for fields, _ in raw.records]
        cells = [cell for cell in cells if not is_missing(cell)][:_SAMPLE]
        found = sum(map(is_conversation, cells))
        listed = name in _NAMED and any(isinstance(parsed_messages(cell), list) for cell in cells)
        if (found * 2 >= len(cells) and found) or listed:
            return name
    return None


def _turns_of(fields: Mapping[str, object], column: str, where: str, counts: _Counts) -> list[Turn]:
    """A row's turns: system text and history beside the list, the list, and a completion behind it."""
    value = parsed_messages(fields.get(column))
    if not isinstance(value, list) or not value:
        raise ValueError("the messages are not a list with something in it")
    turns = [turn for number, message in enumerate(value, 1) for turn in _turn(message, number, where, counts)]
    completion = parsed_messages(fields.get("completion"))
    if column == "prompt" and isinstance(completion, list):
        turns += [
            turn for number, message in enumerate(completion, 1) for turn in _turn(message, number, where, counts)
        ]
    elif column == "prompt" and isinstance(completion, str) and completion.strip():
        turns.append(("assistant", completion))
    system = label_text(fields.get("system"))
    if system:
        stated = [text for role, text in turns[:1] if role == "system"]
        if stated != [system]:
            turns = [("system", "\n\n".join([system, *stated])), *turns[len(stated) :]]
    return turns


def _turn(message: object, number: int, where: str, counts: _Counts) -> list[Turn]:
    """The turn of one message; none for an empty system message."""
    if not isinstance(message, Mapping):
        raise ValueError(Message("message {number} is not an object with role and content", number=number))
    role = next((message[name] for name in _ROLE_KEYS if isinstance(message.get(name), str)), None)
    if role is None:
        raise ValueError(Message("message {number} has no role", number=number))
    ours = _ROLES.get(role.strip().lower())
    if ours is None:
        raise ValueError(
            Message(
                "message {number} has the role {role!r}, which is none of system, user, assistant and tool",
                number=number,
                role=role,
            )
        )
    content = next((message[name] for name in _CONTENT_KEYS if message.get(name) is not None), "")
    text = _joined(content, number) if isinstance(content, list) else content
    if not isinstance(text, str):
        raise ValueError(Message("message {number} ({role}) holds something other than text", number=number, role=role))
    calls = _calls(message)
    counts.add("tool_calls", where, len(calls))
    text = "\n".join(([text] if text.strip() else []) + calls) if calls else text
    if not text.strip():
        if ours == "system":
            return []
        raise ValueError(Message("message {number} ({role}) has no text", number=number, role=role))
    return [(ours, text)]


def _calls(message: Mapping[str, object]) -> list[str]:
    """A message's tool calls, each as one line of JSON with its name and arguments."""
    listed = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    calls = []
    for call in listed if isinstance(listed, list) else [listed]:
        function = call.get("function", call) if isinstance(call, Mapping) else call
        if isinstance(function, Mapping):
            arguments = function.get("arguments", {})
            with contextlib.suppress(ValueError):
                arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            function = {"name": function.get("name"), "arguments": arguments}
        calls.append(json.dumps(function, ensure_ascii=False))
    return calls


def _joined(parts: list[object], number: int) -> str:
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(Message("message {number} holds something other than text", number=number))
    return "".join(str(text) for text in texts)


def _split(turns: list[Turn], labelled: bool, where: str, counts: _Counts) -> dict[str, object]:
    """The fields of a row whose last assistant message is to be written."""
    if not labelled and (not turns or turns[-1][0] != "assistant"):
        return {"prompt": _prompt(turns), **_several(turns)}
    last = max((index for index, (role, _) in enumerate(turns) if role == "assistant"), default=-1)
    if last < 0:
        raise ValueError("no message has the role assistant, so there is no answer to learn")
    if not any(role in ("user", "tool") for role, _ in turns[:last]):
        raise ValueError("no user message comes before the last assistant message")
    counts.add("unanswered", where, len(turns) - last - 1)
    before = turns[:last]
    return {"prompt": _prompt(before), "completion": turns[last][1], **_several(before)}


def _several(turns: Sequence[Turn]) -> dict[str, object]:
    """The turns as a field, where they are more than one question."""
    if [role for role, _ in turns] == ["user"]:
        return {}
    return {TURNS: [{"role": role, "content": text} for role, text in turns]}


def _prompt(turns: Sequence[Turn]) -> str:
    return turns[0][1] if len(turns) == 1 else _transcript(turns)


def _transcript(turns: Sequence[Turn]) -> str:
    return "\n".join(f"{role.capitalize()}: {text}" for role, text in turns)
