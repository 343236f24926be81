"""A float16 base: the loss is scaled up before backward, so that small gradients do not round to zero on their way.

As in mixed-precision training (Micikevicius et al. 2018), with powers of two, which change no other bit. A scale at
which a gradient overflows is halved and the step's passes are made again; after some good steps it is doubled. Other
number formats have the exponents of float32 and need none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from foreword.training.events import TrialState

FIRST, _GROWS_EVERY = 2.0**12, 200


def scale_of(dtype: torch.dtype, states: Iterable[TrialState]) -> float:
    """What the losses of trials that share passes are multiplied by: 1 where the base is not in float16."""
    return min(state.loss_scale or FIRST for state in states) if dtype == torch.float16 else 1.0


def unscale(parameters: Sequence[Tensor], scale: float) -> bool:
    """Divide the gradients by ``scale``; whether all are finite."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    for gradient in gradients:
        gradient.div_(scale)
    return not gradients or bool(torch.stack([g.isfinite().all() for g in gradients]).all())


def overflowed(
    states: Sequence[TrialState], parameters: Sequence[Tensor], losses: Iterable[float], scale: float
) -> bool:
    """Take the scale off the gradients, and set the one of the next passes.

    Returns:
        Whether the passes are to be made again, with half the scale. A loss that is not finite itself is not the
        scale's doing.
    """
    if scale == 1.0 and not any(state.loss_scale for state in states):
        return False  # not in float16
    again = not unscale(parameters, scale) and scale > 1.0 and all(map(math.isfinite, losses))
    grows = not again and scale < FIRST and (states[0].step + 1) % _GROWS_EVERY == 0
    for state in states:
        state.loss_scale = scale / 2 if again else scale * 2 if grows else scale
    return again
