"""Try a method or a foreword without weights and without a network: tiny random models of every family.

    from foreword.testing.method_contracts import check_method
    check_method("prefix")                    # every contract on every family, in seconds

Your own method is checked the same way once its file stands in foreword/methods/.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, StaticCache

from foreword.core.attention.checkpointing import checkpointing
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.soft_slots import placeholder
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.methods.base import Start, Writer, make, make_writer, registry
from foreword.testing.families import FAMILIES, REFUSED, tiny
from foreword.testing.variants import PLAIN, Contract, Variant


def byte_tokenizer(chat: bool = False, mask: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte; 0 pad, 1 bos, 2 eos, bytes from 3. ``chat`` gives it a chat template, ``mask`` a token to fill
    in: 259."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, **{c: i + 3 for i, c in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    out = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    if mask:
        out.add_special_tokens({"mask_token": "<mask>"})
    if chat:
        out.chat_template = (
            "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
            "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
        )
    return out


TEXT = (7, 11, 23, 31, 47)
_ROW = 9
# Where a template may have its soft slots: behind any number of a row's tokens, and in front, in the middle and at the
# end at once.
PLACES: tuple[str | int, ...] = ("around", *range(_ROW + 1))


def sample_ids(rows: int = 3, length: int = 7, seed: int = 0) -> Tensor:
    """Random token ids ``[rows, length]`` without special ones."""
    return torch.randint(3, 260, (rows, length), generator=torch.Generator().manual_seed(seed))


def around(ids: Tensor, parts: Sequence[int], place: str | int = "around") -> Tensor:
    """Rows ``[B, T]`` with the ids ``parts`` in them: in front, in the middle, at the end, in all three places, or
    behind the first ``place`` tokens."""
    rows, length = ids.shape
    named = {"front": (0, 0), "middle": (length // 2,) * 2, "end": (length, length), "around": (0, length // 2)}
    cuts = named[place] if isinstance(place, str) else (place, place)
    third = len(parts) // 3 if place == "around" else 0
    pieces = [parts[:third], parts[third : 2 * third], parts[2 * third :]]
    ends = (*cuts, length) if place == "around" else (0, 0, cuts[0])
    out, begin = [], 0
    for end, piece in zip(ends, pieces, strict=True):
        out += [ids[:, begin:end], torch.tensor([list(piece)] * rows, dtype=torch.long)]
        begin = end
    return torch.cat([*out, ids[:, begin:]], 1)


def behind(value: Foreword | None, ids: Tensor, place: str | int = "around") -> Tensor:
    """The rows as a template for ``value`` makes them: with a placeholder for each of its soft slots."""
    slots = None if value is None else value.slots
    return ids if slots is None else around(ids, [placeholder(i) for i in range(slots.shape[0])], place)


def output(
    model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None, decoder_ids: Tensor | None = None
) -> Tensor:
    """Logits, or the last hidden state of a model without a head, ``[B, T, V or E]``."""
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}
    if model.config.is_encoder_decoder:
        # Soft slots stand in what an encoder reads.
        arguments["decoder_input_ids"] = ids.clamp(min=0) if decoder_ids is None else decoder_ids
    kind = find_sites(model).kind
    if kind != "encoder":
        arguments["use_cache"] = False
    if kind == "decoder" and model.generation_config.cache_implementation == "static":
        room = StaticCache(config=model.config, max_cache_len=ids.shape[1] + 8)
        arguments |= {"use_cache": True, "past_key_values": room}
    out: Tensor = model(**arguments)[0]
    return out


def reaches(method: str, family: str) -> bool:
    """Whether the method trains a foreword for the family (a soft prompt cannot pass through a recurrent state)."""
    model, kind = tiny(family), registry()[method]
    if not kind.learning_rates or find_sites(model).kind not in kind.kinds:
        return False
    try:
        with injected(model, [writer_for(method, model).write()]):
            return True
    except UnsupportedBaseError:
        return False


def writer_for(method: str, model: PreTrainedModel, **settings: Any) -> Writer:
    """A writer of a method on a tiny model, started from the text ``TEXT``."""
    return make_writer(make(method, settings), Start(model, "guidance", TEXT, slots=TEXT))


def trained_for(method: str, model: PreTrainedModel, text: tuple[int, ...] = TEXT, seed: int = 1) -> Foreword:
    """A foreword of a method as training could leave it: every value moved a little from where it starts."""
    writer = make_writer(make(method), Start(model, "guidance", text, seed=seed, slots=text))
    return moved(writer, seed).write().detach()


def moved(writer: Writer, seed: int = 1) -> Writer:
    """The writer with every value moved a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in writer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return writer


def _loss(model: PreTrainedModel, writer: Writer) -> Tensor:
    value = writer.write()
    with injected(model, [value]):
        return output(model, behind(value, sample_ids())).float().pow(2).mean()


def gradients(model: PreTrainedModel, writer: Writer, checkpoint: bool = False) -> dict[str, Tensor]:
    """The gradient of every trainable parameter of ``writer`` after one backward pass."""
    writer.zero_grad()
    value = writer.write()
    with checkpointing(model, checkpoint), injected(model, [value]):
        output(model, behind(value, sample_ids())).float().pow(2).mean().backward()
    return {n: p.grad.clone() for n, p in writer.named_parameters() if p.requires_grad and p.grad is not None}


def check_gradients(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 1: every trainable parameter gets a gradient, also right after an evaluation."""
    model = on.tiny(family)
    writer = writer_for(method, model)
    if registry()[method].silent_start:
        moved(writer)
    names = {n for n, p in writer.named_parameters() if p.requires_grad}
    for evaluated in (False, True):
        if evaluated:
            with torch.no_grad():
                _loss(model, writer)
        found = gradients(model, writer)
        dead = sorted(n for n in names if n not in found or not found[n].abs().max() > 0)
        assert not dead, f"{method} on {family}: no gradient for {dead}"


def check_mixed_batch(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 4: rows with different forewords, and none, in one batch equal the rows alone, whatever the padding.

    A method whose rows cannot share a batch says so, and such a batch is refused.
    """
    model = on.tiny(family)
    kind = find_sites(model).kind
    a, b = (trained_for(method, model, text, seed) for text, seed in ((TEXT, 1), (TEXT[:3], 2)))
    if not registry()[method].per_row:
        _check_refused(method, model, a, b)
        return
    chosen, ids, lengths = (a, b, None, b), sample_ids(4, 8), (8, 5, 8, 3)
    own = [behind(one, ids[i : i + 1, :n]) for i, (one, n) in enumerate(zip(chosen, lengths, strict=True))]
    width = max(row.shape[1] for row in own)
    answers = ids[:, :4]
    # Learned absolute positions and a BERT without position_ids know no left padding; neither does the base itself.
    for side in ("right", "left") if kind == "decoder" else ("right",):
        batch, mask = torch.zeros(4, width, dtype=torch.long), torch.zeros(4, width, dtype=torch.long)
        for i, row in enumerate(own):
            place = slice(0, row.shape[1]) if side == "right" else slice(width - row.shape[1], width)
            batch[i, place], mask[i, place] = row[0], 1
        with torch.no_grad(), injected(model, [a, b], [0, 1, None, 1]):
            together = output(model, batch, mask, answers if kind == "encoder-decoder" else None)
        for i, one in enumerate(chosen):
            with torch.no_grad(), injected(model, [one] if one else []):
                alone = output(model, own[i], None, answers[i : i + 1] if kind == "encoder-decoder" else None)
            got = together[i] if kind == "encoder-decoder" else together[i][mask[i].bool()]
            on.close(got, alone[0], 1e-4, f"{method} on {family}, row {i}, {side} padding")


def _check_refused(method: str, model: PreTrainedModel, a: Foreword, b: Foreword) -> None:
    for rows in ([0, 1], [0, None]):
        try:
            with injected(model, [a, b], rows):
                raise AssertionError(f"{method}: rows {rows} should be refused")
        except SettingsError:
            pass


def check_generate(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 5: teacher-forced logits equal those of ``generate``, unmodified."""
    model = on.tiny(family)
    if find_sites(model).kind == "encoder":
        return  # an encoder does not generate
    value = trained_for(method, model)
    ids = behind(value, sample_ids(2, 6))
    with torch.no_grad(), injected(model, [value]):
        made = model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            eos_token_id=None,
            pad_token_id=0,
        )
        stepwise = torch.stack(made.logits, 1)
        if model.config.is_encoder_decoder:
            forced = output(model, ids, None, made.sequences[:, :-1])
        else:
            forced = output(model, made.sequences)[:, ids.shape[1] - 1 : -1]
    on.close(forced, stepwise, 1e-4, f"{method} on {family}")


def check_base_untouched(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 6: the base is bit-equal after training, and after leaving the context, also by an exception."""
    model = on.tiny(family)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    ids, implementation, stood = sample_ids(), model.config._attn_implementation, _standing(model)
    assert not (on.left and any(any(parts) for parts in stood)), f"{family}: a hook stayed behind"
    with torch.no_grad():
        plain = output(model, ids)
    writer = writer_for(method, model)
    optimizer = torch.optim.AdamW(writer.parameters(), lr=1e-2)
    for _ in range(2):
        gradients(model, writer)
        optimizer.step()
    try:
        with injected(model, [writer.write()]):
            raise KeyError
    except KeyError:
        pass
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items()), f"{family}: the base changed"
    assert model.config._attn_implementation == implementation
    assert _standing(model) == stood, f"{family}: a hook or weights stayed behind"
    with torch.no_grad():
        assert torch.equal(plain, output(model, ids)), f"{family}: other outputs after leaving"


def _standing(model: PreTrainedModel) -> list[tuple[bool, bool, bool]]:
    """Whether something stands on each module: a function, other weights, a hook of torch's."""
    return [
        ("forward" in vars(m), type(m._parameters) is not dict, bool(m._forward_pre_hooks or m._forward_hooks))
        for m in model.modules()
    ]


def check_text_start(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 7: initialised from a text, step 0 is the base with that text in front, or where the slots stand; also
    with the content longer than a sliding window."""
    model = on.tiny(family)
    value = writer_for(method, model).write().detach()
    kind = find_sites(model).kind
    # Keys and values of a text that did not see the content are another thing in an encoder; a soft prompt is not.
    if value.sites and not FAMILIES[family].exact_text:
        return
    ids = sample_ids(2, _ROW)
    for place in PLACES if value.slots is not None else ("front",):
        # Where nothing that was learned stands in the row or in front of it, the text itself does.
        learned = value.slots is not None or value.num_virtual_tokens > 0
        with torch.no_grad():
            with nullcontext() if on.left else injected(model):
                expected = output(model, around(ids, TEXT, place), None, ids)
            with injected(model, [value]):
                got = output(model, behind(value, ids, place) if learned else around(ids, TEXT, place), None, ids)
        if value.num_virtual_tokens and kind != "encoder-decoder":
            expected = expected[:, len(TEXT) :]
        on.close(got, expected, 1e-4, f"{method} on {family}, {place}")


def check_checkpointing(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 8: gradient checkpointing gives the same gradients."""
    model = on.tiny(family)
    if not model.supports_gradient_checkpointing:
        return
    writer = writer_for(method, model)
    plain, recomputed = gradients(model, writer), gradients(model, writer, checkpoint=True)
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        on.close(recomputed[name], gradient, 1e-5, f"{method} on {family}: {name}")


def check_threads(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 10: two threads with different forewords on one base, at the same time, each get their own answers."""
    from concurrent.futures import ThreadPoolExecutor

    model = on.tiny(family)
    values = [trained_for(method, model, text, seed) for text, seed in ((TEXT, 1), (TEXT[:3], 2))]
    chosen: list[Foreword | None] = [values[0], values[1], None, values[1], values[0]]
    ids = sample_ids()

    def answer(value: Foreword | None) -> Tensor:
        if value is None:
            with torch.no_grad():
                return output(model, ids)
        with torch.no_grad(), injected(model, [value]):
            return output(model, behind(value, ids))

    alone = [answer(v) for v in chosen]
    with ThreadPoolExecutor(len(chosen)) as pool:
        for _ in range(3):
            for got, expected in zip(pool.map(answer, chosen), alone, strict=True):
                on.close(got, expected, 1e-5, f"{method} on {family}")


close = PLAIN.close

CONTRACTS: dict[str, Contract] = {
    "1 gradients": check_gradients,
    "4 mixed batch": check_mixed_batch,
    "5 generate": check_generate,
    "6 base untouched": check_base_untouched,
    "7 text start": check_text_start,
    "8 checkpointing": check_checkpointing,
    "10 threads": check_threads,
}


def check_method(name: str, families: tuple[str, ...] = tuple(FAMILIES), on: Variant = PLAIN) -> None:
    """Run every contract of this module for one method on every family that it reaches."""
    for family in families:
        if not reaches(name, family):
            continue
        for contract in CONTRACTS.values():
            contract(name, family, on)


__all__ = [
    "CONTRACTS",
    "FAMILIES",
    "REFUSED",
    "byte_tokenizer",
    "check_method",
    "output",
    "sample_ids",
    "tiny",
]
