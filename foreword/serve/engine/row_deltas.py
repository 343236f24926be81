"""Low-rank changes of a step's tokens, each row with its own: hooks on the linear layers that some foreword changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from foreword.core.attention.pass_context import current
from foreword.errors import SettingsError
from foreword.serve.engine.foreword_bank import DeltaBank
from foreword.serve.engine.step_plan import StepPlan


@contextmanager
def changed(bank: DeltaBank, plan: StepPlan, places: set[int]) -> Iterator[None]:
    """Add their forewords' changes to the tokens of ``plan``; ``places`` of the bank hold some."""
    at = [(i, part.front) for i, part in enumerate(plan.single) if part.front in places]
    spans = [(s.begin, s.stop, s.part.front) for s in plan.segments if s.part.front in places]
    if not at and not spans:
        yield
        return
    tokens = torch.tensor([i for i, _ in at], dtype=torch.long, device=plan.device)
    fronts = torch.tensor([front for _, front in at], dtype=torch.long, device=plan.device)
    count = len(plan.ids)
    whole = len(at) == len(plan.single)

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if current().attention is None:
            return None  # a pass of another thread
        x, y, (a, b) = args[0].reshape(-1, args[0].shape[-1]), output.reshape(-1, output.shape[-1]), bank.pairs[module]
        if len(x) != count:
            raise SettingsError("a changed layer sees other tokens than the rows'", expected=count, received=len(x))
        if at:
            rows = x[: len(at)] if whole else x[tokens]
            low = torch.bmm(rows[:, None], a[fronts].transpose(1, 2))
            y = y.index_add(0, tokens, torch.bmm(low, b[fronts].transpose(1, 2))[:, 0])
        for begin, stop, front in spans:
            y[begin:stop] += linear(linear(x[begin:stop], a[front]), b[front])
        return y.view(output.shape)

    handles = [layer.register_forward_hook(add) for layer in bank.pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
