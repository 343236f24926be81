"""What a run does before its first step: the frozen base's work that no step changes, and how many rows fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from foreword.core.passes.tensor_cache import TensorCache
from foreword.data.tokens.examples import Example
from foreword.runs.prepare.prepare import Prepared, say_nothing
from foreword.runs.train.run_record import recorded
from foreword.storage import write_atomically
from foreword.training.batch_size import rows_that_fit
from foreword.training.loop import Score, Trial
from foreword.training.reuse import Filling, Reuse, prepare_reuse


def keep_work(prepared: Prepared, folder: Path) -> tuple[Reuse, TensorCache]:
    """Do what is the same in every epoch once; the store is to be cleared when the run has what it came for."""
    settings, base = prepared.request.settings, prepared.base
    store = TensorCache(settings.cache_memory_mib * 2**20, settings.cache_disk_mib * 2**20, folder / "cache")
    if not settings.cache_memory_mib and not settings.cache_disk_mib:
        return Reuse(), store
    value = prepared.writer().write()
    filling = Filling(
        json.dumps([base.fingerprint, str(base.model.dtype), base.model.device.type], sort_keys=True),
        settings.per_device_eval_batch_size,
        partial(prepared.request.progress or say_nothing, "compute what stays the same"),
    )
    objective = prepared.asker.objective(value)
    return prepare_reuse(base.model, value, objective, prepared.examples["train"], store, filling), store


def fitted(prepared: Prepared, folder: Path, together: int) -> int:
    """Rows of a pass at most where the batch size is auto, 0 otherwise; found once and recorded in ``run.json``, so
    that a resumed run does as before."""
    settings, rows = prepared.request.settings, prepared.examples["train"]
    if settings.per_device_train_batch_size != "auto":
        return 0
    record = recorded(folder)
    if "rows_at_once" not in record:

        def make(some: Sequence[Example]) -> list[Trial]:
            return [unscored(prepared, some) for _ in range(together)]

        record["rows_at_once"] = rows_that_fit(make, rows, settings.memory_limit_mib * 2**20)
        write_atomically(folder / "run.json", [json.dumps(record, indent=1, ensure_ascii=False).encode()])
    return int(record["rows_at_once"])


def unscored(prepared: Prepared, rows: Sequence[Example]) -> Trial:
    """A trial of the run's method over ``rows`` whose evaluations ask no model: to see what a step costs."""
    settings = replace(prepared.request.settings, num_train_epochs=3.0, max_steps=-1)
    return prepared.trial(rows, 1e-3, lambda _: Score(0.0, 0.0), settings)
