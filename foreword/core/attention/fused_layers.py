"""Norms, gated MLPs and rotary positions of a frozen base, each as one operation of autograd.

transformers writes them as chains of elementwise operations, each of which goes over the memory again and keeps what
its own gradient needs. Between frozen weights only the gradient of the activations is wanted: it takes fewer passes,
and of a gated MLP two of its three wide activations. Nothing is taken on trust: a module's or function's own result and
gradient are compared with ours once for a model, and whoever computes anything else keeps its own. What is in force in
one thread changes nothing in another, nor where no gradient is wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from foreword.core.attention.hooks import Forward, HookSet, Level, Wrapped
from foreword.core.attention.model_state import fact
from foreword.core.attention.pass_context import aside, current, holding
from foreword.core.inject.sites import find_sites

_ROTARY = "apply_rotary_pos_emb"
_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
# transformers has had its own class for it and torch's.
_SILU: tuple[type, ...] = (nn.SiLU, type(ACT2FN["silu"]))
_FORMATS = (torch.float32, torch.bfloat16, torch.float16)


class _Norm(torch.autograd.Function):
    """``x / rms(x) * weight`` over the last dimension: x is normed in float32, rounded to its own format, and weighted
    there, as transformers' modules do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        scale = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normed = wide * scale if wide is x else wide.mul_(scale)
        out: Tensor = normed.to(x.dtype).mul_(weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        weighted, wide = (given * weight).float(), x.float()
        along = torch.linalg.vecdot(weighted, wide)[..., None] * (scale**3 / x.shape[-1])
        return weighted.mul_(scale).addcmul_(wide, along, value=-1).to(x.dtype), None, None


class _Gated(torch.autograd.Function):
    """``silu(gate) * up``, of which only ``gate`` and ``up`` are kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(given * up, gate), F.silu(gate).mul_(given)


class _Rotated(torch.autograd.Function):
    """``x * cos + (-x2, x1) * sin`` where x1, x2 are the halves of ``x [B, H, T, D]``; cos and sin ``[B, 1, T, D]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half, out = x.shape[-1] // 2, x * cos
        out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        half, out = given.shape[-1] // 2, given * cos
        out[..., half:].addcmul_(given[..., :half], sin[..., :half], value=-1)
        out[..., :half].addcmul_(given[..., half:], sin[..., half:])
        return out, None, None


@contextmanager
def fused(model: PreTrainedModel) -> Iterator[None]:
    """Let this thread's passes of ``model`` that want gradients go through the operations above, where they are the
    model's own."""
    # A verdict is of the number format in which it was found: rounding shows other things.
    modules, sources = fact(model, f"fused {model.dtype}", lambda: _replaceable(model))
    hold = HookSet()
    for module in modules:
        hold.wrap(module, Level.FUSED, partial(_instead, module))
    for source in sources:
        hold.wrap(source, Level.FUSED, _rotary, _ROTARY)
    with holding(hold, fused=True):
        yield


def _replaceable(model: PreTrainedModel) -> tuple[list[nn.Module], list[ModuleType]]:
    """The modules, and the source files' rotary functions, that may be replaced: each instance is judged by itself."""
    modules = [module for module in model.modules() if _same_module(module)]
    names = sorted({type(module).__module__ for module in find_sites(model).modules})
    return modules, [sys.modules[name] for name in names if _same_rotary(sys.modules[name])]


def _ours(module: nn.Module, own: Forward) -> Forward | None:
    """What may stand for a module's forward; None for a module of another kind."""
    if all(hasattr(module, name) for name in _PROJECTIONS) and isinstance(getattr(module, "act_fn", None), _SILU):
        return _gated(module, own)
    return _norm(module, own) if type(module).__name__.endswith("RMSNorm") else None


def _gated(module: Any, own: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or module.training or not _wanted(args[0]):
            return own(*args, **kwargs)
        return module.down_proj(_Gated.apply(module.gate_proj(args[0]), module.up_proj(args[0])))  # type: ignore[no-untyped-call]

    return run


def _norm(module: Any, own: Forward) -> Forward:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))

    def run(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or not _wanted(args[0]) or args[0].dtype not in _FORMATS:
            return own(*args, **kwargs)
        weight = module.weight
        if weight.requires_grad or eps is None or weight.dtype != args[0].dtype:
            return own(*args)
        return _Norm.apply(args[0], weight, eps)  # type: ignore[no-untyped-call]

    return run


def _rotary(own: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        formats = {x.dtype if isinstance(x, Tensor) else None for x in args}
        if kwargs or len(args) != 4 or len(formats) > 1 or not formats <= {*_FORMATS}:
            return own(*args, **kwargs)
        query, key, cos, sin = args
        if not _wanted(query) or cos.ndim != 3 or not cos.shape[-1] == query.shape[-1] == key.shape[-1]:
            return own(*args)
        cos, sin = cos[:, None], sin[:, None]
        return _Rotated.apply(query, cos, sin), _Rotated.apply(key, cos, sin)  # type: ignore[no-untyped-call]

    return run


def _wanted(x: Any) -> bool:
    return current().fused and isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled()


def _instead(module: nn.Module, own: Forward) -> Forward:
    replacement = _ours(module, own)
    assert replacement is not None
    return replacement


def _same_module(module: nn.Module) -> bool:
    ours, weight = _ours(module, module.forward), next(iter(module.parameters()), None)
    if ours is None or weight is None:
        return False
    return _same(module.forward, ours, weight, (1, 3, weight.shape[-1]))


def _same_rotary(source: ModuleType) -> bool:
    own = getattr(source, _ROTARY, None)
    # Another model of the family may have replaced it already.
    own = own.real if isinstance(own, Wrapped) else own
    if own is None:
        return False
    # It serves every model of the family, whatever format that is in.
    likes = (torch.empty(0, dtype=dtype) for dtype in _FORMATS)
    return all(_same(own, _rotary(own), like, (1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8)) for like in likes)


def _same(own: Forward, ours: Forward, like: Tensor, *shapes: tuple[int, ...]) -> bool:
    """Whether both give the same for random numbers of these shapes, and the same gradients of the first two.

    The tokens (the last dimension but one) are small, large and very large, so that whoever clamps shows it.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1.0, 30.0, 1000.0])[:, None]
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    given = [(x * sizes).to(like).requires_grad_() for x in given[:2]] + [x.to(like) for x in given[2:]]
    results = []
    try:
        for function in (own, ours):
            with torch.enable_grad(), torch.autocast(like.device.type, enabled=False), aside(fused=True):
                out = function(*given)
                parts = out if isinstance(out, tuple) else (out,)
                weights = [torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p) for p in parts]
                total = torch.stack([(p * w).float().sum() for p, w in zip(parts, weights, strict=True)]).sum()
                results.append([*parts, *torch.autograd.grad(total, given[:2])])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
        return False
    return all(_close(a, b) for a, b in zip(*results, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether two results ``[..., T, D]`` are equal for each token, relative to its own largest number: in short
    formats up to the rounding of a sum of two products."""
    off = max(1e-4, 2 * torch.finfo(a.dtype).eps)
    size = a.abs().amax(-1, keepdim=True).float()
    equal = a.dtype == b.dtype and bool(torch.isfinite(a).all())
    return equal and bool(((a.float() - b.float()).abs() <= off * size).all())
