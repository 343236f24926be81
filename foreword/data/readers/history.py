"""LLaMA-Factory's rows with earlier turns beside the question: ``history`` holds pairs of question and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foreword.data.row import Problem, Raw, is_missing

HISTORY = "history"
_QUESTIONS = ("instruction", "prompt", "query", "question")
_MORE = ("input", "query")
_ANSWERS = ("output", "response", "answer", "completion")


def with_history(raw: Raw, file: str, inputs: Sequence[str], target: str | None) -> Raw:
    """The same rows as conversations under ``messages``, where a column ``history`` holds pairs beside a question.

    Rows that the user names other columns of stay as they are. A history that holds something else is a problem, and
    its row is left out.
    """
    question = next((name for name in _QUESTIONS if name in raw.columns), None)
    answer = target or next((name for name in _ANSWERS if name in raw.columns), None)
    named = {HISTORY, question} & set(inputs)
    if HISTORY not in raw.columns or question is None or named or "messages" in raw.columns:
        return raw
    cells = [fields.get(HISTORY) for fields, _ in raw.records]
    if not any(isinstance(cell, list) and cell and isinstance(cell[0], list | tuple) for cell in cells):
        return raw
    if answer is not None and answer not in (*_ANSWERS, question) and answer in raw.columns:
        return raw
    more = tuple(name for name in _MORE if name in raw.columns and name != question)
    used = {HISTORY, question, answer, *more}
    rest = tuple(name for name in raw.columns if name not in used)
    result = Raw(("messages", *rest), [], list(raw.problems))
    for fields, line in raw.records:
        try:
            messages = [*_pairs(fields.get(HISTORY)), *_asked(fields, (question, *more), answer)]
        except ValueError as error:
            result.problems.append(Problem("unreadable", f"{file}:{line}", str(error)))
            continue
        result.records.append(({"messages": messages, **{n: fields[n] for n in rest if n in fields}}, line))
    return result


def _pairs(cell: object) -> list[dict[str, object]]:
    if is_missing(cell):
        return []
    if not isinstance(cell, list):
        raise ValueError("history is no list of pairs, a question and its answer")
    turns: list[dict[str, object]] = []
    for pair in cell:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("history is no list of pairs, a question and its answer")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _asked(fields: Mapping[str, object], names: Sequence[str], answer: str | None) -> list[dict[str, object]]:
    """The last question, of one field or two, and its answer where the row has one."""
    text = "\n".join(str(fields[name]).strip() for name in names if not is_missing(fields.get(name)))
    turns: list[dict[str, object]] = [{"role": "user", "content": text}]
    if answer is not None and not is_missing(fields.get(answer)):
        turns.append({"role": "assistant", "content": fields[answer]})
    return turns
