"""From a request to rows of token ids on a base, in stages: data, base, run.

Whatever can be refused without a model is refused before one is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.data.quality.check_report import CheckReport
from foreword.data.quality.row_sampling import TrainingRows
from foreword.data.quality.split import DataLock
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.tokens.all_turns import with_all_turns
from foreword.data.tokens.encode_row import RowEncoder
from foreword.data.tokens.examples import Example
from foreword.data.tokens.windows import in_windows
from foreword.errors import DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.messages import Message
from foreword.methods.base import Method, Start, Writer, make_writer
from foreword.runs.prepare.augmentation import refuse_course
from foreword.runs.prepare.encode_splits import Encoded, encode_splits, refuse_long_k, refuse_uncut
from foreword.runs.prepare.ready_base import ReadyBase, ready_base
from foreword.runs.prepare.ready_data import ReadyData, ready_data, refuse
from foreword.runs.prepare.row_groups import row_groups
from foreword.runs.prepare.start import Begin, begin
from foreword.settings.schema import TrainRequest, TrainSettings
from foreword.training.class_weights import class_weights, refuse_class_weight
from foreword.training.heads.base import Chooser
from foreword.training.loop import Score, Trial
from foreword.training.objective import Objective


@dataclass(frozen=True)
class Prepared:
    """The third stage: everything a run needs, checked.

    Args:
        tables: split name -> its rows, the refused ones left out.
        dropped: split name -> reason -> how many rows were left out.
        examples: the same rows as token ids.
        asker: the task on the base.
        plain: the same rows without the guidance, where training mixes the two; else empty.
    """

    request: TrainRequest
    task: Task
    method: Method
    base: Base
    tables: dict[str, Table]
    report: CheckReport
    dropped: dict[str, dict[str, int]]
    lock: DataLock
    examples: dict[str, list[Example]]
    asker: Asker
    start: Start
    plain: dict[str, list[Example]] = field(default_factory=dict)

    def writer(self) -> Writer:
        """A fresh writer of the run's method."""
        return make_writer(self.method, self.start)

    def objective(self, writer: Writer) -> Objective:
        """What is trained on: the task's objective behind what ``writer`` writes, with the weights of classes."""
        with torch.no_grad():
            objective = self.asker.objective(writer.write())
        weights = class_weights(self.request.settings.class_weight, self.task, self.examples["train"])
        return objective.weighted(weights) if weights and isinstance(objective, Chooser) else objective

    def trial(
        self,
        rows: Sequence[Example] | TrainingRows,
        rate: float,
        evaluate: Callable[[Foreword], Score],
        settings: TrainSettings | None = None,
    ) -> Trial:
        """A fresh trial of the run's method over ``rows``, by the run's settings or others."""
        writer = self.writer()
        settings = settings or self.request.settings
        return Trial(self.base.model, writer, self.objective(writer), rows, settings, rate, evaluate)


def say_nothing(name: str, done: int, total: int, **fields: object) -> None:
    """The progress of those who do not ask for any."""


def prepare(request: TrainRequest, *, trained: bool = True) -> Prepared:
    """Read, check and encode everything that ``request`` names.

    Args:
        trained: False: a base from scratch is not trained, for an estimate.

    Raises:
        DataError: the check refuses the data (and ``skip_bad`` is off), or nothing is left.
        SettingsError: a setting, template or label words that cannot be.
        BaseError: the base cannot be loaded.
    """
    begun = begin(request)
    if request.settings.shard and not begun.method.per_row:
        raise SettingsError(
            Message(
                "method {name} changes the base itself, which cannot be spread over processes", name=begun.method.name
            ),
            where="shard",
            hint="use `--method lora` or `--method prefix`",
        )
    data = ready_data(request)
    refuse_long_k(request.task_options.first_k, data.task, data.tables["train"])
    refuse_course(request.settings, data.task)
    refuse_class_weight(request.settings.class_weight, data.task)
    return _ready_run(begun, data, ready_base(data, begun, request.progress or say_nothing, trained))


def _ready_run(begun: Begin, data: ReadyData, ready: ReadyBase) -> Prepared:
    """Encode the rows for the base; refuse what it cannot read."""
    request, first_k = begun.request, begun.request.task_options.first_k
    encoder = ready.encoder(first_k)
    tables, report = _in_windows(data, ready)
    encoded = encode_splits(tables, data.dropped, report, encoder, ready.front, ready.limit)
    refuse(encoded.report, request.skip_bad)
    for name in ("train", "dev"):
        if not encoded.examples[name]:
            raise DataError(
                Message("no row is left in {name}", name=name),
                where=data.tables[name].name,
                hint="run `foreword check` on the data",
            )
    refuse_uncut(first_k, encoded.examples["train"])
    examples = _with_all_turns(ready, encoded) if request.settings.loss_on == "all_turns" else encoded.examples
    plain = {}
    if data.task.guidance_in_row:
        plain = {name: replace(encoder, guided=False).encode(table.rows) for name, table in encoded.tables.items()}
    return Prepared(
        request,
        ready.asker.task,
        begun.method,
        ready.base,
        encoded.tables,
        encoded.report,
        encoded.dropped,
        DataLock.of(encoded.tables),
        examples,
        replace(ready.asker, groups=row_groups(encoded.tables, request.task_options.group)),
        ready.start,
        plain,
    )


def _in_windows(data: ReadyData, ready: ReadyBase) -> tuple[dict[str, Table], CheckReport]:
    """The tables with plain texts cut where the base's window ends, and the report with a warning for each."""
    if not data.task.plain or ready.limit is None:
        return data.tables, data.report
    # A token for the end, and one for the seam.
    room = max(2, ready.limit - ready.front - 2)
    tables, problems = {}, list(data.report.problems)
    for name, table in data.tables.items():
        tables[name], cut = in_windows(table, data.task, ready.base.tokenizer, room)
        problems += [replace(problem, split=name) for problem in cut]
    return tables, replace(data.report, problems=tuple(problems))


def _with_all_turns(ready: ReadyBase, encoded: Encoded) -> dict[str, list[Example]]:
    """The examples, those of training with every assistant message of a conversation among what is learned."""
    asker, rows = ready.asker, encoded.tables["train"].rows
    writer = RowEncoder(asker.task, asker.tokenizer, asker.special_tokens)
    return {**encoded.examples, "train": with_all_turns(rows, encoded.examples["train"], writer)}


def with_rows(
    prepared: Prepared, indices: Mapping[str, Sequence[int]], sources: Mapping[str, str] | None = None
) -> Prepared:
    """The same with some of the rows of some splits.

    Args:
        indices: split -> the places of its rows.
        sources: split -> the split that its rows are taken from, where that is another one.
    """
    tables, examples, plain = dict(prepared.tables), dict(prepared.examples), dict(prepared.plain)
    for name, chosen in indices.items():
        source = (sources or {}).get(name, name)
        tables[name] = prepared.tables[source].with_rows(prepared.tables[source].rows[i] for i in chosen)
        examples[name] = [prepared.examples[source][i] for i in chosen]
        if source in prepared.plain:
            plain[name] = [prepared.plain[source][i] for i in chosen]
    return replace(prepared, tables=tables, examples=examples, plain=plain, lock=DataLock.of(tables))


def plain_settings(value: Any) -> Any:
    """Settings as JSON has them: tuples as lists, paths as text."""
    if isinstance(value, Mapping):
        return {str(k): plain_settings(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_settings(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
