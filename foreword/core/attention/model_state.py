"""What is known of one model and is asked of it once: kept on the model itself, so it ends with the model.

A shallow copy of a model (what is attached to it is one) has the same layers and the same state; a deep copy has other
layers and a state of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")
_STATE = "_foreword_state"


class ModelState:
    """Facts by their name. The sites, verdicts of probes (may its rows be packed?), the configurations it reads."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelState:
        return ModelState()

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelState, ()


def fact(model: nn.Module, name: str, ask: Callable[[], T]) -> T:
    """The fact ``name`` of ``model``, which ``ask`` finds out where nobody has yet.

    It is asked outside of the caller's autocast and inference mode: what is found stays true for everybody.
    """
    facts = vars(model).setdefault(_STATE, ModelState()).facts
    if name not in facts:
        device = next((parameter.device.type for parameter in model.parameters()), "cpu")
        plainly = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with plainly, torch.inference_mode(False):
            facts[name] = ask()
    answer: T = facts[name]
    return answer
