"""From a request to rows of token ids: read, split, make the task, check, load the base, encode.

Whatever can be refused without a model is refused before one is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from foreword.core.base.load import Base
from foreword.data.quality.check import check as check_tables
from foreword.data.quality.check_report import CheckReport, clean
from foreword.data.quality.split import DataLock, split
from foreword.data.readers.read import read, read_splits
from foreword.data.readers.sources import WHOLE
from foreword.data.table import Table
from foreword.data.task.guidance import in_front
from foreword.data.task.infer import make_task
from foreword.data.task.task import Decoding, Task
from foreword.data.tokens.examples import Example, encode
from foreword.data.tokens.tokenize import lead_ids, pieces, token_ids
from foreword.errors import DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.methods.base import Method, Start
from foreword.runs.prepare.augmentation import refuse_course
from foreword.runs.prepare.base import base_for
from foreword.runs.prepare.base_words import find_base
from foreword.runs.prepare.calibrate_prompt import calibrated
from foreword.runs.prepare.compatibility import asks
from foreword.runs.prepare.first_k import refuse_long_k, refuse_uncut
from foreword.runs.prepare.prefix_length import most_taken
from foreword.runs.prepare.start import begin
from foreword.settings.schema import SCRATCH, TaskOptions, TrainRequest


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs, checked.

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


def say_nothing(name: str, done: int, total: int, **fields: object) -> None:
    """The progress of those who do not ask for any."""


def check(
    data: object,
    *,
    dev: object = None,
    test: object = None,
    task_options: TaskOptions | None = None,
    base: str | None = None,
    skip_bad: bool = False,
    encoding: str | None = None,
) -> CheckReport:
    """Every problem of the data at once; with ``base`` also the lengths in its tokens.

    Args:
        data: a file, DataFrame, Dataset or list of dicts; ``dev`` and ``test`` likewise.
        task_options: what the task is, as far as it is said.
        base: whose tokens are counted and whose context is the limit; one from scratch has no limit.
        skip_bad: says nothing here; it is the caller who goes on.

    Raises:
        DataError: a file cannot be read at all.
    """
    options = task_options or TaskOptions()
    tables = _read(data, dev, test, options, encoding)
    task = _task(tables["train"], options)
    refuse_long_k(options.first_k, task, tables["train"])
    if base is None or base in SCRATCH:
        found = check_tables(tables, task)
    else:
        loaded = find_base(base, task_head=task.masked, accept=partial(asks, task))
        found = _checked(tables, task, loaded, None if options.first_k else loaded.context)
    return replace(found, notes=(*found.notes, *shown(task)))


def shown(task: Task) -> list[str]:
    """What is asked, for people: what was not said about the task was made from the data, and has to be seen."""
    lines = [f"template {task.template!r}"]
    if task.guidance:
        place = "" if in_front(task) else f" ({task.guidance_mode})"
        lines.append(f"prompt {task.guidance!r}{place}")
    if task.guidance_column:
        lines.append(f"guidance of each row from the column {task.guidance_column!r} ({task.guidance_mode})")
    if task.kind == "tagging":
        lines.append(f"tags {', '.join(task.labels)}")
    elif task.head:
        lines.append(f"labels {', '.join(task.labels)}")
    elif task.verbalizer:
        words = ((label, " or ".join(map(repr, some))) for label, some in task.label_words.items())
        lines.append("label words " + ", ".join(f"{label} -> {said}" for label, said in words))
    return lines


def prepare(request: TrainRequest, *, trained: bool = True) -> Prepared:
    """Read, check and encode everything that ``request`` names.

    Args:
        trained: False: a base from scratch is not trained, for an estimate.

    Raises:
        DataError: the check refuses the data (and ``skip_bad`` is off), or nothing is left.
        SettingsError: a setting, template or label words that cannot be.
        BaseError: the base cannot be loaded.
    """
    options, progress = request.task_options, request.progress or say_nothing
    begun = begin(request)
    method = begun.method
    if request.settings.shard and not method.per_row:
        raise SettingsError(
            f"method {method.name} changes the base itself, which cannot be spread over processes",
            where="shard",
            hint="use `--method lora` or `--method prefix`",
        )
    task, whole, tables = rows_of(request)
    refuse_long_k(options.first_k, task, tables["train"])
    refuse_course(request.settings, task)
    if request.settings.num_threads:
        torch.set_num_threads(request.settings.num_threads)
    base = base_for(request, task, whole, trained, progress, partial(begun.accept, task))
    special = base.kind != "decoder"
    asker = Asker(base.model, base.tokenizer, task, special, request.settings.per_device_eval_batch_size)
    if options.calibrate:
        task = calibrated(asker)
        asker = replace(asker, task=task)
    start = begun.start(task, base)
    front, limit = most_taken(start, method, base, asker), limit_of(base, request.settings.max_length)
    # Fields that are cut to their first tokens are measured as they are encoded, not as they were written.
    cut = limit is not None and options.first_k is not None
    report = _checked(tables, task, base, None if cut else limit, front)
    _refuse(report, request.skip_bad)
    kept, dropped = clean(tables, report)
    longest = limit - front if cut and limit is not None else None

    def encoded(guided: bool) -> dict[str, list[Example]]:
        return {
            name: encode(
                table.rows,
                task,
                base.tokenizer,
                special_tokens=special,
                max_length=longest,
                first_k=options.first_k,
                guided=guided,
            )
            for name, table in kept.items()
        }

    examples = encoded(True)
    for name in ("train", "dev"):
        if not examples[name]:
            raise DataError(
                f"no row is left in {name}", where=tables[name].name, hint="run `foreword check` on the data"
            )
    refuse_uncut(options.first_k, examples["train"])
    lock, plain = DataLock.of(kept), encoded(False) if task.guidance_in_row else {}
    return Prepared(request, task, method, base, kept, report, dropped, lock, examples, asker, start, plain)


def rows_of(request: TrainRequest) -> tuple[Task, dict[str, Table], dict[str, Table]]:
    """The task, its splits without the rows that the check refuses, and the splits as they were read.

    Raises:
        DataError: the check refuses the data (and ``skip_bad`` is off).
    """
    tables = splits(request)
    task = _task(tables["train"], request.task_options, request.settings.guidance_share != "1")
    report = check_tables(tables, task)
    _refuse(report, request.skip_bad)
    return task, clean(tables, report)[0], tables


def splits(request: TrainRequest) -> dict[str, Table]:
    """The request's splits: train, dev and, where there is one, test."""
    options = request.task_options
    return _split(_read(request.data, request.dev, request.test, options, request.encoding), options)


def _read(data: object, dev: object, test: object, options: TaskOptions, encoding: str | None) -> dict[str, Table]:
    kind = options.task
    if kind is None and options.labels and options.target:
        kind = "classification"
    how: dict[str, Any] = {"encoding": encoding, "inputs": options.inputs, "target": options.target, "kind": kind}
    tables = read_splits(data, **how)
    tables = tables if WHOLE not in tables else {"train": tables[WHOLE]}
    if "train" not in tables:
        raise DataError("the data have no split to train on", received=", ".join(tables), expected="train")
    tables |= {name: read(source, **how) for name, source in (("dev", dev), ("test", test)) if source is not None}
    tables = {name: tables[name] for name in ("train", "dev", "test") if name in tables}
    layout = tables["train"].layout
    return {name: table.aligned(layout) for name, table in tables.items()}


def _split(tables: dict[str, Table], options: TaskOptions) -> dict[str, Table]:
    wanted = {
        "dev": 0 if "dev" in tables else _size(options.dev_fraction),
        "test": 0 if "test" in tables else _size(options.test_fraction),
    }
    if not any(wanted.values()):
        return tables
    made = split(tables["train"], dev=wanted["dev"], test=wanted["test"], seed=options.split_seed).tables()
    return {
        name: tables[name] if name in tables and name != "train" else table
        for name, table in made.items()
        if len(table) or name in tables
    }


def _size(asked: float) -> float | int:
    return int(asked) if asked >= 1 else asked


def _task(table: Table, options: TaskOptions, guidance_in_row: bool = False) -> Task:
    return make_task(
        table,
        template=options.template,
        guidance=options.guidance_text(),
        labels=options.labels,
        metric=options.metric,
        chat=options.chat,
        head=options.head,
        pooling=options.pooling,
        decoding=Decoding(**options.decoding()),
        guidance_column=options.guidance_column,
        guidance_form=options.guidance_form,
        guidance_replaces=options.guidance_replaces,
        guidance_in_row=guidance_in_row,
    )


def limit_of(base: Base, max_length: int | None) -> int | None:
    """The most tokens that a row may have with everything in front of it."""
    return min((limit for limit in (base.context, max_length) if limit is not None), default=None)


def _checked(
    tables: Mapping[str, Table], task: Task, base: Base, limit: int | None, front: int | None = None
) -> CheckReport:
    special = base.kind != "decoder"
    if front is None:
        front = len(lead_ids(task, base.tokenizer, special_tokens=special))
    tail = len(token_ids(base.tokenizer, pieces(task, base.tokenizer).tail))

    def tokenize(text: str) -> list[int]:
        return token_ids(base.tokenizer, text, special)

    return check_tables(tables, task, tokenize=tokenize, context=limit, lead=front + tail)


def _refuse(report: CheckReport, skip_bad: bool) -> None:
    if report.refuses and not skip_bad:
        raise DataError(
            f"the data has problems\n{report.render()}", hint="mend them, or leave those rows out with --skip-bad"
        )


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
