"""A foreword in use: evaluate it, predict with it, let it write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from foreword.artifact.manifest import Manifest
from foreword.artifact.peek import peek
from foreword.artifact.store import load
from foreword.core.base.load import Base
from foreword.core.base.precision import readable
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.core.passes.masked_scores import refuse_headless
from foreword.data.readers.read import read
from foreword.data.row import Row
from foreword.data.table import Table
from foreword.data.task.columns import Kind
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.examples import Encoder, Example
from foreword.errors import BaseMismatchError, DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.evaluation.prediction_files import Predictions, refuse_format, write_predictions
from foreword.evaluation.report.figures import Figures
from foreword.evaluation.report.summary import evaluate as summarise
from foreword.messages import Message
from foreword.progress import showing
from foreword.runs.prepare.base import find_base
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.prepare.start import prefix_length, same_base
from foreword.runs.train.dev_score import metric_names
from foreword.settings.schema import ProgressCall
from foreword.settings.values import unknown_key
from foreword.storage import refuse_overwriting


@dataclass(frozen=True)
class Opened:
    """A foreword on its base, ready to be asked."""

    value: Foreword
    manifest: Manifest
    base: Base
    task: Task
    asker: Asker

    @property
    def encoder(self) -> Encoder:
        """How rows become the token ids that the file was trained on."""
        first_k = self.manifest.settings.get("first_k")
        return self.asker.encoder(first_k if isinstance(first_k, int) else None)

    def encode(self, table: Table, *, labelled: bool) -> list[Example]:
        """The table's rows as token ids."""
        limit = self.base.context
        room = None if limit is None else limit - prefix_length(self.value, self.asker)
        return self.encoder.encode(table.rows, max_length=room, labelled=labelled)

    def decoding(self, file: str | Path, chosen: Mapping[str, Any]) -> Opened:
        """The same with other settings of decoding. Raises SettingsError where nothing is written, or for a slip."""
        if not chosen:
            return self
        if self.task.kind != "generation":
            raise SettingsError(
                "this foreword answers with a label, it does not write",
                where=str(file),
                received=", ".join(sorted(chosen)),
                hint="leave the settings of decoding out",
            )
        known = [field.name for field in fields(self.task.decoding)]
        for name in chosen:
            if name not in known:
                raise unknown_key(name, known, "decoding")
        task = replace(self.task, decoding=replace(self.task.decoding, **chosen))
        return replace(self, task=task, asker=replace(self.asker, task=task))


def open_foreword(file: str | Path, base: str | Base | None = None, progress: ProgressCall | None = None) -> Opened:
    """Load a file and its base, and make sure that they belong together.

    Args:
        file: a ``.foreword`` file.
        base: a base to use instead of the one that the file names, loaded already or not; it must be the same model.

    Raises:
        FileFormatError: the file is damaged or hostile.
        BaseMismatchError: the base differs from the one that the foreword was trained on; says in what.
    """
    value, manifest = load(file)
    task = Task.from_json(manifest.task)
    dtype = readable(manifest.dtype)
    if base is None:
        of = manifest.base
        base = find_base(of.id, dtype=dtype, revision=of.revision, task_head=task.masked, progress=progress)
    if not isinstance(base, Base):
        base = find_base(base, dtype=dtype, task_head=task.masked, progress=progress)
    loaded = base
    if task.masked:
        refuse_headless(loaded.model)
    same_base(manifest, loaded, str(file))
    sites = find_sites(loaded.model) if value.num_virtual_tokens else None
    if sites is not None and sites.positions != manifest.positions:
        raise BaseMismatchError(
            "the foreword counts positions in another way",
            where=str(file),
            expected=manifest.positions,
            received=sites.positions,
            hint="train it again with this version",
        )
    asker = Asker(loaded.model, loaded.tokenizer, task, loaded.kind != "decoder")
    return Opened(value, manifest, loaded, task, asker)


def evaluate(
    file: str | Path,
    data: object,
    *,
    base: str | Base | None = None,
    output: str | Path | None = None,
    metrics: tuple[str, ...] = (),
    skip_bad: bool = False,
    progress: ProgressCall | bool | None = None,
    **decoding: Any,
) -> Figures:
    """The figures of a foreword on labelled data, with intervals.

    Args:
        file: a ``.foreword`` file.
        data: a file or data in memory with the right answers.
        output: where to write the predictions: ``.jsonl``, or ``.csv``, ``.tsv``, ``.parquet`` with the rows' columns.
        metrics: more metrics than the task's.
        skip_bad: go on without the rows that cannot be answered; they are counted under ``skipped``.
        progress: called as work goes on; None shows it on standard error, False nowhere.
        decoding: overrides the task's settings (``max_new_tokens``, ...).

    Returns:
        ``rows``, ``metrics`` {name: {value, low, high, ...}}, and the per-class ``report`` of a classification.

    >>> from foreword import evaluate
    >>> figures = evaluate("model.foreword", "reviews.csv", progress=False)
    >>> figures["rows"], sorted(figures["metrics"])
    (40, ['accuracy', 'macro_f1'])
    """
    _refuse_output(output, file, data, base)
    with showing(progress) as report:
        opened = open_foreword(file, base, report).decoding(file, decoding)
        found = _predictions(opened, table_of(opened, data, True, skip_bad), True, report, skip_bad)
    if output is not None:
        write_predictions(output, found)
    figures = Figures(summarise(found, opened.task.kind, metric_names(opened.task, metrics), opened.task.labels))
    return Figures({**figures, "skipped": len(found.skipped)}) if found.skipped else figures


def predict(
    file: str | Path,
    data: object = None,
    *,
    text: str | None = None,
    base: str | Base | None = None,
    output: str | Path | None = None,
    skip_bad: bool = False,
    progress: ProgressCall | None = None,
    **decoding: Any,
) -> Predictions:
    """The answers of a foreword to ``data``, or to one ``text``; right answers are not needed.

    Args:
        data: a file, a DataFrame, a Dataset, a list of dicts, or a list of texts for a template with one field.
        output: where to write: ``.jsonl``, or ``.csv``, ``.tsv``, ``.parquet`` with the rows' own columns.
        skip_bad: go on without the rows that cannot be answered; they are in ``Predictions.skipped``.
        decoding: overrides the task's settings (``max_new_tokens``, ...).

    Raises:
        SettingsError: both or neither of ``data`` and ``text``, or a text for a template with several fields.
        DataError: a row lacks a field of the template, or is longer than the base can read.

    >>> from foreword import predict
    >>> answers = predict("model.foreword", ["a fine film", "a dull film"], progress=lambda *_, **__: None)
    >>> len(answers), answers[0].output in ("good", "bad"), sorted(answers[0].scores)
    (2, True, ['bad', 'good'])
    """
    if (data is None) == (text is None):
        raise SettingsError("give data or one text, not both", expected="one of the two")
    _refuse_output(output, file, data, base)
    opened = open_foreword(file, base, progress).decoding(file, decoding)
    table = _texts(opened.task, [text]) if text is not None else table_of(opened, data, False, skip_bad)
    found = _predictions(opened, table, False, progress, skip_bad)
    if output is not None:
        write_predictions(output, found)
    return found


def predict_part(
    file: str | Path, data: object, part: tuple[int, int], *, output: str | Path, base: str | Base | None = None,
    skip_bad: bool = False, **decoding: Any,
) -> None:  # fmt: skip
    """Write the answers to every n-th row, from row i on; ``part`` is (i, n), the rest as for :func:`predict`."""
    opened = open_foreword(file, base).decoding(file, decoding)
    table = table_of(opened, data, False, skip_bad)
    rows = table.rows[part[0] :: part[1]]
    write_predictions(output, _predictions(opened, table.with_rows(rows), False, None, skip_bad))


def generate(file: str | Path, text: str, *, base: str | Base | None = None, **decoding: Any) -> str:
    """What the model writes for one text; ``decoding`` overrides the task's settings (``max_new_tokens``, ...).

    Raises:
        SettingsError: the foreword is for a classification.

    >>> from foreword.api import generate
    >>> text = generate("writer.foreword", "a fine film", max_new_tokens=3)
    >>> isinstance(text, str)
    True
    """
    opened = open_foreword(file, base)
    if opened.task.kind != "generation":
        raise SettingsError(
            "this foreword answers with a label, it does not write", where=str(file), hint="use `foreword predict`"
        )
    opened = opened.decoding(file, decoding)
    return _predictions(opened, _texts(opened.task, [text]), False, None)[0].output


def _refuse_output(output: str | Path | None, *inputs: object) -> None:
    """Refuse an output that is an input, or of no known kind, before anything is loaded. Raises SettingsError."""
    if output is not None:
        refuse_format(output)
        refuse_overwriting(output, inputs)


def table_of(opened: Opened, data: object, labelled: bool, skip_bad: bool = False) -> Table:
    """The rows of ``data`` as the foreword's task reads them. Raises DataError for rows that cannot be read.

    Args:
        data: what :func:`foreword.data.readers.read.read` takes; also a list of texts, or a ``.txt`` with a text a
            line, where the template has one field and answers are not needed.
        labelled: the rows have the right answers.
        skip_bad: rows that cannot be read stay in ``Table.problems``.
    """
    return _table(opened.task, data, labelled, skip_bad)


def rows_of_file(file: str | Path, data: object, skip_bad: bool = False) -> Table:
    """The rows that :func:`predict` would answer, without loading a base."""
    return _table(Task.from_json(peek(file).manifest.task), data, False, skip_bad)


def _table(task: Task, data: object, labelled: bool, skip_bad: bool) -> Table:
    fields = sorted((parsed(task.template).fields | {task.guidance_column}) - {"row", ""})
    if labelled:
        kind: Kind | None = "multilabel" if task.kind == "multilabel" else None
        return _readable(read(data, inputs=fields, target=task.target, kind=kind), skip_bad)
    return _readable(read(data, inputs=fields, labelled=False), skip_bad)


def _readable(table: Table, skip_bad: bool) -> Table:
    """No row is left out without a word: a file with rows that cannot be read is refused."""
    unreadable = [problem for problem in table.problems if problem.severity == "error"]
    if unreadable and not skip_bad:
        first = unreadable[0]
        raise DataError(
            Message("{n} rows cannot be read: {message}", n=len(unreadable), message=first.message),
            where=first.where,
            hint="mend them (`foreword check` lists them all), or leave them out with --skip-bad",
        )
    return table


def _texts(task: Task, texts: Sequence[str]) -> Table:
    names = sorted(parsed(task.template).fields)
    if len(names) != 1:
        raise SettingsError(
            "one text cannot fill a template with several fields", expected=", ".join(names), hint="give a data file"
        )
    return read([{names[0]: text} for text in texts], inputs=names, labelled=False)


def _predictions(
    opened: Opened, table: Table, labelled: bool, progress: ProgressCall | None, skip_bad: bool = False
) -> Predictions:
    report = progress or say_nothing
    examples, rows, skipped = _encoded(opened, table, labelled, skip_bad)
    answers = opened.asker.answer(opened.value, examples, lambda done, total: report("predict", done, total))
    used = parsed(opened.task.template).fields | {opened.task.guidance_column, opened.task.target}
    named = len({row.fields.get("id") for row in rows}) == len(rows)
    found = []
    for row, answer in zip(rows, answers, strict=True):
        columns = {name: value for name, value in row.fields.items() if name not in used}
        name = columns.pop("id", None) if named else None
        found.append(replace(answer, id=answer.id if name is None else str(name), columns=columns))
    return Predictions(found, [row.fields for row in rows], skipped)


def _encoded(
    opened: Opened, table: Table, labelled: bool, skip_bad: bool
) -> tuple[list[Example], list[Row], list[str]]:
    """The rows that can be answered as token ids, these rows, and why the others cannot be.

    Raises:
        DataError: a row cannot be answered and ``skip_bad`` is off, or none can.
    """
    skipped = [f"{problem.where}: {problem.message}" for problem in table.problems if problem.severity == "error"]
    try:
        return opened.encode(table, labelled=labelled), list(table.rows), skipped
    except DataError as problem:
        if not skip_bad:
            hint = "mend such rows, or leave them out with --skip-bad, which counts them"
            raise DataError(
                problem.problem, where=problem.where, expected=problem.expected, received=problem.received, hint=hint
            ) from problem
    examples, rows = list[Example](), list[Row]()
    for row in table.rows:
        try:
            examples += opened.encode(table.with_rows([row]), labelled=labelled)
            rows.append(row)
        except DataError as problem:
            skipped.append(f"{problem.where or row.source}: {problem.problem}")
    if not rows:
        raise DataError("no row can be answered", where=table.name, received=skipped[0], hint="mend the rows")
    return examples, rows, skipped
