"""Where a live model can be given something, read from the model itself.

A tiny probe runs through the model once; whatever reaches the attention function is a site, with the shapes that were
seen there. Nothing is guessed from the names in a configuration: layers may differ in heads and sizes, K and V may
have different sizes (MLA), and one module may serve several layers (ALBERT).
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.model_state import fact
from foreword.core.attention.pass_context import aside, within
from foreword.core.attention.routing import refuse_kernel, routed, watched
from foreword.core.attention.sources import Call
from foreword.core.base.architecture import Kind, kind_of
from foreword.core.inject.learned_positions import learned_positions
from foreword.core.inject.text_probe import depth_of, more_than_keys_and_values, same_states
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.messages import Message

# Two lengths, so that encoder self, decoder self and cross attention tell themselves apart by the shapes they see.
_ENCODER_LENGTH, _DECODER_LENGTH = 3, 2
# Long enough that attention which sums up every few tokens (DeepSeek-V4) has keys of its own for them.
_LENGTH = 9


@dataclass(frozen=True)
class Site:
    """One attention call of the model.

    Args:
        stack: ``"encoder"`` or ``"decoder"``.
        kind: ``"self"`` or ``"cross"`` attention, or ``"state"``: in which a recurrent layer begins, with P = 1.
        layer: the layer's index in its stack.
        heads: H, key/value heads.
        key_size: Dk.
        value_size: Dv.
        causal: whether a query sees only what stands before it.
        window: sliding window in tokens, or None.
    """

    stack: str
    kind: str
    layer: int
    heads: int
    key_size: int
    value_size: int
    causal: bool
    window: int | None

    @property
    def name(self) -> str:
        """``stack.kind.layer``, for example ``decoder.self.0``."""
        return f"{self.stack}.{self.kind}.{self.layer}"


@dataclass(frozen=True)
class SiteMap:
    """Every site of one model, and which module calls it.

    Args:
        sites: name -> site, in the order in which the model calls them.
        modules: attention module -> the names of its sites in call order (more than one where layers share a module).
        kind: ``"decoder"``, ``"encoder"`` or ``"encoder-decoder"``.
        embedding_size: E.
        recurrent: whether a text in front is more than its keys and values: some layers hand on a state that attention
            does not see (linear attention, Mamba).
        moves_positions: whether the content's positions are counted after the foreword's (else they stay at 0).
        chunk: tokens of a chunk where attention never sees beyond one (Llama 4): the foreword and its row have to fit
            into the first; None for no such bound.
        stretches_at: tokens beyond which the model turns all its positions otherwise (longrope, dynamic NTK): a
            foreword's keys are those of shorter rows; None for no such bound.
        learned: positions that the stack that reads the content has learned; None where it computes them.
    """

    sites: dict[str, Site]
    modules: dict[nn.Module, tuple[str, ...]]
    kind: Kind
    embedding_size: int
    recurrent: bool
    moves_positions: bool
    chunk: int | None = None
    stretches_at: int | None = None
    learned: int | None = None

    @property
    def positions(self) -> Literal["cache", "content"]:
        """The convention that the manifest records: ``"cache"`` (content starts at P) or ``"content"`` (at 0)."""
        return "cache" if self.moves_positions else "content"

    @property
    def stateful(self) -> bool:
        """Whether all that a text leaves behind is a state (LSTM, GRU): a foreword has one virtual token there."""
        return any(s.kind == "state" for s in self.sites.values())

    @property
    def windowed(self) -> int | None:
        """The narrowest sliding window of any site, or chunk, in tokens."""
        widths = [*(s.window for s in self.sites.values()), self.chunk]
        return min((width for width in widths if width is not None), default=None)

    def check_length(self, virtual: int, tokens: int) -> None:
        """A row behind a foreword has to fit into the first chunk, as its chunks would begin elsewhere, and below the
        length at which positions are turned otherwise.

        Raises:
            SettingsError: ``virtual`` tokens and ``tokens`` behind them are more.
        """
        if self.stretches_at is not None and virtual and virtual + tokens > self.stretches_at:
            raise SettingsError(
                "this base turns all positions otherwise in longer rows, and a foreword's keys are of shorter ones",
                expected=Message(
                    "{stretches_at} tokens, the {virtual} virtual ones counted",
                    stretches_at=self.stretches_at,
                    virtual=virtual,
                ),
                received=virtual + tokens,
                hint="set max_length lower",
            )
        if self.chunk is not None and virtual and virtual + tokens > self.chunk:
            raise SettingsError(
                "this base attends in chunks, and a row behind a foreword has to fit into the first",
                expected=Message(
                    "{chunk} tokens, the {virtual} virtual ones counted", chunk=self.chunk, virtual=virtual
                ),
                received=virtual + tokens,
                hint="set max_length lower",
            )


def backbone(model: PreTrainedModel) -> PreTrainedModel:
    """The model without its head: what takes ids and gives the last hidden state."""
    inner = getattr(model, model.base_model_prefix, model)
    return inner if isinstance(inner, PreTrainedModel) else model


def layer_of(name: str) -> int | None:
    """The layer that a site, module or parameter belongs to, by its name (``model.layers.3.mlp``); None for none."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def find_sites(model: PreTrainedModel) -> SiteMap:
    """Every site of ``model``, found once by a probe of a few tokens.

    Raises:
        UnsupportedBaseError: attention does not pass through transformers' attention interface.
    """
    return fact(model, "sites", lambda: _probe(model))


def _refuse(model: PreTrainedModel, why: str) -> UnsupportedBaseError:
    return UnsupportedBaseError(
        Message(
            "{name} ({model_type}) cannot be given a foreword: {why}",
            name=type(model).__name__,
            model_type=model.config.model_type,
            why=why,
        ),
        expected="a model whose attention goes through transformers' AttentionInterface",
        received=type(model).__name__,
        hint="use a base such as Llama, Qwen, Mistral, Gemma, GPT-2, OPT, GPT-NeoX, BERT, RoBERTa, ModernBERT, T5 or "
        "BART",
    )


def _probe(model: PreTrainedModel) -> SiteMap:
    if any(getattr(m, "is_kv_shared_layer", False) is True for m in model.modules()):
        raise _refuse(model, "some of its layers never compute keys and values of their own")
    refuse_kernel(model)
    _refuse_several_devices(model)
    calls = _first_calls(model)
    encoder_decoder = bool(model.config.is_encoder_decoder)
    kind: Kind = "encoder-decoder" if encoder_decoder else "decoder" if any(c.causal for c in calls) else "encoder"
    _refuse_other_kind(model, kind)
    if not encoder_decoder and any(not c.state and c.key.shape[2] != c.query_length for c in calls):
        raise _refuse(model, "its attention reads other keys than one for each token")
    sites: dict[str, Site] = {}
    modules: dict[nn.Module, tuple[str, ...]] = {}
    for site, module in _number(calls, kind):
        if site.name in sites:
            raise _refuse(model, f"two attention calls claim the site {site.name}")
        sites[site.name] = site
        modules[module] = (*modules.get(module, ()), site.name)
    if kind != "decoder":
        _refuse_missing(model, sites)
    embedding = model.get_input_embeddings()
    size = embedding.weight.shape[1] if isinstance(embedding, nn.Embedding) else model.config.hidden_size
    counting = counting_stack(model, modules) if kind == "decoder" else None
    stateful = any(site.kind == "state" for site in sites.values())
    recurrent = kind == "decoder" and not stateful and _keeps_a_state(model, counting)
    bounds = _chunk(model), _stretches_at(model), learned_positions(model)
    return SiteMap(sites, modules, kind, size, recurrent, counting is not None, *bounds)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every part in eval mode inside the block; those that trained before train again afterwards."""
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _first_calls(model: PreTrainedModel) -> list[Call]:
    calls: list[Call] = []
    try:
        length = _ENCODER_LENGTH if model.config.is_encoder_decoder else _LENGTH
        ids = torch.ones(1, length, dtype=torch.long, device=model.device)
        # A model that drops out would never compute the same twice.
        with aside(fused=False), evaluating(model), torch.no_grad():
            expected = run(model, ids, ids[:, :_DECODER_LENGTH])
            with routed(model), within(calls=calls), watched(model) as askers:
                got = run(model, ids, ids[:, :_DECODER_LENGTH])
    except (ValueError, NotImplementedError, TypeError, LookupError, AttributeError, RuntimeError) as problem:
        if isinstance(problem, torch.OutOfMemoryError):
            raise
        short = f"{type(problem).__name__}: {problem}".partition("\n")[0]
        told = str(problem) if isinstance(problem, NotImplementedError) else f"it cannot read a few tokens ({short})"
        raise _refuse(model, told) from problem
    if not calls:
        raise _refuse(model, "its attention does not pass through the interface")
    if any(call.module is asker for call in calls for asker in askers):
        raise _refuse(model, "its attention asks whether it is SDPA's, and leaves something out where it is not")
    if not same_states(got, expected):
        raise _refuse(model, "it computes something else where attention passes through the interface")
    return calls


def _refuse_several_devices(model: PreTrainedModel) -> None:
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1:
        raise UnsupportedBaseError(
            Message(
                "{name} lies on several devices (device_map), between which forewords are not carried",
                name=type(model).__name__,
            ),
            expected="all weights on one device",
            received=", ".join(devices),
            hint="load it without device_map; a smaller number format (dtype bfloat16) halves its size",
        )


def _refuse_other_kind(model: PreTrainedModel, kind: Kind) -> None:
    """A decoder that sees both ways, or an encoder that does not, is neither (BERT's decoder without its switch)."""
    try:
        told = kind_of(model.config)
    except UnsupportedBaseError:
        return  # a part of something larger, whose attention says all there is
    if told != kind:
        sees = "only what stands before it" if kind == "decoder" else "both ways"
        raise _refuse(model, f"its family is of kind {told}, but a token of it sees {sees}")


def _refuse_missing(model: PreTrainedModel, sites: Mapping[str, Site]) -> None:
    """Every layer of a stack without a state of its own attends; those that do so elsewhere would get nothing."""
    config = model.config.get_text_config()
    roles = [("encoder", "self"), ("decoder", "self"), ("decoder", "cross")]
    for stack, role in roles if model.config.is_encoder_decoder else roles[:1]:
        count = sum((site.stack, site.kind) == (stack, role) for site in sites.values())
        depth = depth_of(model.config if model.config.is_encoder_decoder else config, stack)
        if depth is not None and count < depth:
            reached = f"{count} of the {depth} layers of its {stack} take their {role}-attention through the interface"
            raise _refuse(model, f"only {reached}" if count else f"none of the {reached[len('0 of the ') :]}")


def _keeps_a_state(model: PreTrainedModel, counting: PreTrainedModel | None) -> bool:
    stack = backbone(model) if counting is None else counting

    def read(ids: Tensor, positions: Tensor | None) -> Tensor:
        given = {} if positions is None else {"position_ids": positions}
        states: Tensor = stack(input_ids=ids, **given)[0]
        return states

    with routed(model), aside(fused=False):
        vocabulary = model.config.get_text_config().vocab_size
        return more_than_keys_and_values(read, model.device, vocabulary, counting is not None)


def _chunk(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config()
    chunk, kinds = getattr(config, "attention_chunk_size", None), getattr(config, "layer_types", None)
    return chunk if chunk and (kinds is None or "chunked_attention" in kinds) else None


def _stretches_at(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    # Gemma 3 has one for each kind of layer.
    ropes = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if not any(part.get("rope_type") in ("longrope", "dynamic") for part in ropes):
        return None
    limits = [part.get("original_max_position_embeddings") for part in ropes]
    own = [getattr(config, name, None) for name in ("original_max_position_embeddings", "max_position_embeddings")]
    return next((limit for limit in (*limits, *own) if limit), None)


def counting_stack(model: PreTrainedModel, modules: Collection[nn.Module]) -> PreTrainedModel | None:
    """The innermost part that holds all ``modules`` and takes both tokens and their positions.

    Not the backbone: a head may call what stands inside it directly (OPT).
    """
    wanted = set(modules)
    holders = [
        part
        for part in model.modules()
        if isinstance(part, PreTrainedModel)
        and {"input_ids", "position_ids"} <= inspect.signature(part.forward).parameters.keys()
        and wanted <= set(part.modules())
    ]
    return holders[-1] if holders else None


def _number(calls: list[Call], kind: str) -> list[tuple[Site, nn.Module]]:
    """Give each call its stack, kind and layer: the module's own index where every module has one, else the order."""
    placed = []
    for call in calls:
        q, s = call.query_length, call.key.shape[2]
        if kind != "encoder-decoder":
            stack, role = kind, "state" if call.state else "self"
        elif (q, s) == (_ENCODER_LENGTH, _ENCODER_LENGTH):
            stack, role = "encoder", "self"
        else:
            stack, role = "decoder", "self" if q == s else "cross"
        placed.append((stack, role, call))
    order: Counter[tuple[str, str]] = Counter()
    out = []
    for stack, role, call in placed:
        peers = [getattr(c.module, "layer_idx", None) for st, r, c in placed if (st, r) == (stack, role)]
        own = getattr(call.module, "layer_idx", None)
        indexed = all(isinstance(i, int) for i in peers) and len(set(peers)) == len(peers)
        layer: int = own if indexed else order[stack, role]  # type: ignore[assignment]
        order[stack, role] += 1
        heads, key_size, value_size = call.key.shape[1], call.key.shape[3], call.value.shape[3]
        site = Site(stack, role, layer, heads, key_size, value_size, call.causal, call.window)
        out.append((site, call.module))
    return out


def run(model: PreTrainedModel, ids: Tensor, decoder_ids: Tensor | None = None) -> Tensor:
    """The last hidden state of one forward pass without a head over ``ids`` [1, T], or soft tokens [1, T, E].

    An encoder-decoder's decoder reads ``decoder_ids``, or ``ids`` too.
    """
    arguments = {"inputs_embeds" if ids.is_floating_point() else "input_ids": ids}
    if model.config.is_encoder_decoder:
        arguments["decoder_input_ids"] = ids if decoder_ids is None else decoder_ids
    states: Tensor = backbone(model)(**arguments)[0]
    return states
