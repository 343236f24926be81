"""``with injected(model, forewords, rows):`` puts each row's foreword in front of it, and leaves nothing behind.

Keys and values go in at the attention function (core/attention/attend.py). In a causal model a soft prompt *is*
the keys and values that it makes in the layers, so it is run once, alone, and goes the same way: one row of P tokens
instead of P more tokens in every row, and decoding needs no special case. In an encoder, where the prompt sees the
content, it goes in at the embedding and its outputs are taken out again behind the last layer. Soft slots stand inside
a row (:mod:`foreword.core.inject.soft_slots`).
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from foreword.core.attention import attend, packing
from foreword.core.attention.attend import Front
from foreword.core.inject import initial_values, soft_slots
from foreword.core.inject.base_changes import Changes
from foreword.core.inject.encoder_outputs import taken_back
from foreword.core.inject.sites import CallOrder, SiteMap, backbone, counting_stack, find_sites
from foreword.core.inject.value import EMPTY, Foreword
from foreword.errors import SettingsError, UnsupportedBaseError


@dataclass(frozen=True)
class _Bank:
    """All forewords of one site: keys ``[F, H, P, Dk]``, values ``[F, H, P, Dv]``, live ``[F, P]`` or None (all)."""

    keys: Tensor
    values: Tensor
    live: Tensor | None


class Injection:
    """The forewords in force on one model, and which row each stands in front of.

    ``put`` may be called again and again inside the ``with`` block: a training loop writes a new value each step.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.map: SiteMap = find_sites(model)
        self._device, self._dtype = model.device, model.dtype
        self._calls: dict[nn.Module, CallOrder] = {
            module: CallOrder(names) for module, names in self.map.modules.items() if len(names) > 1
        }
        self.changes = Changes(model, next(iter(self.map.modules)))
        self.put((), None)

    def put(self, forewords: Sequence[Foreword], rows: Sequence[int | None] | None) -> None:
        """Put ``forewords`` in force.

        Args:
            forewords: the distinct forewords of the coming batches.
            rows: for each row of the batch the index of its foreword, or None for none. A batch of n times as many
                rows (beams, several sequences a row) repeats each entry n times. ``rows=None`` puts the only foreword
                in front of every row.

        Raises:
            SettingsError: more than one foreword without ``rows``, an index out of range, a site, layer, weight or
                shape that the model does not have, or changed weights beside other forewords.
        """
        if rows is None and len(forewords) > 1:
            raise SettingsError("several forewords need `rows`: the index of its foreword, or None, for each row")
        if rows is not None and not len(rows):
            raise SettingsError("`rows` is empty", expected="each row's foreword, or None", received="no rows")
        if rows is not None and any(r is not None and not 0 <= r < len(forewords) for r in rows):
            raise SettingsError(
                "`rows` names a foreword that is not there",
                expected=f"0..{len(forewords) - 1} or None",
                received=list(rows),
            )
        values = [self._lowered(f) for f in forewords]
        plain = rows is not None and any(r is None for r in rows)
        if plain or not values:
            values.append(EMPTY)
        last = len(values) - 1
        self.rows = (
            None if rows is None else torch.tensor([last if r is None else r for r in rows], device=self._device)
        )
        self.values, self.longest = tuple(values), max(f.num_virtual_tokens for f in values)
        self.lengths = torch.tensor([f.num_virtual_tokens for f in values], device=self._device)
        self._banks = {name: bank for name in self.map.sites if (bank := self._bank(name, values)) is not None}
        self._prompts = self._prompt_bank(values)
        self.slots = soft_slots.bank_of(values, self.map.embedding_size)
        self.changes.put(values, None if rows is None else [last if r is None else r for r in rows])
        for order in self._calls.values():
            order.start()

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to what a linear layer gives for ``x [B, T, in]``; None for nothing."""
        return self.changes.added(layer, x)

    def weight(self, name: str) -> Tensor | None:
        """What stands in the place of a parameter of the base; None for its own."""
        return self.changes.weight(name)

    def _lowered(self, foreword: Foreword) -> Foreword:
        """The foreword as this model takes it: in its precision, and a causal model's soft prompt as keys and
        values."""
        unknown = foreword.sites.keys() - self.map.sites.keys()
        if unknown:
            raise SettingsError(
                f"the foreword is for a site that {type(self.model).__name__} does not have",
                expected=f"{next(iter(self.map.sites))} .. {list(self.map.sites)[-1]}",
                received=sorted(unknown)[0],
            )
        for name, kv in foreword.sites.items():
            site, got = self.map.sites[name], (kv.keys.shape[1], kv.keys.shape[2], kv.values.shape[2])
            if got != (site.heads, site.key_size, site.value_size):
                raise SettingsError(
                    f"{name} has other shapes", expected=(site.heads, site.key_size, site.value_size), received=got
                )
            if site.kind == "state" and len(kv.keys) != 1:
                raise SettingsError(f"{name} takes one virtual token, a state", expected=1, received=len(kv.keys))
        # Changed layers and weights go to each layer's own format, which may be another one (T5's wo).
        value = replace(foreword, adapters={}, weights={}).to(self._device, self._dtype)
        value = replace(value, adapters=foreword.adapters, weights=foreword.weights)
        if value.prompt is None:
            return value
        if value.prompt.shape[1] != self.map.embedding_size:
            raise SettingsError(
                "the soft prompt has another embedding size",
                expected=self.map.embedding_size,
                received=value.prompt.shape[1],
            )
        if self.map.recurrent:
            raise UnsupportedBaseError(
                f"{type(self.model).__name__} has layers with a recurrent state, which a soft prompt has to pass",
                hint="use `--method prefix`, which reaches its attention layers",
            )
        if self.map.kind != "decoder":
            return value
        return replace(value, prompt=None, sites=initial_values.from_embeddings(self.model, value.prompt))

    def _bank(self, name: str, values: Sequence[Foreword]) -> _Bank | None:
        here = [f.sites.get(name) for f in values]
        longest = max((kv.keys.shape[0] for kv in here if kv is not None), default=0)
        if longest == 0:
            return None
        site = self.map.sites[name]
        none_k, none_v = (
            torch.zeros(0, site.heads, size, device=self._device, dtype=self._dtype)
            for size in (site.key_size, site.value_size)
        )
        keys, vals, live = [], [], []
        for kv in here:
            k, v = (none_k, none_v) if kv is None else (kv.keys, kv.values)
            own = k.shape[0]
            keys.append(nn.functional.pad(k, (0, 0, 0, 0, 0, longest - own)).transpose(0, 1))
            vals.append(nn.functional.pad(v, (0, 0, 0, 0, 0, longest - own)).transpose(0, 1))
            live.append(torch.arange(longest, device=self._device) < own)
        seen = torch.stack(live)
        return _Bank(torch.stack(keys), torch.stack(vals), None if bool(seen.all()) else seen)

    def _prompt_bank(self, values: Sequence[Foreword]) -> Tensor | None:
        prompts = [f.prompt for f in values]
        longest = max((p.shape[0] for p in prompts if p is not None), default=0)
        if longest == 0:
            return None
        none = torch.zeros(longest, self.map.embedding_size, device=self._device, dtype=self._dtype)
        return torch.stack(
            [none if p is None else nn.functional.pad(p, (0, 0, 0, longest - p.shape[0])) for p in prompts]
        )

    def owns(self, module: nn.Module) -> bool:
        """Whether ``module`` is an attention module of this model."""
        return module in self.map.modules

    def front(self, module: nn.Module, rows: int) -> Front | None:
        """What stands in front of a batch of ``rows`` rows at ``module``; None for nothing."""
        names = self.map.modules[module]
        name = names[0] if len(names) == 1 else self._calls[module].name()
        bank = self._banks.get(name)
        if bank is None:
            return None
        if self.rows is None and len(self.lengths) == 1:
            live = None if bank.live is None else bank.live.expand(rows, -1)
            return Front(
                bank.keys.expand(rows, -1, -1, -1),
                bank.values.expand(rows, -1, -1, -1),
                live,
                self.lengths.expand(rows),
            )
        index = self.index(rows)
        live = None if bank.live is None else bank.live[index]
        return Front(bank.keys[index], bank.values[index], live, self.lengths[index])

    def index(self, rows: int) -> Tensor:
        """Each row's place in the bank ``[B]``; raises SettingsError when the batch does not fit ``rows``."""
        if self.rows is None:
            return torch.zeros(rows, dtype=torch.long, device=self._device)
        if rows % len(self.rows):
            raise SettingsError(
                "the batch has another number of rows than the injection",
                expected=f"{len(self.rows)}, or a multiple",
                received=rows,
            )
        return self.rows.repeat_interleave(rows // len(self.rows))

    def before_stack(self, arguments: dict[str, Any]) -> None:
        """Move the content's positions behind each row's foreword; count from the first token that is not padding."""
        for order in self._calls.values():
            order.start()
        tokens = arguments.get("inputs_embeds") if arguments.get("input_ids") is None else arguments["input_ids"]
        if not self.map.moves_positions or tokens is None:
            return
        rows, length = tokens.shape[:2]
        packed, cache = packing.current(), arguments.get("past_key_values")
        past = 0 if cache is None else cache.get_seq_length()
        self.map.check_chunk(self.longest, past + (length if packed is None else packed.width))
        if packed is not None:
            arguments["position_ids"] = arguments["position_ids"] + self.lengths[self.index(packed.rows)[packed.owner]]
            return
        positions, mask = arguments.get("position_ids"), arguments.get("attention_mask")
        if positions is None and isinstance(mask, Tensor) and mask.ndim == 2:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        elif positions is None:
            positions = torch.arange(past, past + length, device=tokens.device)[None]
        arguments["position_ids"] = positions.expand(rows, -1) + self.lengths[self.index(rows)][:, None]

    def before_encoder(self, arguments: dict[str, Any], embed: Callable[[Tensor], Tensor]) -> None:
        """Put each row's soft prompt in front of its embeddings: prompt, content, padding."""
        if self._prompts is None:
            return
        ids, embeddings = arguments.pop("input_ids", None), arguments.get("inputs_embeds")
        embeddings = embed(ids) if embeddings is None else embeddings
        rows, length = embeddings.shape[:2]
        mask = arguments.get("attention_mask")
        mask = torch.ones(rows, length, dtype=torch.long, device=embeddings.device) if mask is None else mask
        prompt = self._prompts[self.index(rows)]
        arguments["inputs_embeds"] = self._behind(prompt, embeddings)
        arguments["attention_mask"] = self._behind(torch.ones_like(mask[:, :1]).expand(-1, prompt.shape[1]), mask)
        kinds = arguments.get("token_type_ids")
        if kinds is not None:
            arguments["token_type_ids"] = self._behind(
                torch.zeros_like(kinds[:, :1]).expand(-1, prompt.shape[1]), kinds
            )
        if arguments.get("position_ids") is not None:
            raise SettingsError("a soft prompt in an encoder counts positions itself; leave position_ids out")

    def _behind(self, front: Tensor, content: Tensor) -> Tensor:
        """``[B, P + T, ...]``: the first of a row's own P entries of ``front``, then its content, then zeros."""
        rows, width = front.shape[:2]
        length = self.lengths[self.index(rows)]
        place = torch.arange(width + content.shape[1], device=content.device)[None] - length[:, None]
        joined = torch.cat([front, content, torch.zeros_like(content[:, :1])], 1)
        source = torch.where(place < 0, place + length[:, None], place + width).clamp(max=joined.shape[1] - 1)
        return joined[torch.arange(rows, device=content.device)[:, None], source]

    def after_encoder(self, hidden: Tensor) -> Tensor:
        """The content's hidden states ``[B, T, E]`` out of ``[B, P + T, E]``."""
        if self._prompts is None:
            return hidden
        rows, width = hidden.shape[0], hidden.shape[1] - self._prompts.shape[1]
        place = self.lengths[self.index(rows)][:, None] + torch.arange(width, device=hidden.device)
        return hidden[torch.arange(rows, device=hidden.device)[:, None], place]

    def before_decoder_stack(self, arguments: dict[str, Any]) -> None:
        """The cross-attention of an encoder-decoder sees the soft prompt's outputs too: widen its mask."""
        mask, states = arguments.get("encoder_attention_mask"), arguments.get("encoder_hidden_states")
        if (
            self._prompts is None
            or mask is None
            or states is None
            or mask.ndim != 2
            or mask.shape[1] == states.shape[1]
        ):
            return
        arguments["encoder_attention_mask"] = self._behind(
            torch.ones_like(mask[:, :1]).expand(-1, self._prompts.shape[1]), mask
        )


@contextmanager
def injected(
    model: PreTrainedModel, forewords: Sequence[Foreword] = (), rows: Sequence[int | None] | None = None
) -> Iterator[Injection]:
    """Put forewords in front of the rows of every forward pass, and of ``generate``, of this thread.

    Args:
        model: any model that :func:`~foreword.core.inject.sites.find_sites` accepts; it is not changed.
        forewords: the distinct forewords.
        rows: each row's foreword (see :meth:`Injection.put`).

    With transformers' own gradient checkpointing, backward passes belong inside the block: layers run again then.
    Layers under :func:`foreword.core.attention.checkpointing.checkpointing` remember what was in force.

    Raises:
        UnsupportedBaseError: the model is outside the interface.
        SettingsError: forewords and rows, or forewords and model, do not fit.
    """
    injection = Injection(model)
    try:
        injection.put(forewords, rows)
        with attend.routed(model), hooked(model), attend.in_force(injection):
            yield injection
    finally:
        injection.changes.release()


@dataclass
class _Hooks:
    users: int
    handles: list[RemovableHandle]


_HOOKS: weakref.WeakKeyDictionary[nn.Module, _Hooks] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


@contextmanager
def hooked(model: PreTrainedModel) -> Iterator[None]:
    """Keep the hooks on the model while anyone needs them; each call asks what is in force in its own thread."""
    with _LOCK:
        hooks = _HOOKS.setdefault(model, _Hooks(0, []))
        if hooks.users == 0:
            hooks.handles = _install(model, find_sites(model))
        hooks.users += 1
    try:
        yield
    finally:
        with _LOCK:
            hooks.users -= 1
            if hooks.users == 0:
                for handle in hooks.handles:
                    handle.remove()
                del _HOOKS[model]


def stacks(model: PreTrainedModel) -> list[PreTrainedModel]:
    """What takes tokens and runs the layers: the decoder's or encoder's innermost stack, or encoder and decoder."""
    sites, inner = find_sites(model), backbone(model)
    if sites.kind == "encoder-decoder":
        return [inner.get_encoder(), inner.get_decoder()]
    return [inner if sites.kind == "encoder" else counting_stack(model, sites.modules) or inner]


def _install(model: PreTrainedModel, sites: SiteMap) -> list[RemovableHandle]:
    probe = next(iter(sites.modules))

    def active() -> Injection | None:
        source = attend.source_for(probe)
        return source if isinstance(source, Injection) else None

    def before(act: Callable[[Injection, dict[str, Any]], None]) -> Callable[..., Any]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            injection = active()
            # torch leaves kwargs out while another thread is putting the hook there or taking it away.
            if injection is None or kwargs is None:
                return None
            kwargs = by_name(module, args, kwargs)
            act(injection, kwargs)
            return (), kwargs

        return hook

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        injection = active()
        if injection is not None:
            output = taken_back(module, output, injection.after_encoder)
        return output

    first, *others = stacks(model)
    embed = model.get_input_embeddings()
    # A stack may have an embedding module of its own over the shared weights (T5, BART).
    handles = soft_slots.install({embed, first.get_input_embeddings()}, active)
    if sites.kind == "decoder":
        return [*handles, first.register_forward_pre_hook(before(Injection.before_stack), with_kwargs=True)]
    into = before(lambda injection, kwargs: injection.before_encoder(kwargs, embed))
    handles += [first.register_forward_pre_hook(before(Injection.before_stack), with_kwargs=True)]
    handles.append(first.register_forward_pre_hook(into, with_kwargs=True))
    if sites.kind == "encoder":
        handles.append(first.register_forward_hook(after))
    for decoder in others:
        handles.append(decoder.register_forward_pre_hook(before(Injection.before_decoder_stack), with_kwargs=True))
    return handles


def by_name(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by its name, whichever way the model passed it."""
    return {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **kwargs}
