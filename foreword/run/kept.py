"""What a run keeps of the frozen base's work: memory first, then the folder ``cache`` of the run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from foreword.core.store import Store
from foreword.methods.base import make_writer
from foreword.run.prepare import Prepared, say_nothing
from foreword.training.reuse import Reuse, prepare_reuse


def keep_work(prepared: Prepared, folder: Path) -> tuple[Reuse, Store]:
    """Do what is the same in every epoch once; the store is to be cleared when the run has what it came for."""
    settings, base = prepared.request.settings, prepared.base
    store = Store(settings.cache_memory_mib * 2**20, settings.cache_disk_mib * 2**20, folder / "cache")
    if not settings.cache_memory_mib and not settings.cache_disk_mib:
        return Reuse(), store
    value = make_writer(prepared.method, prepared.start).write()
    found = prepare_reuse(
        base.model,
        value,
        prepared.asker.objective(value),
        prepared.examples["train"],
        store,
        json.dumps([base.fingerprint, str(base.model.dtype), base.model.device.type], sort_keys=True),
        settings.per_device_eval_batch_size,
        partial(prepared.request.progress or say_nothing, "compute what stays the same"),
    )
    return found, store
