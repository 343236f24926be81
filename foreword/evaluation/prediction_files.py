"""Many predictions: a list that shows itself as a table, and its file as JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction, write_jsonl
from foreword.messages import Message
from foreword.storage import write_atomically

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
_SHOWN = 10


class Predictions(list[Prediction]):
    """Predictions in the order of the rows.

    Args:
        predictions: one a row that was answered.
        rows: the fields of these rows, as they were read.
        skipped: rows that could not be answered, ``file:line: why`` each.
    """

    def __init__(
        self,
        predictions: Iterable[Prediction] = (),
        rows: Sequence[Mapping[str, object]] = (),
        skipped: Sequence[str] = (),
    ) -> None:
        super().__init__(predictions)
        self.rows = tuple(rows)
        self.skipped = tuple(skipped)

    def table(self) -> list[dict[str, object]]:
        """One dict a row: ``id``, the row's own columns, ``output``, ``score``, and ``score LABEL`` for each label.

        A column of the row's own that is called so keeps its name; the answer is then ``predicted output`` and so on.
        """
        return [_line(p, self.rows[i] if i < len(self.rows) else {}) for i, p in enumerate(self)]

    def to_frame(self) -> pd.DataFrame:
        """:meth:`table` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.table())

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} rows skipped" if self.skipped else ""
        shown = ", ".join(repr(p.output) for p in self[:3]) + (", ..." if len(self) > 3 else "")
        return f"Predictions({len(self)}: {shown}{skipped})"

    def _repr_html_(self) -> str:
        lines = [(p.input, p.output, _cell(p.score)) for p in self[:_SHOWN]]
        body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>" for line in lines)
        more = f"<p>{len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        return f"<table><tr><th>input</th><th>output</th><th>score</th></tr>{body}</table>{more}"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(prediction: Prediction, fields: Mapping[str, object]) -> dict[str, object]:
    line: dict[str, object] = dict(fields) if "id" in fields else {"id": prediction.id, **fields}
    labels = {f"score {label}": value for label, value in prediction.scores.items() if not label.startswith("gold_")}
    answers = {"output": prediction.output, "score": prediction.score, **labels}
    return line | {(f"predicted {name}" if name in fields else name): value for name, value in answers.items()}


def refuse_format(path: str | Path) -> None:
    """Refuse a file whose name asks for a format that is not written. Raises SettingsError."""
    suffix = Path(path).suffix.lower()
    if suffix in (".xlsx", ".xls", ".json", ".yaml", ".yml", ".feather", ".html"):
        raise SettingsError(
            Message("predictions are not written as {suffix}", suffix=suffix),
            where=str(path),
            expected=", ".join(FORMATS),
            hint="name a file of one of these kinds",
        )


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write a file by the kind that its name says: CSV, TSV or Parquet with the rows' own columns, else JSON lines.

    Raises:
        SettingsError: the file is one of the inputs, or of a kind that is not written.
        ForewordError: it cannot be written.
    """
    refuse_format(path)
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        write_jsonl(path, predictions)
        return
    lines = predictions.table()
    names = list(dict.fromkeys(name for line in lines for name in line))
    if suffix == ".parquet":
        write_atomically(path, _parquet(lines, names))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, names, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    # Half of a surrogate pair, cut by a token limit, is no character: only an escape can hold it.
    write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _parquet(lines: Sequence[Mapping[str, object]], names: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: [line.get(name) for line in lines] for name in names}
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # values of several types: as text
            arrays[name] = pa.array([None if v is None else str(v).encode("utf-8", "replace").decode() for v in values])
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays), sink)
    return sink.getvalue()
