"""An LSTM or GRU as a base like any other: a transformers causal model, saved and loaded as one.

What such a model knows of a text that it has read is the state of each layer, and nothing else. So the state in which a
row begins is a site like an attention layer's keys and values: an LSTM's h is the keys ``[1, 1, Dk]`` and its c the
values, one virtual token for any text; a GRU's one state is halved. With the state that a text leaves behind, a row
goes on exactly as behind that text.

Letters: B rows, T tokens, E embedding size, S recurrent size (width of a layer's state).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from foreword.core.attention import attend
from foreword.core.attention.sources import Call
from foreword.core.base.architecture import RECURRENT

State = tuple[Tensor, Tensor]
"""What a layer hands on: keys ``[B, Dk]`` and values ``[B, Dv]``."""


class RecurrentConfig(PreTrainedConfig):
    """The settings of an LSTM or GRU.

    Args:
        vocab_size: V.
        cell: which recurrence.
        num_hidden_layers: layers, one above the other.
        hidden_size: width of the last hidden state.
        recurrent_size: S; None: ``hidden_size``.
        embedding_size: E; None: ``hidden_size``.
        dropout: share of the values dropped between the layers while the base itself is trained.
        pooled: the last hidden state is a running average over the embeddings and all layers' outputs, weighted by a
            learned score (textgenrnn); its width is then E plus S a layer.
        window: every token is predicted from so many tokens alone, read anew from the first state; what is missing at
            the start of a text is padding, which such a model has learned to read (textgenrnn). None: from the
            beginning of the text. The state in front is then each window's, and not the same as a text in front.
        tie_word_embeddings: the output layer is the embedding; needs ``embedding_size`` equal to ``hidden_size``.
    """

    model_type = RECURRENT

    def __init__(
        self,
        vocab_size: int = 4096,
        cell: Literal["lstm", "gru"] = "lstm",
        num_hidden_layers: int = 2,
        hidden_size: int = 256,
        recurrent_size: int | None = None,
        embedding_size: int | None = None,
        dropout: float = 0.2,
        pooled: bool = False,
        window: int | None = None,
        tie_word_embeddings: bool = True,
        **others: Any,
    ) -> None:
        self.vocab_size, self.cell, self.num_hidden_layers = vocab_size, cell, num_hidden_layers
        self.hidden_size, self.dropout, self.pooled, self.window = hidden_size, dropout, pooled, window
        self.recurrent_size = recurrent_size or hidden_size
        self.embedding_size = embedding_size or hidden_size
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**others)


class Memory:
    """The states of all layers after the tokens read so far: what ``generate`` carries on as ``past_key_values``."""

    def __init__(self, states: list[State], length: int) -> None:
        self.states, self._length = states, length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far, padding counted."""
        return self._length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam search: row i goes on from what was row ``beam_idx[i]``."""
        self.states = [(keys[beam_idx], values[beam_idx]) for keys, values in self.states]


@dataclass(frozen=True)
class _Steps:
    """Which steps are a row's own: ``lengths`` ``[B]``, and ``order`` ``[B, T]``, which puts its tokens first."""

    lengths: Tensor
    order: Tensor

    @classmethod
    def of(cls, mask: Tensor | None, width: int) -> _Steps | None:
        """The steps under a mask ``[B, >= T]``; None where every token counts."""
        own = None if mask is None else mask[:, -width:].bool()
        # In a training step an accelerator is not asked, which would have to be waited for.
        asked = own is not None and (own.device.type == "cpu" or not torch.is_grad_enabled())
        if own is None or (asked and bool(own.all())):
            return None
        return cls(own.sum(-1), (~own).long().argsort(dim=-1, stable=True))

    def aligned(self, hidden: Tensor) -> Tensor:
        """Each row's tokens first, its padding behind them: a state never passes padding."""
        return hidden.gather(1, self.order[..., None].expand_as(hidden))

    def restored(self, hidden: Tensor) -> Tensor:
        """The inverse of :meth:`aligned`."""
        return torch.empty_like(hidden).scatter(1, self.order[..., None].expand_as(hidden), hidden)


def _begin(module: nn.Module, blank: State) -> State:
    """The state in which each row begins: its foreword's, or ``blank``."""
    keys, values = blank
    front = attend.front_of(module, len(keys))
    if front is None:
        return blank
    own_keys, own_values = front.keys[:, 0, 0].to(keys.dtype), front.values[:, 0, 0].to(values.dtype)
    if front.live is None:
        return own_keys, own_values
    live = front.live[:, :1]
    return torch.where(live, own_keys, keys), torch.where(live, own_values, values)


def _record(module: nn.Module, length: int, state: State) -> None:
    keys, values = (part[:, None, None] for part in state)
    attend.record(Call(module, length, keys, values, True, None, state=True))


class RecurrentLayer(nn.Module):
    """One LSTM or GRU over all steps."""

    def __init__(self, config: RecurrentConfig, size: int, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx, self.size = layer_idx, config.recurrent_size
        self.rnn = (nn.LSTM if config.cell == "lstm" else nn.GRU)(size, self.size, batch_first=True)

    def train(self, mode: bool = True) -> RecurrentLayer:
        """cuDNN goes backward through a recurrence in training mode only, and nothing in here depends on the mode."""
        super().train(mode)
        self.rnn.train()
        return self

    def forward(self, inputs: Tensor, steps: _Steps | None, past: State | None, hand_on: bool) -> tuple[Tensor, State]:
        """Outputs ``[B, T, S]`` and the state after each row's last step; without ``hand_on`` that state is not to be
        used."""
        length = inputs.shape[1]
        first = past if past is not None else _begin(self, self._blank(inputs))
        if steps is None or not hand_on:
            outputs, found = self.rnn(inputs, self._hidden(first))
            return outputs, self._state(found)
        # A row without a step of its own is given one, whose state is not kept.
        lengths = steps.lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, found = self.rnn(packed, self._hidden(first))
        outputs = pad_packed_sequence(outputs, batch_first=True, total_length=length)[0]
        moved = (steps.lengths > 0)[:, None]
        keys, values = self._state(found)
        return outputs, (torch.where(moved, keys, first[0]), torch.where(moved, values, first[1]))

    def _blank(self, inputs: Tensor) -> State:
        size = self.size if isinstance(self.rnn, nn.LSTM) else self.size - self.size // 2
        other = self.size if isinstance(self.rnn, nn.LSTM) else self.size // 2
        return inputs.new_zeros(len(inputs), size), inputs.new_zeros(len(inputs), other)

    def _hidden(self, state: State) -> Any:
        """A state as torch takes it: ``(h, c)``, or a GRU's one ``h``, each ``[1, B, S]``."""
        if isinstance(self.rnn, nn.LSTM):
            return tuple(part[None].contiguous() for part in state)
        return torch.cat(state, -1)[None]

    def _state(self, hidden: Any) -> State:
        if isinstance(self.rnn, nn.LSTM):
            return hidden[0][0], hidden[1][0]
        keys, values = hidden[0].split([self.size - self.size // 2, self.size // 2], -1)
        return keys, values


class RunningAverage(nn.Module):
    """The average of what was seen so far, each step weighted by exp(its score); textgenrnn's "attention".

    Its state is the average ``[B, C]`` and the log of the summed weights ``[B, 1]``.
    """

    def __init__(self, size: int, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, features: Tensor, steps: _Steps | None, past: State | None) -> tuple[Tensor, State]:
        """Features and averages ``[B, T, C]``."""
        rows, length, size = features.shape
        nothing = features.new_full((rows, 1), torch.finfo(features.dtype).min)
        average, weight = past if past is not None else _begin(self, (features.new_zeros(rows, size), nothing))
        scores = self.score(features)[..., 0]
        total = torch.logcumsumexp(torch.cat([weight, scores], 1), 1)[:, 1:]
        seen = torch.ones(length, length, dtype=torch.bool, device=features.device).tril()
        shares = (scores[:, None, :] - total[:, :, None]).masked_fill(~seen, -torch.inf).exp()
        averages = shares @ features + (weight - total).exp()[..., None] * average[:, None]
        if steps is None:
            return averages, (averages[:, -1], total[:, -1:])
        last, moved = (steps.lengths - 1).clamp(min=0), (steps.lengths > 0)[:, None]
        at = torch.arange(rows, device=features.device)
        return averages, (
            torch.where(moved, averages[at, last], average),
            torch.where(moved, total[at, last][:, None], weight),
        )


class RecurrentPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of these models."""

    config_class = RecurrentConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _is_stateful = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM | nn.GRU):
            _init_recurrence(module)


def _init_recurrence(rnn: nn.LSTM | nn.GRU) -> None:
    """Orthogonal recurrences, and an LSTM's forget gates open at first (Jozefowicz et al. 2015)."""
    for name, parameter in rnn.named_parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        elif "hh" in name:
            for gate in parameter.chunk(parameter.shape[0] // parameter.shape[1]):
                nn.init.orthogonal_(gate)
        else:
            nn.init.xavier_uniform_(parameter)
    if isinstance(rnn, nn.LSTM):
        with torch.no_grad():
            cast(Tensor, rnn.bias_ih_l0).chunk(4)[1].fill_(1.0)


class RecurrentModel(RecurrentPreTrainedModel):
    """Embedding and layers."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        size, state, depth = config.embedding_size, config.recurrent_size, config.num_hidden_layers
        width = size + depth * state if config.pooled else state
        if config.hidden_size != width:
            raise ValueError(f"hidden_size is {config.hidden_size}, but the last hidden state is {width} wide")
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.layers = nn.ModuleList(RecurrentLayer(config, size if i == 0 else state, i) for i in range(depth))
        self.average = RunningAverage(width, depth) if config.pooled else None
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Memory | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPast:
        """The last hidden state ``[B, T, hidden_size]``; at padding it means nothing."""
        hidden: Tensor = cast(Any, self.embed_tokens)(input_ids) if inputs_embeds is None else inputs_embeds
        width = hidden.shape[1]
        steps = _Steps.of(attention_mask, width)
        hidden = hidden if steps is None else steps.aligned(hidden)
        if self.config.window:
            return self._windowed(hidden, steps, past_key_values, use_cache is not False)
        hand_on = use_cache is not False or attend.is_recording()
        past: list[State | None] = [None] * (len(self.layers) + 1)
        if past_key_values is not None:
            past = [*past_key_values.states, None]
        states, features = [], [hidden]
        for layer, before in zip(self.layers, past, strict=False):
            hidden, state = layer(self.dropout(hidden), steps, before, hand_on)
            _record(layer, width, state)
            states.append(state)
            features.append(hidden)
        if self.average is not None:
            hidden, state = self.average(torch.cat(features, -1), steps, past[len(self.layers)])
            _record(self.average, width, state)
            states.append(state)
        hidden = self.dropout(hidden if steps is None else steps.restored(hidden))
        read = width + (0 if past_key_values is None else past_key_values.get_seq_length())
        memory = cast(Any, Memory(states, read)) if use_cache is not False else None
        return BaseModelOutputWithPast(last_hidden_state=cast(Any, hidden), past_key_values=memory)

    def _windowed(
        self, inputs: Tensor, steps: _Steps | None, past: Memory | None, hand_on: bool
    ) -> BaseModelOutputWithPast:
        """Each token's own window as a row: ``[B * T, W, E]`` from tokens ``[B, T, E]``, padding behind them."""
        (rows, length, size), width = inputs.shape, self.config.window
        if past is None:
            blank = cast(Tensor, self.embed_tokens(torch.full((1, 1), self.config.pad_token_id, device=inputs.device)))
            before = blank.expand(rows, width - 1, size)
        else:
            before = past.states[0][0]
        joined = torch.cat([before, inputs], 1)
        hidden = joined.unfold(1, width, 1).transpose(2, 3).reshape(rows * length, width, size)
        last = torch.full((rows,), length, device=inputs.device) if steps is None else steps.lengths
        ends = torch.arange(rows, device=inputs.device) * length + (last - 1).clamp(min=0)
        features = [hidden]
        for layer in self.layers:
            hidden, state = layer(self.dropout(hidden), None, None, True)
            _record(layer, length, (state[0][ends], state[1][ends]))
            features.append(hidden)
        if self.average is not None:
            hidden, state = self.average(torch.cat(features, -1), None, None)
            _record(self.average, length, (state[0][ends], state[1][ends]))
        hidden = hidden[:, -1].view(rows, length, -1)
        hidden = self.dropout(hidden if steps is None else steps.restored(hidden))
        read = last[:, None] + torch.arange(width - 1, device=inputs.device)
        kept = joined.gather(1, read[..., None].expand(-1, -1, size))
        seen = length + (0 if past is None else past.get_seq_length())
        memory = cast(Any, Memory([(kept, kept[:, :0])], seen)) if hand_on else None
        return BaseModelOutputWithPast(last_hidden_state=cast(Any, hidden), past_key_values=memory)


class RecurrentForCausalLM(RecurrentPreTrainedModel, GenerationMixin):
    """With an output layer that writes the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - declared by the parent

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.model = RecurrentModel(config)
        # textgenrnn's output layer has a bias; a tied one has none.
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.pooled)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # its memory is a state, made by the first pass

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Memory | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        num_items_in_batch: Tensor | int | None = None,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """The logits ``[B, T, V]``; with ``labels`` ``[B, T]`` (-100: not counted) the loss of the next token too.

        ``num_items_in_batch``: the tokens that the loss is a mean over, where they are more than this pass's (gradient
        accumulation).
        """
        found = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, use_cache)
        logits = self.lm_head(found.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, num_items_in_batch=num_items_in_batch)
        return CausalLMOutputWithPast(loss=cast(Any, loss), logits=logits, past_key_values=found.past_key_values)


AutoConfig.register(RECURRENT, RecurrentConfig, exist_ok=True)
AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM, exist_ok=True)
