"""A foreword in use: evaluate it, predict with it, replay its golden rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foreword.artifact.manifest import Manifest
from foreword.artifact.store import load
from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.core.passes.masked_scores import refuse_headless
from foreword.data.readers.read import read
from foreword.data.row import Row, Source
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.examples import Example, encode
from foreword.errors import BaseMismatchError, DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction, write_jsonl
from foreword.evaluation.report.summary import evaluate as summarise
from foreword.runs.prepare.base_words import find_base
from foreword.runs.prepare.prefix_length import taken
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.prepare.start import same_base
from foreword.runs.train.dev_score import metric_names
from foreword.settings.schema import ProgressCall

# log-probabilities of a reloaded foreword on the same machine differ by the order of a batch's additions only.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Opened:
    """A foreword on its base, ready to be asked."""

    value: Foreword
    manifest: Manifest
    base: Base
    task: Task
    asker: Asker

    def encode(self, table: Table, *, labelled: bool) -> list[Example]:
        """The table's rows as token ids."""
        limit = self.base.context
        return encode(
            table.rows,
            self.task,
            self.base.tokenizer,
            special_tokens=self.asker.special_tokens,
            labelled=labelled,
            max_length=None if limit is None else limit - taken(self.value, self.asker),
            first_k=self.manifest.settings.get("first_k"),  # type: ignore[arg-type]
        )


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
    training = manifest.settings.get("training")
    dtype = training.get("dtype", "float32") if isinstance(training, Mapping) else "float32"
    if base is None:
        of = manifest.base
        base = find_base(of.id, dtype=str(dtype), revision=of.revision, task_head=task.masked, progress=progress)
    if not isinstance(base, Base):
        base = find_base(base, dtype=str(dtype), task_head=task.masked, progress=progress)
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
    progress: ProgressCall | None = None,
) -> dict[str, Any]:
    """The figures of a foreword on labelled data, with intervals.

    Args:
        file: a ``.foreword`` file.
        data: a file or data in memory with the right answers.
        output: where to write the predictions, one JSON object a row.
        metrics: more metrics than the task's.

    Returns:
        ``rows``, ``metrics`` {name: {value, low, high, ...}}, and the per-class ``report`` of a classification.
    """
    opened = open_foreword(file, base, progress)
    found = _predictions(opened, table_of(opened, data, True), True, progress)
    if output is not None:
        write_jsonl(output, found)
    return summarise(found, opened.task.kind, metric_names(opened.task, metrics), opened.task.labels)


def predict(
    file: str | Path,
    data: object = None,
    *,
    text: str | None = None,
    base: str | Base | None = None,
    output: str | Path | None = None,
    part: tuple[int, int] | None = None,
    progress: ProgressCall | None = None,
) -> list[Prediction]:
    """The answers of a foreword to ``data``, or to one ``text``; right answers are not needed.

    Args:
        part: (i, n): every n-th row, from row i on; None means all rows.

    Raises:
        SettingsError: both or neither of ``data`` and ``text``, or a text for a template with several fields.
        DataError: a row lacks a field of the template, or is longer than the base can read.
    """
    if (data is None) == (text is None):
        raise SettingsError("give data or one text, not both", expected="one of the two")
    opened = open_foreword(file, base, progress)
    table = _one_row(opened.task, text) if text is not None else table_of(opened, data, False)
    if part is not None:
        table = table.with_rows(table.rows[part[0] :: part[1]])
    found = _predictions(opened, table, False, progress)
    if output is not None:
        write_jsonl(output, found)
    return found


def generate(file: str | Path, text: str, *, base: str | Base | None = None, **decoding: Any) -> str:
    """What the model writes for one text; ``decoding`` overrides the task's settings (``max_new_tokens``, ...).

    Raises:
        SettingsError: the foreword is for a classification.
    """
    opened = open_foreword(file, base)
    if opened.task.kind != "generation":
        raise SettingsError(
            "this foreword answers with a label, it does not write", where=str(file), hint="use `foreword predict`"
        )
    task = replace(opened.task, decoding=replace(opened.task.decoding, **decoding))
    opened = replace(opened, task=task, asker=replace(opened.asker, task=task))
    return _predictions(opened, _one_row(task, text), False, None)[0].output


def table_of(opened: Opened, data: object, labelled: bool) -> Table:
    """The rows of ``data`` as the foreword's task reads them. Raises DataError for rows that cannot be read."""
    task = opened.task
    fields = sorted((parsed(task.template).fields | {task.guidance_column}) - {"row", ""})
    target = task.target
    if labelled:
        return _readable(read(data, inputs=fields, target=target))
    return _readable(read(data, inputs=fields, labelled=False))


def _readable(table: Table) -> Table:
    """No row is left out without a word: a file with rows that cannot be read is refused."""
    unreadable = [problem for problem in table.problems if problem.severity == "error"]
    if unreadable:
        first = unreadable[0]
        raise DataError(
            f"{len(unreadable)} rows cannot be read: {first.message}",
            where=first.where,
            hint="mend them; `foreword check` lists them all",
        )
    return table


def _one_row(task: Task, text: str | None) -> Table:
    names = sorted(parsed(task.template).fields)
    if len(names) != 1:
        raise SettingsError(
            "one text cannot fill a template with several fields", expected=", ".join(names), hint="give a data file"
        )
    return read([{names[0]: text}], inputs=names, labelled=False)


def _predictions(opened: Opened, table: Table, labelled: bool, progress: ProgressCall | None) -> list[Prediction]:
    report = progress or say_nothing
    examples = opened.encode(table, labelled=labelled)
    return opened.asker.answer(opened.value, examples, lambda done, total: report("predict", done, total))


@dataclass(frozen=True)
class VerifyReport:
    """What replaying the golden rows showed: ``rows`` has, for each, expected and received output and the largest
    change of a score."""

    ok: bool
    rows: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def render(self) -> str:
        """For people."""
        wrong = [row for row in self.rows if not row["equal"]]
        if not wrong:
            return f"verified: {len(self.rows)} golden rows give the answers that were saved"
        lines = [f"FAILED: {len(wrong)} of {len(self.rows)} golden rows give other answers"]
        lines += [
            f"  row {row['row']}: expected {row['expected']!r}, received {row['received']!r} ({row['why']})"
            for row in wrong
        ]
        return "\n".join(lines)


def verify(file: str | Path, base: str | Base | None = None) -> VerifyReport:
    """Ask the golden rows again: input ids, outputs and scores must be those in the file (scores within 1e-3).

    Raises:
        FileFormatError, BaseMismatchError: as :func:`open_foreword`.
        DataError: the file has no golden rows.
    """
    opened = open_foreword(file, base)
    golden = opened.manifest.golden
    if not golden:
        raise DataError("the file has no golden rows to replay", where=str(file))
    rows = tuple(Row(str(i), g.input, Source(str(file), i + 1)) for i, g in enumerate(golden))
    examples = encode(
        rows,
        opened.task,
        opened.base.tokenizer,
        special_tokens=opened.asker.special_tokens,
        max_length=None,
        labelled=False,
        first_k=opened.manifest.settings.get("first_k"),  # type: ignore[arg-type]
    )
    answers = opened.asker.answer(opened.value, examples)
    out = []
    for index, (wanted, example, answer) in enumerate(zip(golden, examples, answers, strict=True)):
        change = 0.0
        if wanted.scores is not None:
            now = [answer.scores[label] for label in opened.task.labels]
            change = max((abs(a - b) for a, b in zip(wanted.scores, now, strict=True)), default=0.0)
        why = ""
        if list(example.input_ids) != wanted.input_ids:
            why = "the tokens differ"
        elif answer.output != wanted.output:
            why = "another answer"
        elif change > _TOLERANCE:
            why = f"a score changed by {change:.2g}"
        out.append(
            {
                "row": index,
                "equal": not why,
                "why": why,
                "expected": wanted.output,
                "received": answer.output,
                "change": change,
            }
        )
    return VerifyReport(all(row["equal"] for row in out), out)
