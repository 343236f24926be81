"""From token ids to the few numbers that are wanted: scores of choices, log-likelihoods of completions, pooled states.

The output layer is asked only where there is a label. All of it is differentiable and runs under whatever is in
force on the model; nothing here knows a task or a method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.attention.hooks import HookSet
from foreword.core.attention.last_layer_pruning import prune
from foreword.core.attention.packable import last_layer, packable
from foreword.core.attention.packing import Packed
from foreword.core.attention.pass_context import holding
from foreword.core.attention.routing import route
from foreword.core.base.device import sent, tensor_on
from foreword.core.inject.sites import backbone, find_sites
from foreword.core.passes.output_layer import log_probs, logits_at, word_logits
from foreword.errors import SettingsError

Ids = Sequence[int]


@dataclass(frozen=True)
class Padded:
    """Rows as tensors: ids ``[B, T]`` and mask ``[B, T]``, 1 where there is a token.

    ``seen`` is the mask for a model, which asks an accelerator for its contents: None where all is ones.
    """

    ids: Tensor
    mask: Tensor
    seen: Tensor | None


def pad(rows: Sequence[Ids], fill: int, device: torch.device, side: str = "right") -> Padded:
    """Rows of different lengths as one batch, padded on ``side``."""
    width = max(1, *(len(r) for r in rows))
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, place] = torch.tensor(list(row), dtype=torch.long)
        mask[i, place] = 1
    there = sent(mask, device)
    return Padded(sent(ids, device), there, None if all(len(r) == width for r in rows) else there)


def refuse_empty(rows: Sequence[Ids]) -> None:
    """Every row needs a token: an answer begins after it.

    Raises:
        SettingsError: one has none, or there are no rows.
    """
    if not rows:
        raise SettingsError("the batch has no rows", expected="one or more", received=0)
    if not all(rows):
        raise SettingsError(
            "a row has no tokens of its own for the model to answer after",
            where="template",
            hint="let the template end in a few words, such as 'Label:'",
        )


@dataclass(frozen=True)
class _Laid:
    """A decoder's rows as one pass takes them: side by side with padding, or end to end."""

    ids: Tensor
    mask: Tensor
    seen: Tensor | None
    packed: Packed | None

    def arguments(self) -> dict[str, Any]:
        """What the model is called with."""
        given = {"input_ids": self.ids, "attention_mask": self.seen}
        return given if self.packed is None else given | {"position_ids": self.packed.positions}

    def at(self, rows: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Where the token at ``positions`` of ``rows`` lies."""
        return (rows, positions) if self.packed is None else self.packed.at(rows, positions)


@contextmanager
def _running(
    model: PreTrainedModel, packed: Packed | None, rows: Sequence[int], places: Sequence[int]
) -> Iterator[None]:
    """Passes of packed rows belong in here; attention must be ours, also where no foreword is in force.

    Args:
        rows: the rows of the wanted tokens, in order.
        places: their places there, in order.
    """
    if packed is None:
        yield
        return
    wanted = list(zip(rows, places, strict=True))
    # A row of which nothing is wanted would have no query in the last layer.
    if len({row for row, _ in wanted}) == packed.rows:
        packed.wanted = wanted
    hold = HookSet()
    route(hold, model)
    prune(hold, last_layer(model))
    with holding(hold, packed=packed):
        yield


def _lay(model: PreTrainedModel, rows: Sequence[Ids], fill: int) -> _Laid:
    """End to end where the model allows it."""
    if packable(model):
        ids = tensor_on([[token for row in rows for token in row]], model.device)
        mask = torch.ones_like(ids)
        return _Laid(ids, mask, mask, Packed([len(r) for r in rows], model.device))
    batch = pad(rows, fill, model.device)
    return _Laid(batch.ids, batch.mask, batch.seen, None)


def choice_scores(
    model: PreTrainedModel, inputs: Sequence[Ids], choices: Sequence[Ids], fill: int, relative: bool = False
) -> Tensor:
    """log p(choice | input) ``[B, C]``, choices of one or more tokens, in one pass.

    A decoder reads each input once: what a longer choice needs stands behind the input as branches that see the input
    and themselves, not each other. Where a layer cannot see such branches (sliding windows shorter than the rows,
    recurrent layers) each pair of input and choice is a row of its own.

    Args:
        inputs: B rows of token ids.
        choices: C token sequences, none empty.
        fill: the padding id.
        relative: whether a constant of the row may be left out. Choices of one token each then need their own rows of
            the output layer and no other.
    """
    refuse_empty(inputs)
    sites = find_sites(model)
    if sites.kind == "encoder-decoder":
        return _pairs(model, inputs, choices, fill)
    widest = max(len(r) for r in inputs) + max(len(c) for c in choices)
    branches = any(len(c) > 1 for c in choices)
    if branches and (sites.recurrent or sites.stateful or (sites.windowed is not None and sites.windowed <= widest)):
        return _pairs(model, inputs, choices, fill)
    return _branched(model, inputs, choices, fill, relative and not branches)


def _branched(
    model: PreTrainedModel, inputs: Sequence[Ids], choices: Sequence[Ids], fill: int, relative: bool
) -> Tensor:
    tails = [list(c[:-1]) for c in choices]
    extra = [t for tail in tails for t in tail]
    device = model.device
    laid = _lay(model, [list(r) + extra for r in inputs], fill)
    ends = tensor_on([len(r) for r in inputs], device)
    starts = [sum(len(t) for t in tails[:c]) for c in range(len(choices))]
    arguments = laid.arguments()
    if extra:
        mask, positions = _branch_mask(ends, max(len(r) for r in inputs) + len(extra), tails)
        arguments |= {
            "attention_mask": mask,
            "position_ids": positions if laid.packed is None else laid.packed.end_to_end(positions),
        }
    per = 1 + len(extra)
    rows = torch.arange(len(inputs), device=device).repeat_interleave(per)
    places = (ends[:, None] - 1 + torch.arange(per, device=device)).flatten()
    at = laid.at(rows, places)
    wanted = [(row, len(r) - 1 + i) for row, r in enumerate(inputs) for i in range(per)]
    with _running(model, laid.packed, [row for row, _ in wanted], [place for _, place in wanted]):
        if relative:
            return word_logits(model, at, tensor_on([c[0] for c in choices], device), **arguments)
        # A choice's first token is read off the input's last place, each later one off its branch.
        read = [[0, *range(1 + start, start + len(c))] for c, start in zip(choices, starts, strict=True)]
        steps = tensor_on([step for r in read for step in r], device)
        which = (torch.arange(len(inputs), device=device)[:, None] * per + steps).flatten()
        words = tensor_on([token for c in choices for token in c], device).repeat(len(inputs))
        logp = log_probs(model, at, which, words, **arguments).view(len(inputs), -1)
    owner = tensor_on([i for i, c in enumerate(choices) for _ in c], device)
    return logp.new_zeros(len(inputs), len(choices)).index_add(1, owner, logp)


def _branch_mask(ends: Tensor, width: int, tails: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """Mask ``[B, 1, T, T]`` and positions ``[B, T]`` for branches behind each row's input, padding behind them; 0 is
    the input's own segment."""
    extra = sum(len(t) for t in tails)
    at = torch.arange(width, device=ends.device)[None] - ends[:, None]
    branch = tensor_on([i + 1 for i, t in enumerate(tails) for _ in t], ends.device)
    step = tensor_on([j for t in tails for j in range(len(t))], ends.device)
    behind = at.clamp(0, len(branch) - 1)
    segment = torch.where(at < 0, 0, branch[behind])
    positions = torch.where(at < 0, at + ends[:, None], ends[:, None] + step[behind])
    causal = torch.ones(width, width, dtype=torch.bool, device=ends.device).tril()
    same = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    # A padding query keeps itself, so that no row of the softmax is empty.
    real = (at < extra)[:, None, :] | torch.eye(width, dtype=torch.bool, device=ends.device)
    return (causal & same & real)[:, None], positions


def _pairs(model: PreTrainedModel, inputs: Sequence[Ids], choices: Sequence[Ids], fill: int) -> Tensor:
    """Each input with each choice as a row: B x C rows in one pass (an injection repeats its rows accordingly)."""
    pairs = [(row, choice) for row in inputs for choice in choices]
    nll, owner = completion_losses(model, [p[0] for p in pairs], [p[1] for p in pairs], fill)
    scores = torch.zeros(len(pairs), device=nll.device).index_add(0, owner, -nll)
    return scores.view(len(inputs), len(choices))


def beginning(model: PreTrainedModel) -> tuple[int, ...]:
    """What an encoder-decoder's decoder reads before an answer: its start token, and the token that its checkpoint
    forces to the first place (BART's start of text, mBART's language), which is no part of the answer."""
    start = int(model.config.decoder_start_token_id)
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    return (start,) if forced is None else (start, int(forced))


def completion_losses(
    model: PreTrainedModel,
    inputs: Sequence[Ids],
    targets: Sequence[Ids],
    fill: int,
    counted: Sequence[Ids] | None = None,
) -> tuple[Tensor, Tensor]:
    """-log p of every target token ``[N]`` given its input and the target before it, and each one's row ``[N]``.

    Args:
        counted: for each row the places in its target of the tokens that are asked for; None: all.
    """
    wanted = [range(len(t)) for t in targets] if counted is None else counted
    with _completing(model, inputs, targets, fill, wanted) as asked:
        tokens = [t[i] for t, places in zip(targets, wanted, strict=True) for i in places]
        labels = tensor_on(tokens, model.device)
        logp = log_probs(model, asked.at, torch.arange(len(labels), device=model.device), labels, **asked.arguments)
    return -logp, asked.rows


def completion_word_log_probs(
    model: PreTrainedModel,
    inputs: Sequence[Ids],
    targets: Sequence[Ids],
    words: Tensor,
    fill: int,
    counted: Sequence[Ids] | None = None,
) -> tuple[Tensor, Tensor]:
    """log p of K words at the place of every target token ``[N, K]``, given what stands before it, and each one's row
    ``[N]``.

    Args:
        words: token ids ``[N, K]``.
        counted: as of :func:`completion_losses`.
    """
    with _completing(model, inputs, targets, fill, counted) as asked:
        which = torch.arange(len(words), device=model.device).repeat_interleave(words.shape[1])
        logp = log_probs(model, asked.at, which, words.flatten(), **asked.arguments)
    return logp.view_as(words), asked.rows


def likeliest_words(
    model: PreTrainedModel,
    inputs: Sequence[Ids],
    targets: Sequence[Ids],
    k: int,
    fill: int,
    counted: Sequence[Ids] | None = None,
) -> tuple[Tensor, Tensor]:
    """The k likeliest words (or all, where there are fewer) at the place of every target token ``[N, k]``, and log p of
    each ``[N, k]``; ``counted`` as of :func:`completion_losses`."""
    with _completing(model, inputs, targets, fill, counted) as asked:
        logp = logits_at(model, *asked.at, **asked.arguments).log_softmax(-1)
    logp, words = logp.topk(min(k, logp.shape[-1]))
    return words, logp


@dataclass(frozen=True)
class _Completion:
    """Where the tokens of completions are read in a pass: place ``at``, and their ``rows`` ``[N]``."""

    at: tuple[Tensor, Tensor]
    rows: Tensor
    arguments: dict[str, Any]


@contextmanager
def _completing(
    model: PreTrainedModel,
    inputs: Sequence[Ids],
    targets: Sequence[Ids],
    fill: int,
    counted: Sequence[Ids] | None = None,
) -> Iterator[_Completion]:
    """The pass over inputs and completions belongs in here; ``counted`` as of :func:`completion_losses`."""
    refuse_empty(inputs)
    device = model.device
    wanted = [range(len(t)) for t in targets] if counted is None else counted
    owners = [b for b, places in enumerate(wanted) for _ in places]
    rows = tensor_on(owners, device)
    if model.config.is_encoder_decoder:
        batch = pad(inputs, fill, device)
        begin = beginning(model)
        answer = pad([[*begin, *t[:-1]] for t in targets], fill, device)
        places = [len(begin) - 1 + i for own in wanted for i in own]
        arguments = {
            "input_ids": batch.ids,
            "attention_mask": batch.seen,
            "decoder_input_ids": answer.ids,
            "decoder_attention_mask": answer.seen,
        }
        at, packed = (rows, tensor_on(places, device)), None
    else:
        laid = _lay(model, [[*r, *t[:-1]] for r, t in zip(inputs, targets, strict=True)], fill)
        places = [len(r) - 1 + i for r, own in zip(inputs, wanted, strict=True) for i in own]
        at, packed, arguments = laid.at(rows, tensor_on(places, device)), laid.packed, laid.arguments()
    with _running(model, packed, owners, places):
        yield _Completion(at, rows, arguments)


def last_states(model: PreTrainedModel, **inputs: Any) -> Tensor:
    """The last hidden state. No keys are kept for another pass: a checkpointed layer that runs again in the backward
    pass would find its own among them."""
    if find_sites(model).kind != "encoder":
        inputs["use_cache"] = False
    states: Tensor = backbone(model)(**inputs).last_hidden_state
    return states


def pooled_states(model: PreTrainedModel, inputs: Sequence[Ids], pooling: str, fill: int) -> Tensor:
    """One vector a row ``[B, E]`` of the last hidden state: ``"mean"`` over its tokens, its first (``"cls"``) or
    ``"last"``."""
    refuse_empty(inputs)
    laid = _lay(model, inputs, fill)
    lengths = tensor_on([len(r) for r in inputs], model.device)
    rows = torch.arange(len(inputs), device=model.device)
    places = torch.zeros_like(lengths) if pooling == "cls" else lengths - 1
    wanted = [] if pooling == "mean" else [0 if pooling == "cls" else len(r) - 1 for r in inputs]
    with _running(model, laid.packed, range(len(wanted)), wanted):
        hidden = last_states(model, **laid.arguments())
    if pooling != "mean":
        pruned = laid.packed is not None and laid.packed.pruned is not None
        return (hidden[0] if pruned else hidden[laid.at(rows, places)]).float()
    if laid.packed is not None:
        total = hidden.new_zeros(len(inputs), hidden.shape[-1]).index_add(0, laid.packed.owner, hidden[0])
    else:
        total = (hidden * laid.mask[..., None].to(hidden.dtype)).sum(1)
    return (total / lengths[:, None].to(hidden.dtype)).float()


def states_at(
    model: PreTrainedModel, inputs: Sequence[Ids], places: Sequence[Sequence[int]], fill: int
) -> tuple[Tensor, Tensor]:
    """The last hidden state ``[N, E]`` at the given places of each row, row by row, and each one's row ``[N]``."""
    batch = pad(inputs, fill, model.device)
    hidden = last_states(model, input_ids=batch.ids, attention_mask=batch.seen)
    rows = tensor_on([b for b, own in enumerate(places) for _ in own], hidden.device, torch.long)
    at = tensor_on([place for own in places for place in own], hidden.device, torch.long)
    return hidden[rows, at].float(), rows
