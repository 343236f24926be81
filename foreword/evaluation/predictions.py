"""One answer of the model to one row, and its file: JSON lines, written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from foreword.errors import DataError
from foreword.messages import Message
from foreword.storage import write_atomically

GOLD_NLL = "gold_nll"
"""Key in :attr:`Prediction.scores`: total negative log-likelihood (nats) of the gold text; perplexity reads it."""
GOLD_TOKENS = "gold_tokens"
"""Key in :attr:`Prediction.scores`: how many tokens the gold text has."""


@dataclass(frozen=True)
class Prediction:
    """What the model said about one row.

    Args:
        id: the row's id.
        input: what the model was given, as text.
        output: the label, or the generated text.
        gold: the right label or a reference text; "" when the row has none.
        score: log-probability (or probability) of the output; ``nan`` when it is not known.
        tokens: tokens in the output (generation) or in the input (classification).
        ms: wall time in milliseconds, the batch's time shared among its rows.
        scores: one figure a label; for generation optionally ``gold_nll`` and ``gold_tokens``.
        references: all right texts when there is more than one; empty means ``gold`` alone.
        group: of rows that are no independent draws; "": the row stands for itself.
        columns: what else stood in the row, such as the user's own number of it.
    """

    id: str
    input: str
    output: str
    gold: str
    score: float = math.nan
    tokens: int = 0
    ms: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    group: str = ""
    columns: Mapping[str, object] = field(default_factory=dict)

    @property
    def accepted(self) -> str | tuple[str, ...]:
        """What counts as right: the gold text, or every reference."""
        return self.references or self.gold

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; a figure that is not finite becomes null. What is empty of the last three is left out."""
        record: dict[str, object] = {
            "id": self.id,
            "input": self.input,
            "output": self.output,
            "gold": self.gold,
            "score": _finite(self.score),
            "tokens": int(self.tokens),
            "ms": _finite(self.ms),
            "scores": {name: _finite(value) for name, value in self.scores.items()},
        }
        if self.references:
            record["references"] = list(self.references)
        if self.group:
            record["group"] = self.group
        if self.columns:
            record["columns"] = {name: _json_value(value) for name, value in self.columns.items()}
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> Prediction:
        """The inverse of :meth:`to_json`; null figures come back as ``nan``. Raises ValueError for another shape."""
        unknown = record.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(Message("unknown field {value!r}", value=sorted(unknown)[0]))
        texts = {name: _text(record, name) for name in ("id", "input", "output", "gold")}
        scores, references = record.get("scores", {}), record.get("references", [])
        columns = record.get("columns", {})
        if not isinstance(columns, dict):
            raise ValueError("'columns' is not an object")
        if not isinstance(scores, dict):
            raise ValueError("'scores' is not an object")
        if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
            raise ValueError("'references' is not a list of texts")
        return cls(
            **texts,
            score=_number(record.get("score"), "score"),
            tokens=int(_number(record.get("tokens", 0), "tokens")),
            ms=_number(record.get("ms", 0.0), "ms"),
            scores={str(name): _number(value, "scores") for name, value in scores.items()},
            references=tuple(references),
            columns=columns,
            group=_text({"group": "", **record}, "group"),
        )


def _json_value(value: object) -> object:
    """A cell as JSON has it; what JSON does not have, such as a date, as text."""
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else str(value)


def groups_of(predictions: Sequence[Prediction]) -> list[str] | None:
    """The group of each row; None where every row stands for itself."""
    if not any(prediction.group for prediction in predictions):
        return None
    return [prediction.group or prediction.id for prediction in predictions]


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(Message("{name!r} is not a text", name=name))
    return value


def _number(value: object, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(Message("{name!r} is not a number", name=name))
    return float(value)


def _line(prediction: Prediction) -> bytes:
    record = prediction.to_json()
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, cut by a token limit: only an escape can hold it
        return json.dumps(record, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def write_jsonl(path: str | Path, predictions: Iterable[Prediction]) -> None:
    """One JSON object a line, UTF-8, written whole or not at all."""
    write_atomically(path, (_line(prediction) for prediction in predictions))


def read_jsonl(path: str | Path) -> list[Prediction]:
    """The predictions of a file that :func:`write_jsonl` wrote. Raises DataError with the line that is wrong."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            Message("the predictions cannot be read ({strerror})", strerror=error.strerror), where=str(path)
        ) from error
    found = []
    # Only "\n" ends a record: texts may hold other line separators (U+2028, form feed) as they are.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            found.append(Prediction.from_json(record))
        except (ValueError, RecursionError) as error:
            raise DataError(
                Message("not a prediction: {error}", error=error),
                where=f"{path}:{number}",
                expected="one JSON object a line with id, input, output, gold, score, tokens, ms, scores",
                hint="write the file again with `foreword predict` or `foreword evaluate`",
            ) from error
    return found
