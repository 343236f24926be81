"""Find and load the frozen base: a hub id, a local folder, or a GGUF file.

The base is only read: it is in evaluation mode, no parameter requires a gradient, no code that comes with a model
is run, and only safetensors weights are opened (a pickle can run code as it is loaded).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from foreword.core.base.architecture import Kind, kind_of
from foreword.core.base.device import number_format, pick_device, pick_dtype
from foreword.core.base.fingerprint import fingerprint, fingerprint_differences, weights_digest
from foreword.core.base.gguf import Progress, convert_gguf
from foreword.core.base.locate import check_folder, commit_of, explained, is_gguf, resolve, stored_formats
from foreword.core.base.own_head import OwnHead, has_language_head, own_head, without_words
from foreword.core.base.precision import best_precision
from foreword.errors import BaseError
from foreword.messages import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Base", "Kind", "Outline", "base_of", "fingerprint_differences", "load_base"]


@dataclass(frozen=True, eq=False)
class Outline:
    """What is known of a base before its weights are read: architecture, kind, tokenizer and language head as in
    :class:`Base`."""

    architecture: str
    kind: Kind
    tokenizer: Any
    language_head: bool = True


@dataclass(frozen=True, eq=False)
class Base:
    """A frozen model with its tokenizer.

    Attributes:
        model: the transformers model, in evaluation mode, no parameter requiring a gradient.
        tokenizer: its tokenizer; it always has a padding token.
        id: what was asked for: a hub id, or the absolute path of a folder or GGUF file.
        revision: the hub's commit, None for local files.
        architecture: the class name of ``model``.
        kind: which way the model reads and writes.
        fingerprint: four digests, see :mod:`foreword.core.base.fingerprint`.
        context: the longest input in tokens; None when the model has no fixed limit.
        hidden_size: E, the width of the model's hidden states.
        why: why it is in this number format, where that was left open.
        own_head: the classification head that its checkpoint ends in, None where there is none.
    """

    model: PreTrainedModel
    tokenizer: Any
    id: str
    revision: str | None
    architecture: str
    kind: Kind
    fingerprint: dict[str, str]
    context: int | None
    hidden_size: int
    why: Message | None = None
    own_head: OwnHead | None = None

    @property
    def language_head(self) -> bool:
        """Whether it can be asked for words; a checkpoint that ends in a classification head mostly cannot."""
        return self.kind != "decoder" or has_language_head(self.model.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def precision(self) -> dict[str, str]:
        """For reports: the number format, and why it is that one where that was left open."""
        return {
            "precision": number_format(self.dtype),
            **({} if self.why is None else {"why this precision": self.why}),
        }

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return next(self.model.parameters()).dtype


def load_base(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    task_head: bool = False,
    accept: Callable[[Outline], None] | None = None,
    progress: Progress | None = None,
) -> Base:
    """Load a text model and freeze it.

    Args:
        spec: a hub id, a folder, or a ``.gguf`` file (converted once into the cache).
        device: ``auto`` (CUDA when there is one, else the CPU), or a torch device such as ``cpu``, ``cuda:1``, ``mps``.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: the fastest that is as good on this machine.
        revision: a branch, tag or commit of the hub; not for local files.
        task_head: for encoders: keep the pretrained masked-language head (``AutoModelForMaskedLM``); without it the
            bare encoder is loaded. No effect on the other kinds, whose language head always comes along.
        accept: called with what is known before the weights are read; what it raises ends the loading.
        progress: called as ``progress(name, done, total)`` while a GGUF is converted and the model is loaded.

    Raises:
        BaseError: not found, not readable, or its weights are incomplete.
        UnsupportedBaseError: not a text model, or it needs code or pickles that are never run.
        ResourceError: the device is not there, or its memory is too small.
        SettingsError: an unknown device or dtype.

    >>> from foreword import load_base
    >>> base = load_base("base")
    >>> base.kind, any(parameter.requires_grad for parameter in base.model.parameters())
    ('decoder', False)
    """
    place, number = pick_device(device), pick_dtype(dtype)
    name, local = resolve(spec)
    folder = _folder_of(name, progress) if local else name
    # Converting a checkpoint of the hub to safetensors there is not ours to ask for.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    with explained(name, local=local):
        commit = None if local else commit_of(name, revision)
        how = {"trust_remote_code": False, "local_files_only": local, "revision": commit}
        _say(progress, 0)
        number, why = _chosen(folder, how, place) if number == "auto" else (number, None)
        stored = _stored(folder, how, task_head, accept) if _narrows(folder, commit, number) else None
        model, tokenizer = _load(folder, how, number, task_head, None if stored else accept)
        model = model.to(place)
        head = own_head(folder, commit, model.config)
        _say(progress, 1)
    return replace(base_of(model, tokenizer, id=name, revision=commit, stored=stored), why=why, own_head=head)


def _say(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress("load model", done, 1)


def _chosen(folder: str, how: dict[str, Any], device: torch.device) -> tuple[torch.dtype, Message]:
    """The number format that is left to us, and why it is that one."""
    config = _config(folder, how)
    chosen = best_precision(config, kind_of(config), device)
    return chosen.dtype, chosen.why


def _folder_of(name: str, progress: Progress | None) -> str:
    """A local base's folder, converted where it is a GGUF file. Raises BaseError where it is none."""
    path = convert_gguf(Path(name), progress=progress) if is_gguf(Path(name)) else Path(name)
    check_folder(path)
    return str(path)


def _narrows(folder: str, commit: str | None, dtype: Any) -> bool:
    """Whether loading in ``dtype`` changes what the fingerprint sees: it rounds to bfloat16, which is another number
    where float16 has rounded before. float32 holds every stored value, and bfloat16 is rounded to once."""
    return dtype == torch.float16 and stored_formats(folder, commit) != {"F16"}


def _stored(
    folder: str, how: dict[str, Any], task_head: bool, accept: Callable[[Outline], None] | None
) -> dict[str, str]:
    """The fingerprint of the weights as they are stored; the model that it takes is gone afterwards."""
    return fingerprint_of(*_load(folder, how, torch.float32, task_head, accept))


def base_of(
    model: Any,
    tokenizer: Any,
    *,
    id: str = "in memory",
    revision: str | None = None,
    stored: dict[str, str] | None = None,
) -> Base:
    """Freeze a model that is in memory already: evaluation mode, no gradients, a padding token, a fingerprint.

    Args:
        model: a transformers text model; it is changed in place.
        tokenizer: its tokenizer; a missing padding token is set to the end-of-text token.
        id: the name to record.
        revision: the hub's commit to record.
        stored: the fingerprint of its stored weights, where the number format that it is in does not show it.

    Raises:
        UnsupportedBaseError: it is not a text model.
    """
    kind = kind_of(model.config)
    model.eval()
    model.requires_grad_(False)
    _set_padding(tokenizer, model)
    text = model.config.get_text_config()
    return Base(
        model=model,
        tokenizer=tokenizer,
        id=id,
        revision=revision,
        architecture=type(model).__name__,
        kind=kind,
        fingerprint=stored or fingerprint_of(model, tokenizer),
        context=_context(model),
        hidden_size=int(text.hidden_size),
    )


def _config(folder: str, how: dict[str, Any]) -> Any:
    import transformers

    from foreword.core.base import lstm  # noqa: F401 (registers its config and model)

    return transformers.AutoConfig.from_pretrained(folder, **how)


def _load(
    folder: str, how: dict[str, Any], dtype: Any, task_head: bool, accept: Callable[[Outline], None] | None
) -> tuple[Any, Any]:
    import transformers

    config = _config(folder, how)
    kind = kind_of(config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **how)
    if accept is not None:
        words = kind != "decoder" or has_language_head(config)
        accept(Outline((config.architectures or [config.model_type])[0], kind, tokenizer, words))
    arguments = {**how, "config": config, "dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    if kind == "encoder" and not task_head:
        try:
            model, info = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False, **arguments)
        except TypeError:  # this family's class has no such switch, nor mostly a pooler
            model, info = transformers.AutoModel.from_pretrained(folder, **arguments)
    else:
        loaders: dict[str, Any] = {
            "decoder": transformers.AutoModelForCausalLM,
            "encoder": transformers.AutoModelForMaskedLM,
            "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
        }
        model, info = loaders[kind].from_pretrained(folder, **arguments)
    known = without_words(model) if kind == "decoder" and not has_language_head(config) else set[str]()
    absent = sorted(name for name in info["missing_keys"] if "pooler" not in name and name not in known)
    if absent or info["mismatched_keys"]:
        wrong = absent or [str(entry) for entry in info["mismatched_keys"]]
        raise BaseError(
            Message("the checkpoint does not hold all the weights of {name}", name=type(model).__name__),
            expected=Message("{n} more or other tensors, such as {value}", n=len(wrong), value=wrong[0]),
            hint="choose a checkpoint that was saved with its language head, or download it again",
        )
    return model, tokenizer


def fingerprint_of(model: Any, tokenizer: Any = None) -> dict[str, str]:
    """The fingerprint of a model in memory; without a tokenizer, of its config and weights alone."""
    own = _own_parameters(model, kind_of(model.config))
    return fingerprint(model.config, tokenizer, own, chat_template=getattr(tokenizer, "chat_template", None))


def float16_weights(model: Any) -> str:
    """The digest that the weights of a model in memory have after they were rounded to float16: what a file says that
    was saved by a trainer who loaded its base so."""
    own = _own_parameters(model, kind_of(model.config))
    return weights_digest((name, tensor.to(torch.float16)) for name, tensor in own)


def _own_parameters(model: Any, kind: Kind) -> Iterator[tuple[str, torch.Tensor]]:
    # An encoder has one fingerprint with and without a head or a pooler.
    body = model.base_model if kind == "encoder" else model
    for name, tensor in body.named_parameters():
        if kind != "encoder" or not name.startswith("pooler."):
            yield name, tensor


def _set_padding(tokenizer: Any, model: Any) -> None:
    if tokenizer.pad_token_id is None:
        substitute = tokenizer.eos_token or tokenizer.unk_token
        if substitute is None:
            raise BaseError("the tokenizer has neither a padding token nor an end-of-text token to stand in for it")
        tokenizer.pad_token = substitute
    generation = getattr(model, "generation_config", None)
    if generation is not None and generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.pad_token_id


def _context(model: Any) -> int | None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None or int(limit) <= 0:
        return None
    # RoBERTa's learned positions start after the padding token's, so that the first of them are never used.
    offsets = [
        module.padding_idx + 1
        for name, module in model.named_modules()
        if name.endswith("embeddings.position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return int(limit) - max(offsets, default=0)
