"""The one attention function: it puts a row's foreword in front of the row's own keys and values.

It is registered under ``"foreword"`` in transformers' attention and mask tables (a name with "flash" in it would
trigger a kernel import) and hands over to the stock SDPA function, or to the model's own eager function where SDPA
would ignore soft-capping or sinks. What it should add comes from the innermost
:class:`~foreword.core.attention.sources.Source` that the calling thread has put in force; a thread that has put nothing
in force gets the stock function, unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from foreword.core.attention import attention_weights, last_layer_pruning, masks
from foreword.core.attention.pass_context import current, source_for
from foreword.core.attention.product_attention import is_faster, product_attention
from foreword.core.attention.sources import Call, Front

NAME, EAGER_NAME = "foreword", "foreword_eager"


def is_recording() -> bool:
    """Whether this thread keeps what reaches the sites."""
    return current().calls is not None


def record(call: Call) -> None:
    """Keep ``call`` where this thread records."""
    calls = current().calls
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
    here = current()
    if here.attention is not None:
        return here.attention(module, query, key, value, attention_mask, **kwargs)
    packed = here.packed
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
    mask: Tensor | None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    causal = bool(is_causal if is_causal is not None else getattr(module, "is_causal", True))
    record(Call(module, query.shape[2], key, value, causal, kwargs.get("sliding_window")))
    window, causal = kwargs.get("sliding_window") if causal else None, causal and query.shape[2] > 1
    front = front_of(module, query.shape[0])
    # Scores that are capped, or sinks beside them: only the model's own plain function knows these.
    plainly = kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None
    unread = 0
    if front is not None:
        masked = mask is not None or front.live is not None or window is not None
        if masked or (causal and (position_bias is not None or not fast_without_mask(key))):
            mask, causal = masks.widened(mask, front, query, key, window, causal, additive=not plainly), False
        elif causal:
            # As many queries as there are keys in front, which nobody reads: a causal mask is then one from the left
            # again, which fast kernels know without being given it.
            unread = front.keys.shape[2]
            query = nn.functional.pad(query, (0, 0, unread, 0))
        is_causal = causal
        if position_bias is not None:
            position_bias = nn.functional.pad(position_bias, (front.keys.shape[2], 0))
        key, value = _joined(front.keys, key), _joined(front.values, value)
    if position_bias is not None:
        kwargs["position_bias"] = position_bias
    attention_weights.weigh(module, query[:, :, unread:], key, mask, unread if causal else None, kwargs)
    if plainly:
        output, weights = _eager(module, query, key, value, mask, causal, **kwargs)
    else:
        output, weights = _sdpa(module, query, key, value, mask, is_causal, **kwargs)
    return (output[:, unread:] if unread else output), weights


def fast_without_mask(key: Tensor) -> bool:
    """Whether the fastest kernels of the keys' device know a causal mask, but no other one. On CPU they take any, and
    one mask for all rows and layers costs less than queries that nobody reads."""
    return key.device.type != "cpu"


def _joined(front: Tensor, own: Tensor) -> Tensor:
    return torch.cat([front.to(own.device, own.dtype), own], 2)


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
    mask, torch's own is asked, which on CPU reads them as they are; and batched products where those are faster."""
    if kwargs.get("position_bias") is None and not kwargs.get("dropout") and is_faster(query, key, mask):
        causes = mask is None and (is_causal if is_causal is not None else getattr(module, "is_causal", True))
        if not causes or query.shape[2] == key.shape[2]:
            seen = masks.causal(query.shape[2], key.shape[2], key.device) if causes else mask
            output = product_attention(query, key, value, seen, kwargs.get("scaling"))
            return output.transpose(1, 2).contiguous(), None
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


def _eager(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The model's own eager function: the only one that honours soft-capping and sinks. It wants an additive mask."""
    function: Callable[..., tuple[Tensor, Tensor | None]] = sys.modules[type(module).__module__].__dict__[
        "eager_attention_forward"
    ]
    if mask is None and causal:
        mask = masks.causal(query.shape[2], key.shape[2], key.device)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(
            ~mask, torch.finfo(query.dtype).min
        )
    return function(module, query, key, value, mask, **kwargs)


def _row_by_row(build: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """The model's own mask as it is for one row of T tokens, where rows are packed: ``[1, 1, T, T]`` or None."""

    def mask(*args: Any, **kwargs: Any) -> Tensor | None:
        if current().attention is not None:
            return None
        packed = current().packed
        if packed is not None:
            kwargs |= {"batch_size": 1, "q_length": packed.width, "kv_length": packed.width, "attention_mask": None}
        padding = kwargs.get("attention_mask")
        if isinstance(padding, Tensor) and padding.device.type != "cpu" and torch.is_grad_enabled():
            # Whether it could be left out would be asked of the accelerator, and a training step would wait for it.
            kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return build(*args, **kwargs)

    return mask


for _name, _masks in ((NAME, "sdpa"), (EAGER_NAME, "eager")):
    AttentionInterface.register(_name, attend)
    AttentionMaskInterface.register(_name, _row_by_row(ALL_MASK_ATTENTION_FUNCTIONS[_masks]))
