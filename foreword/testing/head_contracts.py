"""The contracts of heads on tiny random models: what a head reads is each row's own, whatever shares its pass.

    from foreword.testing.head_contracts import check_head
    check_head("words")                       # every contract on every family that it can be read of

Your own head is checked the same way once its file stands in foreword/training/heads/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.attention.checkpointing import checkpointing
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import EMPTY, Foreword
from foreword.data.tokens.examples import Example
from foreword.methods.base import Start, Writer, make, make_writer
from foreword.testing.families import FAMILIES, tiny
from foreword.testing.method_contracts import TEXT, close, moved, sample_ids
from foreword.training.heads.base import Head, registry

_MASK = 259
_LENGTHS = (8, 3, 7, 5)


def rows() -> list[Example]:
    """Four rows that any head can be asked: a mask in the middle, a class, labels, a completion, tags for words."""
    out = []
    for number, (ids, length) in enumerate(zip(sample_ids(len(_LENGTHS), 8).tolist(), _LENGTHS, strict=True)):
        ids[length // 2] = _MASK
        places, tags = (0, length // 2, length - 1), (number % 2, 1, 0)
        target = (9 + number, 8, 2)
        fits = (number % 2, 1)
        row = Example(f"{number}", tuple(ids[:length]), target, number % 2, "", places=places, tags=tags, fits=fits)
        out.append(row)
    return out


def model_for(head: Head, family: str) -> PreTrainedModel | None:
    """A tiny model of the family that the head can be read of, with its language head where a mask is asked."""
    kind = find_sites(tiny(family)).kind
    if kind not in head.kinds:
        return None
    return tiny(family, masked=kind == "encoder" and getattr(head, "mask", None) is not None)


def _writer(head: Head, model: PreTrainedModel, text: tuple[int, ...] = TEXT, seed: int = 1) -> Writer:
    return make_writer(make("prefix"), Start(model, "guidance", text, seed=seed, classes=2 if head.trained else 0))


def _gradients(head: Head, model: PreTrainedModel, writer: Writer, checkpoint: bool = False) -> dict[str, Tensor]:
    batch, value = rows(), writer.write()
    writer.zero_grad()
    with checkpointing(model, checkpoint), injected(model, [value]):
        head.losses(head.outputs(model, batch), batch, value).mean().backward()
    return {n: p.grad.clone() for n, p in writer.named_parameters() if p.requires_grad and p.grad is not None}


def check_gradients(head: Head, model: PreTrainedModel, what: str) -> None:
    """Contract 1: every trainable parameter, the head's own too, gets a gradient, also right after an evaluation."""
    writer = _writer(head, model)
    names = {n for n, p in writer.named_parameters() if p.requires_grad}
    for evaluated in (False, True):
        if evaluated:
            with torch.no_grad(), injected(model, [writer.write()]):
                head.outputs(model, rows())
        found = _gradients(head, model, writer)
        dead = sorted(n for n in names if n not in found or not found[n].abs().max() > 0)
        assert not dead, f"{what}: no gradient for {dead}"


def check_mixed_batch(head: Head, model: PreTrainedModel, what: str) -> None:
    """Contract 4: rows behind different forewords, each with its own head, in one pass equal the rows alone."""
    a, b = (moved(_writer(head, model, text, seed), seed).write().detach() for text, seed in ((TEXT, 1), (TEXT[:3], 2)))
    # A row without a foreword has no trained weights to be read by.
    chosen: list[Foreword | None] = [a, b, a if head.trained else None, b]
    batch, places = rows(), {id(a): 0, id(b): 1}
    with torch.no_grad(), injected(model, [a, b], [None if one is None else places[id(one)] for one in chosen]):
        together = head.outputs(model, batch)
    for number, (one, row) in enumerate(zip(chosen, batch, strict=True)):
        with torch.no_grad(), injected(model, [] if one is None else [one]):
            alone = head.losses(head.outputs(model, [row]), [row], one or EMPTY)
        got = head.losses(together.of(number, number + 1), [row], one or EMPTY)
        close(got, alone, 1e-4, f"{what}, row {number}")


def check_lead(head: Head, model: PreTrainedModel, what: str) -> None:
    """Tokens in front of every input are the same as tokens in the rows."""
    batch = rows()
    with torch.no_grad():
        led = head.with_lead(TEXT).outputs(model, batch)
        inside = head.outputs(model, [row.behind(TEXT) for row in batch])
    close(led.values, inside.values, 1e-5, what)
    assert torch.equal(led.rows, inside.rows), what


def check_checkpointing(head: Head, model: PreTrainedModel, what: str) -> None:
    """Contract 8: gradient checkpointing gives the same gradients."""
    if not model.supports_gradient_checkpointing:
        return
    writer = _writer(head, model)
    plain, recomputed = _gradients(head, model, writer), _gradients(head, model, writer, checkpoint=True)
    assert plain.keys() == recomputed.keys(), what
    for name, gradient in plain.items():
        close(recomputed[name], gradient, 1e-5, f"{what}: {name}")


HEAD_CONTRACTS: dict[str, Callable[[Head, PreTrainedModel, str], None]] = {
    "1 gradients": check_gradients,
    "4 mixed batch": check_mixed_batch,
    "lead": check_lead,
    "8 checkpointing": check_checkpointing,
}


def tried() -> Iterator[tuple[str, int]]:
    """Every head that is tried: its name, and its place among those of that name."""
    for name, kind in registry().items():
        for number in range(len(kind.tried())):
            yield name, number


def check_head(name: str, families: tuple[str, ...] = tuple(FAMILIES)) -> None:
    """Run every contract of this module for the heads of one name on every family that they can be read of."""
    for head in registry()[name].tried():
        for family in families:
            model = model_for(head, family)
            if model is not None:
                for check in HEAD_CONTRACTS.values():
                    check(head, model, f"{head} on {family}")
