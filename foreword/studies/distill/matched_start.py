"""A long text's keys and values, thinned to P of them: attention matching, in closed form.

At every site and for every head of keys the P positions that the content looks at most are kept, each with its key as
it is, and their values are chosen by least squares so that attention over the few gives what attention over all gave,
on the queries of real rows (after Zweiger et al. 2026, "Fast KV compaction via attention matching", without their bias
on the scores, which a plain cache of keys and values cannot hold).

The text is read at positions that end where the P virtual tokens end, so that every key is as far from the content as
it was. Positions then begin below 0, which rotary embeddings allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from foreword.core.attention.pass_context import aside
from foreword.core.attention.routing import routed
from foreword.core.inject.sites import backbone, find_sites
from foreword.core.inject.value import KeyValue
from foreword.errors import UnsupportedBaseError

# Ridges on the values' equations, as shares of their mean diagonal; they pull to the values that the keys had. Few keys
# want a strong one: without the bias on the scores their values would have to grow far beyond what the base knows.
RIDGES = (1e-2, 1e-1, 1.0, 10.0)
# How much the last states of a base may change, as a share of their size, when positions move: rounding alone.
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
_ROUNDING_OF_HALVES = 0.1


@dataclass(frozen=True)
class _Seen:
    """One attention call: queries ``[Hq, T, D]``, the text's and the row's keys and values ``[H, N + T, D]``, and how
    scores are scaled."""

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float


@dataclass
class _Recorder:
    """Stands in the place of the attention function and keeps what comes by.

    Args:
        text: the text's keys and values of each call, which stand in front; empty while the text itself is read.
    """

    text: Sequence[_Seen] = ()
    calls: list[_Seen] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        odd = next((name for name in ("softcap", "s_aux", "sliding_window") if kwargs.get(name) is not None), None)
        if odd is not None or kwargs.get("position_bias") is not None:
            raise _unfit(f"attention with {odd or 'a position bias'}")
        keys, values = key[0].float(), value[0].float()
        if self.text:
            front = self.text[len(self.calls)]
            keys, values = torch.cat([front.key, keys], 1), torch.cat([front.value, values], 1)
        seen = _Seen(query[0].float(), keys, values, kwargs.get("scaling") or query.shape[-1] ** -0.5)
        self.calls.append(seen)
        self.modules.append(module)
        if not self.text:
            return sdpa_attention_forward(module, query, key, value, None, **{**kwargs, "is_causal": True})
        whole = _attended(seen, keys.shape[1] - key.shape[2])
        return whole.flatten(0, 1).transpose(0, 1)[None].to(value.dtype).contiguous(), None


def matched(
    model: PreTrainedModel,
    text: Sequence[int],
    rows: Sequence[Sequence[int]],
    length: int,
    ridges: Sequence[float] = RIDGES,
) -> list[dict[str, KeyValue]]:
    """Keys and values ``[P, H, D]`` at every site that stand for a text of N tokens, once for each ridge.

    Args:
        text: its N token ids.
        rows: token ids of rows that are asked behind it.
        length: P, at most N.
        ridges: how strongly values stay near what they were.

    Raises:
        UnsupportedBaseError: positions cannot be moved in this base, or its attention is not plain.
    """
    _refuse_fixed_positions(model, text, rows[0], length)
    read = _read(model, text, length - len(text))
    matches = [_Match(seen, length) for seen in read.calls]
    for select in (True, False):
        for ids in rows:
            for match, seen in zip(matches, _read(model, ids, length, read.calls).calls, strict=True):
                (match.weigh if select else match.add)(seen)
        if select:
            for match in matches:
                match.choose()
    modules = {module: iter(some) for module, some in find_sites(model).modules.items()}
    names = [next(modules[module]) for module in read.modules]
    return [
        {name: match.solved(model.dtype, ridge) for name, match in zip(names, matches, strict=True)} for ridge in ridges
    ]


class _Match:
    """The thinning of one site.

    Args:
        text: the text's N keys and values.
        length: P.
    """

    def __init__(self, text: _Seen, length: int) -> None:
        self.keys, self.values, self.length = text.key, text.value, length
        self.text = text.key.shape[1]
        self.mass = self.keys.new_zeros(self.keys.shape[:2])
        heads = len(self.keys)
        self.left = self.keys.new_zeros(heads, length, length)
        self.right = self.keys.new_zeros(heads, length, self.values.shape[-1])

    def weigh(self, seen: _Seen) -> None:
        """Add what the content's queries give to each of the text's keys."""
        self.mass += _weights(seen.query, seen.key, seen.scaling, self.text)[..., : self.text].sum((1, 2))

    def choose(self) -> None:
        """Keep the first position, where attention sinks, and those with the most mass ``[H, P]``, in their order."""
        self.mass[:, 0] = torch.inf
        chosen = self.mass.topk(self.length, dim=1).indices.sort(1).values
        self.keys, self.values = _taken(self.keys, chosen), _taken(self.values, chosen)

    def add(self, seen: _Seen) -> None:
        """Add a row's equations: attention over the few and the content is what attention over all was."""
        keys = torch.cat([self.keys, seen.key[:, self.text :]], 1)
        shares = _weights(seen.query, keys, seen.scaling, self.length)
        rest = _attended(seen, self.text) - shares[..., self.length :] @ seen.value[:, None, self.text :]
        front = shares[..., : self.length].flatten(1, 2)
        self.left += front.mT @ front
        self.right += front.mT @ rest.flatten(1, 2)

    def solved(self, dtype: torch.dtype, share: float) -> KeyValue:
        """The keys as they are, and the values by least squares; the first position keeps its own."""
        ridge = share * self.left.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None].clamp(min=1e-6)
        identity = torch.eye(self.length, device=self.left.device)
        values = torch.linalg.solve(self.left + ridge * identity, self.right + ridge * self.values)
        values[:, 0] = self.values[:, 0]
        return KeyValue(self.keys.transpose(0, 1).to(dtype).contiguous(), values.transpose(0, 1).to(dtype).contiguous())


def _taken(rows: Tensor, chosen: Tensor) -> Tensor:
    """The rows ``[H, P, D]`` of ``[H, N, D]`` at ``chosen [H, P]``."""
    return rows.gather(1, chosen[..., None].expand(-1, -1, rows.shape[-1]))


def _weights(query: Tensor, key: Tensor, scaling: float, front: int) -> Tensor:
    """What queries ``[Hq, T, D]`` give to ``front`` keys before them and to the content's own: ``[H, G, T, F + T]``, by
    the head of keys that they ask."""
    grouped = query.reshape(len(key), -1, *query.shape[1:])
    scores = grouped @ key[:, None].mT * scaling
    tokens = query.shape[1]
    seen = torch.ones(tokens, front + tokens, dtype=torch.bool, device=query.device).tril(front)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def _attended(seen: _Seen, front: int) -> Tensor:
    """What attention gives ``[H, G, T, D]``."""
    return _weights(seen.query, seen.key, seen.scaling, front) @ seen.value[:, None]


def _read(model: PreTrainedModel, ids: Sequence[int], first: int, text: Sequence[_Seen] = ()) -> _Recorder:
    """Every attention call over ``ids`` at positions that begin at ``first``, behind ``text`` where it is given."""
    recorder = _Recorder(text)
    with torch.no_grad(), routed(model), aside(attention=recorder):
        _run(model, ids, first)
    return recorder


def _run(model: PreTrainedModel, ids: Sequence[int], first: int) -> Tensor:
    tokens = torch.tensor([list(ids)], device=model.device)
    positions = torch.arange(first, first + len(ids), device=model.device)[None]
    states: Tensor = backbone(model)(input_ids=tokens, position_ids=positions, use_cache=False).last_hidden_state
    return states


def _refuse_fixed_positions(model: PreTrainedModel, text: Sequence[int], row: Sequence[int], length: int) -> None:
    """Ask the base itself: moved positions must change nothing."""
    sites = find_sites(model)
    if sites.kind != "decoder" or sites.recurrent or sites.stateful or not sites.moves_positions:
        raise _unfit("keys and values that do not follow positions")
    ids = [*text[:16], *row]
    try:
        with torch.no_grad(), aside():
            plain, moved = _run(model, ids, 0), _run(model, ids, length - len(text))
    except IndexError as problem:
        raise _unfit("learned positions") from problem
    change = float((plain.float() - moved.float()).norm() / plain.float().norm())
    if not change <= _ROUNDING.get(plain.dtype, _ROUNDING_OF_HALVES):
        raise _unfit("positions that are not relative")


def _unfit(why: str) -> UnsupportedBaseError:
    return UnsupportedBaseError(
        "a text's keys and values cannot be matched in this base", received=why, hint="use `--start first`"
    )
