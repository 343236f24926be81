"""``with injected(model, forewords, rows):`` puts each row's foreword in front of it, and leaves nothing behind.

Keys and values go in at the attention function (core/attention/attend.py). In a causal model a soft prompt *is*
the keys and values that it makes in the layers, so it is run once, alone, and goes the same way: one row of P tokens
instead of P more tokens in every row, and decoding needs no special case. In an encoder, where the prompt sees the
content, it goes in at the embedding and its outputs are taken out again behind the last layer. Soft slots stand inside
a row (:mod:`foreword.core.inject.soft_slots`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.hooks import HookSet
from foreword.core.attention.pass_context import current, holding
from foreword.core.attention.sources import Front
from foreword.core.base.device import tensor_on
from foreword.core.inject import initial_values, soft_slots
from foreword.core.inject.base_changes import BaseChanges, changes_of
from foreword.core.inject.in_force import Bank, InForce
from foreword.core.inject.learned_positions import refuse_longer
from foreword.core.inject.sites import SiteMap, find_sites
from foreword.core.inject.stack_hooks import hook_model, owned
from foreword.core.inject.value import EMPTY, Foreword, KeyValue
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.messages import Message

_NO_CHANGES = BaseChanges()


class Injection:
    """The forewords in force on one model, and which row each stands in front of.

    ``put`` may be called again and again inside the ``with`` block: a training loop writes a new value each step. A
    pass that has begun keeps what was in force then, also for layers that are computed again during backward.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.map: SiteMap = find_sites(model)
        self.hold = HookSet()
        self._owned = owned(model)
        hook_model(self.hold, model)
        self._now = self.lowered((), None)

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
        self._now = self.lowered(forewords, rows)

    def lowered(self, forewords: Sequence[Foreword], rows: Sequence[int | None] | None) -> InForce:
        """``forewords`` as the model takes them where it stands now and in its precision; as :meth:`put`, but not put
        in force."""
        _refuse_rows(len(forewords), rows)
        values = [self._lowered(f) for f in forewords]
        if not values or (rows is not None and None in rows):
            values.append(EMPTY)
        last, device = len(values) - 1, self.model.device
        index = None if rows is None else [last if r is None else r for r in rows]
        changes = _NO_CHANGES
        if any(value.adapters or value.weights for value in values):
            changes = changes_of(self.model, values, index)
            changes.hook(self.hold, self.model, self._owned)
        slotted = any(value.slots is not None for value in values)
        return InForce(
            self.map,
            self._owned,
            self.hold,
            tuple(values),
            None if index is None else tensor_on(index, device),
            tensor_on([f.num_virtual_tokens for f in values], device),
            self._banks(values),
            _side_by_side([f.prompt for f in values]),
            soft_slots.bank_of(values, self.map.embedding_size) if slotted else None,
            changes,
        )

    def owns(self, module: nn.Module) -> bool:
        """Whether it decides for ``module``."""
        return module in self._owned

    def now(self) -> InForce:
        """What is in force, whatever is put in later."""
        return self._now

    def front(self, module: nn.Module, rows: int) -> Front | None:
        """What stands in front of a batch of ``rows`` rows at ``module``; None for nothing."""
        return self._now.front(module, rows)

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to what a linear layer gives for ``x [B, T, in]``; None for nothing."""
        return self._now.added(layer, x)

    def weight(self, name: str) -> Tensor | None:
        """What stands in the place of a parameter of the base; None for its own."""
        return self._now.weight(name)

    def _lowered(self, foreword: Foreword) -> Foreword:
        """The foreword as this model takes it: in its precision, and a causal model's soft prompt as keys and
        values."""
        _refuse_sites(self.model, self.map, foreword)
        # Changed layers and weights go to each layer's own format, which may be another one (T5's wo).
        value = replace(foreword, adapters={}, weights={}).to(self.model.device, self.model.dtype)
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
                Message(
                    "{name} has layers with a recurrent state, which a soft prompt has to pass",
                    name=type(self.model).__name__,
                ),
                hint="use `--method prefix`, which reaches its attention layers",
            )
        if self.map.kind != "decoder":
            return value
        if self.map.learned is not None:
            refuse_longer(self.map.learned, len(value.prompt), len(value.prompt))
        return replace(value, prompt=None, sites=initial_values.from_embeddings(self.model, value.prompt))

    def _banks(self, values: Sequence[Foreword]) -> dict[str, Bank]:
        """Every site at which one of ``values`` has something."""
        live: dict[tuple[int, ...], Tensor | None] = {}
        banks = {}
        for name in self.map.sites:
            pairs = [f.sites.get(name) for f in values]
            lengths = tuple(0 if kv is None else len(kv.keys) for kv in pairs)
            if max(lengths, default=0) == 0:
                continue
            # One mask for all sites alike, and none without asking a tensor for its contents.
            if lengths not in live:
                live[lengths] = _live(lengths, self.model.device)
            banks[name] = _bank(pairs, max(lengths), live[lengths])
        return banks


def _refuse_rows(forewords: int, rows: Sequence[int | None] | None) -> None:
    if rows is None and forewords > 1:
        raise SettingsError("several forewords need `rows`: the index of its foreword, or None, for each row")
    if rows is not None and not len(rows):
        raise SettingsError("`rows` is empty", expected="each row's foreword, or None", received="no rows")
    if rows is not None and any(r is not None and not 0 <= r < forewords for r in rows):
        raise SettingsError(
            "`rows` names a foreword that is not there",
            expected=Message("0..{value} or None", value=forewords - 1),
            received=list(rows),
        )


def _refuse_sites(model: PreTrainedModel, map: SiteMap, foreword: Foreword) -> None:
    unknown = foreword.sites.keys() - map.sites.keys()
    if unknown:
        raise SettingsError(
            Message("the foreword is for a site that {name} does not have", name=type(model).__name__),
            expected=f"{next(iter(map.sites))} .. {list(map.sites)[-1]}",
            received=sorted(unknown)[0],
        )
    for name, kv in foreword.sites.items():
        site, got = map.sites[name], (kv.keys.shape[1], kv.keys.shape[2], kv.values.shape[2])
        if got != (site.heads, site.key_size, site.value_size):
            raise SettingsError(
                Message("{name} has other shapes", name=name),
                expected=(site.heads, site.key_size, site.value_size),
                received=got,
            )
        if site.kind == "state" and len(kv.keys) != 1:
            raise SettingsError(
                Message("{name} takes one virtual token, a state", name=name), expected=1, received=len(kv.keys)
            )


def _live(lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """Which virtual tokens are a foreword's own ``[F, P]``; None where all are."""
    if min(lengths) == max(lengths):
        return None
    return torch.arange(max(lengths), device=device) < tensor_on(lengths, device)[:, None]


def _bank(pairs: Sequence[KeyValue | None], length: int, live: Tensor | None) -> Bank:
    some = next(kv for kv in pairs if kv is not None)

    def joined(parts: Sequence[Tensor | None], like: Tensor) -> Tensor:
        if len(parts) == 1:
            return like.transpose(0, 1)[None]
        rows = [like.new_zeros(0, *like.shape[1:]) if x is None else x for x in parts]
        return torch.stack([nn.functional.pad(x, (0, 0, 0, 0, 0, length - len(x))) for x in rows]).transpose(1, 2)

    keys = joined([None if kv is None else kv.keys for kv in pairs], some.keys)
    return Bank(keys, joined([None if kv is None else kv.values for kv in pairs], some.values), live)


def _side_by_side(prompts: Sequence[Tensor | None]) -> Tensor | None:
    """Soft prompts as ``[F, P, E]``, filled up with zeros; None where there are none."""
    some = [p for p in prompts if p is not None]
    longest = max((len(p) for p in some), default=0)
    if longest == 0:
        return None
    rows = [some[0].new_zeros(0, some[0].shape[1]) if p is None else p for p in prompts]
    return torch.stack([nn.functional.pad(p, (0, 0, 0, longest - len(p))) for p in rows])


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

    >>> from foreword import injected, load, load_base
    >>> base, (value, _) = load_base("base"), load("model.foreword")
    >>> batch = base.tokenizer(["Text: a fine film", "Text: a dull film"], return_tensors="pt", padding=True)
    >>> with injected(base.model, [value], rows=[0, None]):  # the first row with the foreword
    ...     logits = base.model(**batch).logits
    >>> logits.shape[0]
    2
    """
    injection = Injection(model)
    injection.put(forewords, rows)
    with holding(injection.hold, sources=(*(current().sources or ()), injection)):
        yield injection
