"""How much arithmetic a training step needs, and how fast this machine does arithmetic: what a step's time is held
against."""

from __future__ import annotations

import time

import torch
from torch import nn
from transformers import PreTrainedModel

from foreword.core.inject.sites import backbone

_SIZE = 768


def weights(model: PreTrainedModel) -> int:
    """Weights that every token is multiplied with: the matrices behind the embedding, those of a recurrent layer too,
    without the output layer, which few tokens reach."""
    layers = [module for module in backbone(model).modules() if not isinstance(module, nn.Embedding)]
    matrices = {weight for layer in layers for weight in layer.parameters(recurse=False) if weight.ndim > 1}
    output = model.get_output_embeddings()
    if output is not None:
        matrices.discard(output.weight)
    return sum(weight.numel() for weight in matrices)


def operations(model: PreTrainedModel, tokens: int, trained: bool = False) -> float:
    """Floating-point operations that a training step over ``tokens`` tokens cannot do without.

    A multiplication and an addition for each weight and token forward, and as many backward through the activations;
    where the weights themselves are ``trained``, as many again for their gradients. Attention (small beside it for rows
    of up to some hundred tokens), norms, the output layer and padding are not counted: whatever they cost is distance
    from this floor.
    """
    return (6.0 if trained else 4.0) * weights(model) * tokens


def matrix_rate(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, repeats: int = 6) -> float:
    """Floating-point operations a second of a large matrix product on ``device``: the best of several."""
    a, b = (torch.randn(_SIZE, _SIZE, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(repeats + 1):
        began = time.perf_counter()
        # Read back, so that an accelerator has finished.
        float((a @ b)[0, 0])
        best = max(best, 2 * _SIZE**3 / (time.perf_counter() - began))
    return best


def memory_rate(device: torch.device | str = "cpu", repeats: int = 6) -> float:
    """Bytes a second that are read and written by copying a block larger than any cache: the best of several."""
    source = torch.zeros(1 << 27, device=device, dtype=torch.uint8)
    target, best = torch.empty_like(source), 0.0
    for _ in range(repeats + 1):
        began = time.perf_counter()
        target.copy_(source)
        int(target[0])
        best = max(best, 2 * source.numel() / (time.perf_counter() - began))
    return best
