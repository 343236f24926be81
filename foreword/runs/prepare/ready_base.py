"""The second stage of a run: its base, loaded, and everything that stands in front of a row on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch

from foreword.core.base.load import Base
from foreword.data.tokens.examples import Encoder
from foreword.data.tokens.tokenize import lead_ids
from foreword.evaluation.predict import Asker
from foreword.methods.base import Start
from foreword.runs.prepare.base import base_for
from foreword.runs.prepare.calibrate_prompt import calibrated
from foreword.runs.prepare.encode_splits import window_full
from foreword.runs.prepare.ready_data import ReadyData
from foreword.runs.prepare.start import Begin, longest_prefix
from foreword.settings.schema import ProgressCall


@dataclass(frozen=True)
class ReadyBase:
    """A base that the task can be asked on.

    Args:
        asker: the task, calibrated where that is asked for, on the base.
        start: what the method starts from.
        front: the most positions that a run needs in front of a row.
        limit: the most tokens that a row may have with everything in front of it; None: any number.
    """

    base: Base
    asker: Asker
    start: Start
    front: int
    limit: int | None

    def encoder(self, first_k: int | None) -> Encoder:
        """How its rows become token ids."""
        return self.asker.encoder(first_k)


def ready_base(data: ReadyData, begun: Begin, report: ProgressCall, trained: bool = True) -> ReadyBase:
    """Load the base, or train it from scratch on the rows, and see what stands in front of them.

    Args:
        trained: False: a base from scratch is not trained, for an estimate.

    Raises:
        BaseError: it cannot be loaded.
        SettingsError: task, method and base do not go together.
    """
    request = begun.request
    if request.settings.num_threads:
        torch.set_num_threads(request.settings.num_threads)
    base = base_for(request, data.task, data.tables, trained, report, partial(begun.accept, data.task))
    rows_at_once = request.settings.per_device_eval_batch_size
    asker = Asker(base.model, base.tokenizer, data.task, base.kind != "decoder", rows_at_once)
    _refuse_long_guidance(asker, limit_of(base, request.settings.max_length))
    if request.task_options.calibrate:
        asker = replace(asker, task=calibrated(asker))
    start = begun.start(asker.task, base)
    front = longest_prefix(start, begun.method, base, asker)
    return ReadyBase(base, asker, start, front, limit_of(base, request.settings.max_length))


def _refuse_long_guidance(asker: Asker, limit: int | None) -> None:
    """Refuse a guidance that no row could follow, before its keys and values are computed. Raises SettingsError."""
    lead = lead_ids(asker.task, asker.tokenizer, special_tokens=asker.special_tokens, whatever_place=True)
    if limit is not None and len(lead) >= limit:
        raise window_full(len(lead), limit)


def limit_of(base: Base, max_length: int | None) -> int | None:
    """The most tokens that a row may have with everything in front of it."""
    return min((limit for limit in (base.context, max_length) if limit is not None), default=None)
