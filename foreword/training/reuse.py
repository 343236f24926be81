"""Work on the frozen base that is the same in every epoch, done once before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.layer_cache import Enough, LayerCache, first_trained, reusing, why_not
from foreword.core.passes.memory import in_halves
from foreword.core.passes.prefix_cache import PrefixCache, begins, has_past
from foreword.core.passes.tensor_cache import TensorCache
from foreword.data.tokens.examples import Example, eval_batches
from foreword.messages import Message
from foreword.training.loop import Trial
from foreword.training.objective import Objective


@dataclass(frozen=True)
class Reuse:
    """What is not computed again: the layers below all that trains, or what stands before the soft slots; or why every
    layer is.

    ``why_not`` is empty where there is nothing to say: every layer trains.
    """

    frozen: LayerCache | None = None
    past: PrefixCache | None = None
    why_not: str = ""

    def give(self, trial: Trial) -> Trial:
        """Let ``trial`` use it; returns the trial."""
        trial.frozen, trial.past = self.frozen, self.past
        return trial


@dataclass(frozen=True)
class Filling:
    """How rows go through the base once.

    Args:
        name: what tells this base from others that use the same store.
        batch_size: rows of a pass.
        report: told how many rows are done.
    """

    name: str = ""
    batch_size: int = 32
    report: Callable[[int, int], None] = lambda done, total: None


def prepare_reuse(
    model: PreTrainedModel,
    value: Foreword,
    objective: Objective,
    rows: Sequence[Example],
    store: TensorCache,
    filling: Filling | None = None,
) -> Reuse:
    """Compute once for all ``rows`` what no step changes.

    The rows go through in batches that depend on them alone, so a resumed run finds the same states, bit for bit.

    Args:
        value: as the writer wrote it, with its graph: what requires a gradient trains.
        objective: of the training rows; its passes are what is taken up.
        store: where the states are kept.
    """
    filling = filling or Filling()
    if has_past(model, value):
        return _beginnings(model, objective, rows, store, filling)
    layer = first_trained(model, value)
    if layer == 0:
        return Reuse()
    problem = why_not(model)
    if problem:
        return Reuse(why_not=problem)
    frozen = LayerCache(model, layer, store, filling.name)
    tokens = sum(len(objective.lead) + len(row.input_ids) + len(row.target_ids) for row in rows)
    if not store.fits(frozen.size(tokens)):
        return Reuse(why_not=Message("their states take {n:,.0f} MiB", n=frozen.size(tokens) / 2**20))
    if not _filled(frozen, value, objective, rows, filling):
        return Reuse(why_not=Message("its passes cannot be cut in two"))
    if frozen.refused:
        return Reuse(why_not=Message("their states do not fit into cache_memory_mib and cache_disk_mib"))
    return Reuse(frozen)


def _filled(
    frozen: LayerCache, value: Foreword, objective: Objective, rows: Sequence[Example], filling: Filling
) -> bool:
    """Keep the states of all rows; False where a pass does not stop at the layer."""
    model, value = frozen.model, value.detach()

    def fill(part: Sequence[Example]) -> list[object]:
        try:
            # In this order, as in a step of training: the injection has moved the positions when the key is made.
            with torch.no_grad(), injected(model, [value]), reusing(frozen):
                objective.outputs(model, part)
        except Enough:
            return [True] * len(part)
        return [False]

    done, frozen.filling = 0, True
    for batch in eval_batches(rows, filling.batch_size):
        if not all(in_halves(fill, [rows[i] for i in batch], model.device)):
            return False
        done += len(batch)
        filling.report(done, len(rows))
    frozen.filling = False
    return True


def _beginnings(
    model: PreTrainedModel,
    objective: Objective,
    rows: Sequence[Example],
    store: TensorCache,
    filling: Filling,
) -> Reuse:
    """Rows that find no room are simply read as a whole."""
    led = [(*objective.lead, *row.input_ids) for row in rows]
    if not objective.reads_the_end or not any(map(begins, led)):
        return Reuse()
    past = PrefixCache(model, store, filling.name)
    for done, ids in enumerate(led, 1):
        past.keep(ids)
        filling.report(done, len(rows))
    return Reuse(past=past)
