"""The attention of a step: every token sees its row's foreword, its row's slot, and nothing of any other row.

Rows that write one token each are computed together, one matrix product over all their slots. What stands in front is
read from the bank, once for all rows that have it, and its scores stand beside the row's own in one softmax, so that
keys and values of a foreword are in no row's slot. Parts of prompts are computed row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.pass_context import within
from foreword.core.attention.routing import routed
from foreword.serve.engine.foreword_bank import PrefixBank
from foreword.serve.engine.slot_cache import SlotCache, slot_slice
from foreword.serve.engine.step_plan import Part, Segment, StepPlan


@contextmanager
def by_rows(model: PreTrainedModel, cache: SlotCache, bank: PrefixBank, plan: StepPlan) -> Iterator[None]:
    """Let the model's attention read ``plan`` out of ``cache`` and ``bank`` in this thread, and in no other."""
    with routed(model), within(attention=partial(attend_by_rows, (cache, bank, plan))):
        yield


def attend_by_rows(
    step: tuple[SlotCache, PrefixBank, StepPlan],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function as transformers calls it: ``query [1, Hq, N, Dk]`` -> ``[1, N, Hq, Dv]``."""
    cache, bank, plan = step
    layer = cache.layer_of(module)
    cache.file(layer, plan, key, value)
    rows = _Rows(
        (cache.keys[layer], cache.values[layer]),
        bank.layer(layer),
        plan=plan,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=kwargs.get("sliding_window"),
        softcap=kwargs.get("softcap"),
        sinks=kwargs.get("s_aux"),
    )
    output = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    count = len(plan.single)
    if count:
        output[:count] = rows.single(query[0, :, :count].transpose(0, 1))
    for segment in plan.segments:
        output[segment.begin : segment.stop] = rows.chunk(query[:, :, segment.begin : segment.stop], segment)
    return output[None], None


class _Rows:
    """One layer of one step: keys and values of the slots ``[S, H, M, D]`` and of the forewords ``[F, H, P, D]``."""

    def __init__(
        self,
        slots: tuple[Tensor, Tensor],
        fronts: tuple[Tensor, Tensor],
        *,
        plan: StepPlan,
        scale: float,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> None:
        (self.keys, self.values), (self.front_keys, self.front_values) = slots, fronts
        self.plan, self.scale, self.window, self.softcap, self.sinks = plan, scale, window, softcap, sinks

    def single(self, query: Tensor) -> Tensor:
        """``[n, Hq, Dk]`` -> ``[n, Hq, Dv]``: the rows that read one token, all at once."""
        heads = self.keys.shape[1]
        grouped = query.reshape(len(query), heads, -1, query.shape[-1])
        longest = max(part.end for part in self.plan.single)
        keys, values = self._slots(self.keys, longest), self._slots(self.values, longest)
        scores = [grouped @ keys.transpose(2, 3)]
        front = self._front()
        if front is not None:
            scores.insert(0, _times(grouped, front[0].transpose(2, 3)))
        weights = self._weigh(torch.cat(scores, -1), self._single_mask(longest))
        width = weights.shape[-1] - longest
        result = weights[..., width:] @ values
        if front is not None:
            result = result + _times(weights[..., :width], front[1])
        return result.reshape(len(query), -1, result.shape[-1])

    def _slots(self, store: Tensor, longest: int) -> Tensor:
        """The rows' slots: a view where they follow each other."""
        slots = [part.slot for part in self.plan.single]
        near = slot_slice(slots)
        return store[self.plan.slots[: len(slots)], :, :longest] if near is None else store[near, :, :longest]

    def _front(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values in front of the single rows ``[n or 1, H, P, D]``: of one foreword as they are, of several
        gathered for this layer and forgotten after it."""
        width = max(part.prefix for part in self.plan.single)
        if width == 0:
            return None
        fronts = [part.front for part in self.plan.single]
        if len(set(fronts)) == 1:
            only = fronts[0]
            return self.front_keys[only : only + 1, :, :width], self.front_values[only : only + 1, :, :width]  # type: ignore[operator]
        places = [0 if front is None else front for front in fronts]
        near = slot_slice(places)
        if near is not None:
            return self.front_keys[near, :, :width], self.front_values[near, :, :width]
        index = self._once("front", lambda: torch.tensor(places, device=self.plan.device))
        return self.front_keys[index, :, :width], self.front_values[index, :, :width]

    def _weigh(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax weights of ``scores [..., S]``, in their type; soft-capping and sinks as the model's own function."""
        scores = scores.float() * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if mask is not None:
            scores = scores.masked_fill(mask, float("-inf"))
        if self.sinks is None:
            return scores.softmax(-1).to(self.keys.dtype)
        sinks = self.sinks.float().reshape(1, scores.shape[1], -1, 1).expand(*scores.shape[:-1], 1)
        return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1].to(self.keys.dtype)

    def _once(self, key: object, make: Any) -> Any:
        """What ``make`` gives, worked out in the step's first layer of this kind."""
        if key not in self.plan.masks:
            self.plan.masks[key] = make()
        return self.plan.masks[key]

    def _single_mask(self, longest: int) -> Tensor | None:
        """``[n, 1, 1, P + S]``, true where a row sees nothing; None where every row sees everything."""
        mask: Tensor | None = self._once(("single", self.window), lambda: self._hidden_from_single(longest))
        return mask

    def _hidden_from_single(self, longest: int) -> Tensor | None:
        parts = self.plan.single
        width = max(part.prefix for part in parts)
        ends = torch.tensor([[part.end] for part in parts], device=self.plan.device)
        lengths = torch.tensor([[part.prefix] for part in parts], device=self.plan.device)
        hidden = _hidden(ends - 1, lengths, width, longest, self.window)
        return hidden[:, None, None, :] if bool(hidden.any()) else None

    def chunk(self, query: Tensor, segment: Segment) -> Tensor:
        """``[1, Hq, T, Dk]`` -> ``[T, Hq, Dv]``: a part of one row's prompt."""
        part = segment.part
        keys, values = self.keys[part.slot, None, :, : part.end], self.values[part.slot, None, :, : part.end]
        if part.prefix:
            front = part.front
            keys = torch.cat([self.front_keys[front, None, :, : part.prefix], keys], 2)
            values = torch.cat([self.front_values[front, None, :, : part.prefix], values], 2)
        if self.softcap is not None or self.sinks is not None:
            return self._chunk_in_full(query, keys, values, part)
        whole = part.start + part.prefix == 0 and (self.window is None or part.end <= self.window)
        result = nn.functional.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=None if whole else ~self._chunk_mask(part),
            is_causal=whole,
            scale=self.scale,
            enable_gqa=True,
        )
        return result[0].transpose(0, 1)

    def _chunk_in_full(self, query: Tensor, keys: Tensor, values: Tensor, part: Part) -> Tensor:
        _, heads, tokens, size = query.shape
        grouped = query.reshape(1, keys.shape[1], -1, size)
        scores = (grouped @ keys.transpose(2, 3)).view(1, heads, tokens, -1)
        weights = self._weigh(scores, self._chunk_mask(part))
        result = weights.reshape(1, keys.shape[1], -1, weights.shape[-1]) @ values
        return result.view(heads, tokens, -1).transpose(0, 1)

    def _chunk_mask(self, part: Part) -> Tensor:
        """``[T, P + S]``, true where a token of the part sees nothing."""

        def make() -> Tensor:
            at = torch.arange(part.start, part.end, device=self.plan.device)[:, None]
            lengths = torch.full_like(at, part.prefix)
            return _hidden(at, lengths, part.prefix, part.end, self.window)

        mask: Tensor = self._once((part.slot, self.window), make)
        return mask


def _hidden(at: Tensor, lengths: Tensor, width: int, longest: int, window: int | None) -> Tensor:
    """What tokens at the places ``at [n, 1]`` of their rows do not see ``[n, P + S]``.

    Args:
        lengths: each row's own P ``[n, 1]``.
        width: P of the widest.
        longest: S.
        window: of a sliding window, in tokens; the foreword leaves it like any token in front would.
    """
    front = torch.arange(width, device=at.device)[None]
    own = torch.arange(longest, device=at.device)[None]
    hidden_front, hidden_own = (front >= lengths).expand(len(at), -1), own > at
    if window is not None:
        hidden_front = hidden_front | (at + lengths - front >= window)
        hidden_own = hidden_own | (at - own >= window)
    return torch.cat([hidden_front, hidden_own], -1)


def _times(rows: Tensor, shared: Tensor) -> Tensor:
    """``[n, H, G, A] @ [n or 1, H, A, B]``; what all rows share is multiplied once and not repeated."""
    if len(shared) == len(rows):
        return rows @ shared
    count, heads, group, _ = rows.shape
    flat = rows.transpose(0, 1).reshape(heads, count * group, -1) @ shared[0]
    return flat.view(heads, count, group, -1).transpose(0, 1)
