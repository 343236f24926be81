"""The one attention function: it puts a row's foreword in front of the row's own keys and values.

It is registered under ``"foreword"`` in transformers' attention and mask tables (a name with "flash" in it would
trigger a kernel import) and hands over to the stock SDPA function, or to the model's own eager function where SDPA
would ignore soft-capping or sinks. What it should add comes from the innermost :class:`Source` that the calling thread
has put in force; a thread that has put nothing in force gets the stock function, unchanged.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from foreword.core.attention import attention_weights, last_layer_pruning, packing

NAME, EAGER_NAME = "foreword", "foreword_eager"


@dataclass(frozen=True)
class Call:
    """What reached the attention function at one site: keys ``[B, H, S, Dk]``, values ``[B, H, S, Dv]``.

    ``state``: a recurrent layer's state after the tokens, ``[B, 1, 1, D]``, instead.
    """

    module: nn.Module
    query_length: int
    key: Tensor
    value: Tensor
    causal: bool
    window: int | None
    state: bool = False


@dataclass(frozen=True)
class Front:
    """What stands in front at one site: keys ``[B, H, P, Dk]``, values ``[B, H, P, Dv]``, live ``[B, P]`` or None
    (all).

    ``lengths`` ``[B]`` is each row's own P: rows with a shorter foreword are padded at the end.
    """

    keys: Tensor
    values: Tensor
    live: Tensor | None
    lengths: Tensor


class Source(Protocol):
    """What can be put in force: it knows what to add at a module, and whether the module is one of its own."""

    def owns(self, module: nn.Module) -> bool: ...

    def front(self, module: nn.Module, rows: int) -> Front | None: ...

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None: ...

    def weight(self, name: str) -> Tensor | None: ...


_IN_FORCE: ContextVar[tuple[Source, ...] | None] = ContextVar("foreword_in_force", default=())
_RECORD: ContextVar[list[Call] | None] = ContextVar("foreword_record", default=None)
_LOCK = threading.Lock()
_ATTACHED: weakref.WeakKeyDictionary[nn.Module, Source] = weakref.WeakKeyDictionary()


def sources() -> tuple[Source, ...] | None:
    """What this thread has put in force, outermost first; None where it wants the plain model."""
    return _IN_FORCE.get()


@contextmanager
def only(chosen: tuple[Source, ...] | None) -> Iterator[None]:
    """Let exactly ``chosen`` be in force in this thread; None runs the plain model, whatever is attached to it."""
    token = _IN_FORCE.set(chosen)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


@contextmanager
def in_force(source: Source) -> Iterator[None]:
    """Let ``source`` decide, in this thread, what its modules are given; the innermost one wins."""
    with only((*(sources() or ()), source)):
        yield


@contextmanager
def recording(calls: list[Call]) -> Iterator[None]:
    """Append every attention call of this thread to ``calls``."""
    token = _RECORD.set(calls)
    try:
        yield
    finally:
        _RECORD.reset(token)


def source_for(module: nn.Module) -> Source | None:
    """The innermost source of this thread that owns ``module``, else what is attached to it for every thread."""
    chosen = sources()
    if chosen is None:
        return None
    return next((source for source in reversed(chosen) if source.owns(module)), _ATTACHED.get(module))


def attach_to(modules: Iterable[nn.Module], source: Source) -> None:
    """Let ``source`` decide for ``modules`` in every thread that has put nothing else in force for them."""
    for module in modules:
        _ATTACHED[module] = source


def detach_from(modules: Iterable[nn.Module]) -> None:
    """Undo :func:`attach_to`."""
    for module in modules:
        _ATTACHED.pop(module, None)


def is_recording() -> bool:
    """Whether this thread keeps what reaches the sites."""
    return _RECORD.get() is not None


def record(call: Call) -> None:
    """Keep ``call`` where this thread is :func:`recording`."""
    calls = _RECORD.get()
    if calls is not None:
        calls.append(call)


def front_of(module: nn.Module, rows: int) -> Front | None:
    """What is in force at ``module`` for a batch of ``rows`` rows; None for nothing."""
    source = source_for(module)
    return source.front(module, rows) if source is not None else None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention over the foreword and the row: query ``[B, Hq, T, Dk]``, key and value ``[B, H, S, D]``.

    Rows that are packed as ``[1, N]`` come as ``[1, H, N, D]`` and leave that way; here they stand side by side.

    Returns:
        The output ``[B, T, Hq, Dv]`` and None (or the weights, on the eager path).
    """
    packed = packing.current()
    if packed is None:
        return _attend(module, query, key, value, attention_mask, is_causal, position_bias, **kwargs)
    if position_bias is not None:
        raise NotImplementedError("a position bias between packed rows")
    last_layer_pruning.stop(key, value)
    output, _ = _attend(module, *packed.side_by_side(query, key, value, attention_mask), is_causal, **kwargs)
    return packed.joined(output), None


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    window = kwargs.get("sliding_window")
    record(Call(module, query.shape[2], key, value, causal, window))
    front = front_of(module, query.shape[0])
    if front is not None:
        if attention_mask is None and causal and query.shape[2] > 1:
            attention_mask = _causal_mask(query.shape[2], key.shape[2], key.device)
        if attention_mask is not None or front.live is not None or (causal and window is not None):
            attention_mask = _widen(attention_mask, front, query, key, window if causal else None)
        if position_bias is not None:
            position_bias = torch.cat(
                [position_bias.new_zeros(*position_bias.shape[:-1], front.keys.shape[2]), position_bias], -1
            )
        key = torch.cat([front.keys.to(key.dtype), key], 2)
        value = torch.cat([front.values.to(value.dtype), value], 2)
        is_causal = False
    if position_bias is not None:
        kwargs["position_bias"] = position_bias
    attention_weights.weigh(module, query, key, attention_mask, bool(causal and front is None), kwargs)
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        return _eager(module, query, key, value, attention_mask, bool(causal and front is None), **kwargs)
    return _sdpa(module, query, key, value, attention_mask, is_causal, **kwargs)


def _sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' function; where it would copy keys and values for every head of a group, as it does when there is a
    mask, torch's own is asked, which on CPU reads them as they are."""
    groups = query.shape[1] != key.shape[1] and query.shape[2] > 1
    if not groups or mask is None or key.device.type != "cpu" or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, mask, is_causal=is_causal, **kwargs)
    output = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask[..., : key.shape[2]],
        dropout_p=kwargs.get("dropout", 0.0),
        scale=kwargs.get("scaling"),
        enable_gqa=True,
    )
    return output.transpose(1, 2).contiguous(), None


def _causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """``[1, 1, T, S]``, aligned to the right: the last query sees every key."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)[None, None]


def _widen(mask: Tensor | None, front: Front, query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """The row's mask with columns for the foreword in front, boolean or additive as it came.

    Under a sliding window the foreword leaves the window like any token in a cache would: virtual token p of P stands
    P - p before the content, and a query that sees n content keys stands n - 1 after its start. That
    count holds for every padding side and every kind of cache.
    """
    queries, length = query.shape[2], front.keys.shape[2]
    if mask is None:
        mask = torch.ones(1, 1, queries, key.shape[2], dtype=torch.bool, device=key.device)
    allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    # One mask for all rows where they are alike.
    rows = mask.shape[0] if front.live is None and window is None else query.shape[0]
    shape = (rows, mask.shape[1], queries, length)
    seen = torch.ones(1, 1, 1, length, dtype=torch.bool, device=key.device)
    if front.live is not None:
        seen = front.live[:, None, None, :]
    if window is not None:
        before = front.lengths[:, None] - torch.arange(length, device=key.device)
        seen = seen & (allowed.sum(-1, keepdim=True) + before[:, None, None, :] <= window)
    seen = seen.expand(shape)
    mask = mask.expand(rows, -1, queries, -1)
    if mask.dtype != torch.bool:
        seen = torch.zeros(shape, dtype=mask.dtype, device=mask.device).masked_fill(~seen, torch.finfo(mask.dtype).min)
    return torch.cat([seen, mask], -1)


def _eager(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The model's own eager function: the only one that honours soft-capping and sinks. It wants an additive mask."""
    function: Callable[..., tuple[Tensor, Tensor | None]] = sys.modules[type(module).__module__].__dict__[
        "eager_attention_forward"
    ]
    if mask is None and causal and query.shape[2] > 1:
        mask = _causal_mask(query.shape[2], key.shape[2], key.device)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(
            ~mask, torch.finfo(query.dtype).min
        )
    return function(module, query, key, value, mask, **kwargs)


@dataclass
class _Routing:
    users: int
    before: list[tuple[PreTrainedModel, str | None]]


_ROUTED: weakref.WeakKeyDictionary[nn.Module, _Routing] = weakref.WeakKeyDictionary()


@contextmanager
def routed(model: PreTrainedModel) -> Iterator[None]:
    """Send the model's attention through :func:`attend`; the last to leave restores what was there before."""
    with _LOCK:
        routing = _ROUTED.get(model)
        if routing is None:
            inner = [m for m in model.modules() if isinstance(m, PreTrainedModel)]
            routing = _Routing(0, [(m, m.config._attn_implementation) for m in inner])
            # The same kind of mask as before: a pass of another thread may build it under one name and use it under
            # the other. And part by part: releases before 5.21 leave T5's stacks out.
            ours = EAGER_NAME if model.config._attn_implementation == "eager" else NAME
            model.set_attn_implementation(ours)
            for part in inner:
                part.config._attn_implementation = ours
            _ROUTED[model] = routing
        routing.users += 1
    try:
        yield
    finally:
        with _LOCK:
            routing.users -= 1
            if routing.users == 0:
                del _ROUTED[model]
                for part, name in routing.before:
                    part.config._attn_implementation = name


def _row_by_row(build: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """The model's own mask as it is for one row of T tokens, where rows are packed: ``[1, 1, T, T]`` or None."""

    def mask(*args: Any, **kwargs: Any) -> Tensor | None:
        packed = packing.current()
        if packed is not None:
            kwargs |= {"batch_size": 1, "q_length": packed.width, "kv_length": packed.width, "attention_mask": None}
        return build(*args, **kwargs)

    return mask


for _name, _masks in ((NAME, "sdpa"), (EAGER_NAME, "eager")):
    AttentionInterface.register(_name, attend)
    AttentionMaskInterface.register(_name, _row_by_row(ALL_MASK_ATTENTION_FUNCTIONS[_masks]))
