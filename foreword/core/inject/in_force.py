"""What is in force on one model: an immutable value that answers what each module is given.

Keys and values go in at the attention function (core/attention/attend.py). In an encoder a soft prompt goes in at the
embedding, and its outputs are taken out again behind the last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from foreword.core.attention.hooks import HookSet
from foreword.core.attention.pass_context import current
from foreword.core.attention.sources import Front
from foreword.core.inject.base_changes import BaseChanges
from foreword.core.inject.learned_positions import refuse_longer
from foreword.core.inject.sites import SiteMap
from foreword.core.inject.soft_slots import SlotBank
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.messages import Message


@dataclass(frozen=True)
class Bank:
    """All forewords of one site: keys ``[F, H, P, Dk]``, values ``[F, H, P, Dv]``, live ``[F, P]`` or None (all)."""

    keys: Tensor
    values: Tensor
    live: Tensor | None


@dataclass(frozen=True, eq=False)
class InForce:
    """Forewords on one model, and which row each stands in front of.

    Args:
        map: the model's sites.
        owned: the modules that it decides for; the injection it comes from may still add some.
        hold: the hooks that it needs.
        values: the forewords as the model takes them; the last may be empty, for rows without one.
        rows: each row's place among ``values`` ``[B]``; None: all rows have the only one.
        lengths: virtual tokens of each foreword ``[F]``.
        banks: keys and values by the name of their site.
        prompts: soft prompts of an encoder ``[F, P, E]``, filled up with zeros.
        slots: soft slots.
        changes: changes of the model's own layers.
    """

    map: SiteMap
    owned: Set[nn.Module]
    hold: HookSet
    values: tuple[Foreword, ...]
    rows: Tensor | None
    lengths: Tensor
    banks: Mapping[str, Bank] = field(default_factory=dict)
    prompts: Tensor | None = None
    slots: SlotBank | None = None
    changes: BaseChanges = field(default_factory=BaseChanges)
    # The same tensors for every layer, so that its mask can be made once a pass.
    _of_rows: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def owns(self, module: nn.Module) -> bool:
        """Whether it decides for ``module``."""
        return module in self.owned

    def now(self) -> InForce:
        """Itself: nothing is put into it later."""
        return self

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to what a linear layer gives for ``x [B, T, in]``; None for nothing."""
        return self.changes.added(layer, x)

    def weight(self, name: str) -> Tensor | None:
        """What stands in the place of a parameter of the base; None for its own."""
        return self.changes.weights.get(name)

    def front(self, module: nn.Module, rows: int) -> Front | None:
        """What stands in front of a batch of ``rows`` rows at ``module``; None for nothing."""
        bank = self.banks.get(self._site(module))
        if bank is None:
            return None
        live = None if bank.live is None else self._per_row(bank.live, rows)
        if self.rows is None:
            keys, values = (x.expand(rows, -1, -1, -1) for x in (bank.keys, bank.values))
        else:
            index = self.index(rows).to(bank.keys.device)
            keys, values = bank.keys[index], bank.values[index]
        return Front(keys, values, live, self._per_row(self.lengths, rows))

    def _site(self, module: nn.Module) -> str:
        """The site that ``module`` is called for: one that serves several layers is called for them in order."""
        names = self.map.modules.get(module, ("",))
        memo = current().memo
        if len(names) == 1 or memo is None:
            return names[0]
        memo.calls[module] += 1
        return names[(memo.calls[module] - 1) % len(names)]

    def _per_row(self, values: Tensor, rows: int) -> Tensor:
        """One entry of ``values`` ``[F, ...]`` for each of ``rows`` rows, the same tensor whenever it is asked for."""
        key = (id(values), rows)
        if key not in self._of_rows:
            self._of_rows[key] = values[self.index(rows)]
        return self._of_rows[key]

    def index(self, rows: int) -> Tensor:
        """Each row's place in the banks ``[B]``; raises SettingsError when the batch does not fit ``rows``."""
        if self.rows is None:
            return torch.zeros(rows, dtype=torch.long, device=self.lengths.device)
        if rows == len(self.rows):
            return self.rows
        if rows % len(self.rows):
            raise SettingsError(
                "the batch has another number of rows than the injection",
                expected=Message("{n}, or a multiple", n=len(self.rows)),
                received=rows,
            )
        return self.rows.repeat_interleave(rows // len(self.rows))

    def before_stack(self, arguments: dict[str, Any]) -> None:
        """Move the content's positions behind each row's foreword; count from the first token that is not padding."""
        tokens = arguments.get("inputs_embeds") if arguments.get("input_ids") is None else arguments["input_ids"]
        if not self.map.moves_positions or tokens is None:
            return
        rows, length = tokens.shape[:2]
        packed, cache = current().packed, arguments.get("past_key_values")
        past = 0 if cache is None else cache.get_seq_length()
        width = length if packed is None else packed.width
        if self.map.chunk is not None or self.map.stretches_at is not None:
            self.map.check_length(self._longest, int(past) + width)
        if packed is not None:
            arguments["position_ids"] = arguments["position_ids"] + self.lengths[self.index(packed.rows)[packed.owner]]
            self._refuse_longer(int(past) + width, arguments["position_ids"])
            return
        positions, mask = arguments.get("position_ids"), arguments.get("attention_mask")
        if positions is None and isinstance(mask, Tensor) and mask.ndim == 2:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        elif positions is None:
            positions = torch.arange(length, device=tokens.device)[None] + past
        arguments["position_ids"] = positions.expand(rows, -1) + self._per_row(self.lengths, rows)[:, None]
        self._refuse_longer(int(past) + width, arguments["position_ids"])

    @property
    def _longest(self) -> int:
        return max(value.num_virtual_tokens for value in self.values)

    def _refuse_longer(self, tokens: int, positions: Tensor) -> None:
        """Refuse positions that the base has not learned. Only where ``tokens``, padding counted, might need them are
        the positions themselves looked at, for which an accelerator would have to be waited for."""
        if self.map.learned is not None and self._longest + tokens > self.map.learned:
            refuse_longer(self.map.learned, self._longest, int(positions.max()) + 1)

    def before_encoder(self, arguments: dict[str, Any], embed: Callable[[Tensor], Tensor]) -> None:
        """Put each row's soft prompt in front of its embeddings: prompt, content, padding."""
        if self.prompts is None:
            return
        ids, embeddings = arguments.pop("input_ids", None), arguments.get("inputs_embeds")
        embeddings = embed(ids) if embeddings is None else embeddings
        rows, length = embeddings.shape[:2]
        if self.map.learned is not None:
            refuse_longer(self.map.learned, self.prompts.shape[1], self.prompts.shape[1] + length)
        mask = arguments.get("attention_mask")
        mask = torch.ones(rows, length, dtype=torch.long, device=embeddings.device) if mask is None else mask
        prompt = self.prompts[self.index(rows)].to(embeddings)
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
        if self.prompts is None:
            return hidden
        rows, width = hidden.shape[0], hidden.shape[1] - self.prompts.shape[1]
        place = self.lengths[self.index(rows)][:, None] + torch.arange(width, device=hidden.device)
        return hidden[torch.arange(rows, device=hidden.device)[:, None], place]

    def before_decoder(self, arguments: dict[str, Any]) -> None:
        """The cross-attention of an encoder-decoder sees the soft prompt's outputs too: widen its mask."""
        mask, states = arguments.get("encoder_attention_mask"), arguments.get("encoder_hidden_states")
        if self.prompts is None or states is None:
            return
        if mask is None and len({value.num_virtual_tokens for value in self.values}) > 1:
            # Rows without padding of their own have some where their soft prompts have different lengths.
            mask = states.new_ones(states.shape[0], states.shape[1] - self.prompts.shape[1], dtype=torch.long)
        if mask is None or mask.ndim != 2 or mask.shape[1] == states.shape[1]:
            return
        arguments["encoder_attention_mask"] = self._behind(
            torch.ones_like(mask[:, :1]).expand(-1, self.prompts.shape[1]), mask
        )
