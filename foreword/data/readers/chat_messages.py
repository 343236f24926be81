"""Chat transcripts to fields: the last assistant message is the completion, what comes before it the prompt."""

from __future__ import annotations

from collections.abc import Mapping

from foreword.data.row import Problem, Raw

_COLUMNS = ("messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}


def has_messages(columns: tuple[str, ...]) -> bool:
    """Whether the rows are chat transcripts (OpenAI ``messages``, or ``conversations`` with from and value)."""
    return any(name in columns for name in _COLUMNS)


def expand_messages(raw: Raw, file: str, labelled: bool = True) -> Raw:
    """The same rows with ``prompt`` and ``completion`` in place of the transcript.

    One user message becomes the prompt as it is; more turns (or a system message) become lines of "User: ...",
    "Assistant: ...". A transcript that has no text to learn from is a problem, and the row is left out; with
    ``labelled`` false the transcript may end with the user, and then has no completion.
    """
    column = next(name for name in _COLUMNS if name in raw.columns)
    rest = tuple(name for name in raw.columns if name not in (column, "prompt", "completion"))
    result = Raw(("prompt", "completion", *rest), [], list(raw.problems))
    result.description = f"{column} -> last assistant message (generation)"
    for fields, line in raw.records:
        where = f"{file}:{line}"
        try:
            prompt, completion = _split(fields.get(column), labelled)
        except ValueError as error:
            result.problems.append(Problem("unreadable", where, str(error)))
            continue
        kept = {name: fields[name] for name in rest if name in fields}
        answer: dict[str, object] = {} if completion is None else {"completion": completion}
        result.records.append(({"prompt": prompt, **answer, **kept}, line))
    return result


def _split(value: object, labelled: bool) -> tuple[str, str | None]:
    if not isinstance(value, list) or not value:
        raise ValueError("the messages are not a list with something in it")
    turns = [_turn(message) for message in value]
    if not labelled and turns[-1][0] != "assistant":
        return _prompt(turns), None
    last = max((index for index, (role, _) in enumerate(turns) if role == "assistant"), default=-1)
    if last < 0:
        raise ValueError("no message has the role assistant, so there is no answer to learn")
    if not any(role == "user" for role, _ in turns[:last]):
        raise ValueError("no user message comes before the last assistant message")
    return _prompt(turns[:last]), turns[last][1]


def _prompt(turns: list[tuple[str, str]]) -> str:
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role.capitalize()}: {text}" for role, text in turns)


def _turn(message: object) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise ValueError("a message is not an object with role and content")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str):
        raise ValueError("a message has no role")
    if isinstance(content, list):
        content = _joined(content)
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"the {role} message has no text")
    return _ROLES.get(role, role), content


def _joined(parts: list[object]) -> str:
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a message holds something other than text")
    return "".join(str(text) for text in texts)
