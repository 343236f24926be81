"""Where a base's name points to, and what its loaders' errors mean in our words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from foreword.errors import BaseError, ForewordError, ResourceError, UnsupportedBaseError
from foreword.messages import Message

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def is_gguf(path: Path) -> bool:
    """Whether the path is a file whose name ends in ``.gguf``, in any case."""
    return path.suffix.lower() == ".gguf"


def resolve(spec: str | Path) -> tuple[str, bool]:
    """A base's full name, and whether it is a local path rather than a hub id.

    Args:
        spec: as the user wrote it. What exists is a path; so is what looks like one (``./x``, ``~/x``, ``/x``,
            ``a/b/c``, ``x.gguf``). The rest is a hub id.

    Raises:
        BaseError: it looks like a path and is not there.
    """
    text = str(spec).strip()
    path = Path(text).expanduser()
    if text and path.exists():
        return str(path.resolve()), True
    is_path = isinstance(spec, Path) or text.startswith(("/", ".", "~")) or text.count("/") > 1 or "\\" in text
    if text and not is_path and not is_gguf(path):
        return text, False
    near = _nearest(path)
    raise BaseError(
        "there is no such base model",
        where=text or "base",
        expected="a folder with a model, a .gguf file, or a hub id such as owner/name",
        received="nothing at this path" if text else "an empty name",
        hint=Message("did you mean {near}?", near=near) if near else "check the path's spelling",
    )


def check_folder(folder: Path) -> None:
    """Refuse, before anything is loaded, a folder that cannot be a base.

    Raises:
        BaseError: it is a file, has no ``config.json``, no weights, no tokenizer, or is an adapter.
        UnsupportedBaseError: its weights are pickles only.
    """
    where = str(folder)
    if not folder.is_dir():
        raise BaseError("a base is a folder or a .gguf file", where=where, received=f"a file named {folder.name}")
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:
        raise BaseError(
            "this folder holds a PEFT adapter, not a base model",
            where=where,
            hint="name the base the adapter was trained on; foreword.export.peft.import_peft reads a prefix",
        )
    if "config.json" not in names:
        inside = next((name for name in sorted(names) if (folder / name / "config.json").is_file()), None)
        hint = (
            Message("did you mean {value}?", value=folder / inside)
            if inside
            else "save a model there with its save_pretrained"
        )
        raise BaseError("this folder holds no model", where=where, expected="a file config.json", hint=hint)
    if not any(name.endswith(".safetensors") for name in names):
        _refuse_weights(folder)
    if not any(name.startswith(("tokenizer", "vocab", "spiece", "sentencepiece")) for name in names):
        raise BaseError(
            "this folder holds a model without its tokenizer",
            where=where,
            expected="a file tokenizer.json",
            hint="save the tokenizer into the same folder with its save_pretrained",
        )


def commit_of(name: str, revision: str | None) -> str:
    """The commit that a hub id's revision stands for now, so that everything is loaded from the same one.

    Args:
        name: the hub id.
        revision: a branch, tag or commit; None for the main branch.
    """
    from transformers.utils.hub import cached_file

    path = Path(str(cached_file(name, "config.json", revision=revision)))
    return path.parent.name  # .../snapshots/<commit>/config.json


def stored_formats(name: str, commit: str | None) -> set[str]:
    """The number formats of a checkpoint's tensors, as safetensors calls them (``F32``, ``BF16``, ``F16``).

    Args:
        name: a folder, or a hub id whose weights are in the hub's cache.
        commit: the hub's commit; None for a folder.

    Returns:
        The formats; empty for weights that are not there yet.
    """
    from safetensors import safe_open

    folder = Path(name) if commit is None else snapshot(name, commit)
    formats = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            formats |= {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118 (not a dict)
    return formats


def snapshot(name: str, commit: str) -> Path:
    """The folder of the hub's cache that holds a commit."""
    from transformers.utils.hub import cached_file

    return Path(str(cached_file(name, "config.json", revision=commit))).parent


@contextmanager
def explained(name: str, *, local: bool) -> Iterator[None]:
    """Turn what transformers, torch and the hub raise into errors with a place and a remedy.

    Args:
        name: the base, as errors should call it.
        local: whether it is a local path rather than a hub id.
    """
    from transformers.utils import logging as bars

    # No report of unused weights (missing ones are an error of ours) and no bar for the second that reading them takes;
    # the hub's own bars, for downloads, stay.
    verbosity = bars.get_verbosity()
    bars.set_verbosity_error()
    hook = bars.set_tqdm_hook(lambda factory, args, kwargs: bars.EmptyTqdm(*args, **kwargs))
    try:
        yield
    except ForewordError as error:
        error.where = error.where or name
        error.args = (str(error),)
        raise
    except torch.OutOfMemoryError as error:
        hint = "use dtype bfloat16, a smaller base, or device cpu"
        raise ResourceError("the model does not fit in the device's memory", where=name, hint=hint) from error
    except Exception as error:  # dozens of loaders, of which each raises its own; the cause stays attached
        raise _translated(name, local, error) from error
    finally:
        bars.set_tqdm_hook(hook)
        bars.set_verbosity(verbosity)


def _refuse_weights(folder: Path) -> None:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UnsupportedBaseError(
            "the weights are stored as pickles, which can run code as they are loaded",
            where=str(folder),
            expected="a file model.safetensors",
            received=", ".join(pickles[:3]),
            hint="if you trust them, load the model once with transformers and save it with save_pretrained, which "
            "writes safetensors",
        )
    ggufs = sorted(path for path in folder.iterdir() if is_gguf(path))
    raise BaseError(
        "this folder holds no weights",
        where=str(folder),
        expected="a file model.safetensors",
        hint=Message("name the file itself: {value}", value=ggufs[0]) if ggufs else "download the model again",
    )


def _translated(name: str, local: bool, error: Exception) -> BaseError:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text or "custom code" in text:
        return UnsupportedBaseError(
            "this model needs code of its own, which foreword never runs",
            where=name,
            hint="choose a model whose architecture is part of transformers",
        )
    if isinstance(error, ImportError):
        return BaseError(Message("a package that this model needs is missing: {first}", first=_first(text)), where=name)
    if "safetensors" in text and "does not appear to have a file named" in text:
        return UnsupportedBaseError(
            "this model has no safetensors weights; pickles can run code as they are loaded and are not opened",
            where=name,
            hint="convert it to safetensors once yourself, or name another checkpoint",
        )
    if not local and isinstance(error, OSError):
        return BaseError(
            Message("the base model could not be fetched from the hub: {first}", first=_first(text)),
            where=name,
            expected="a hub id such as owner/name, or a local folder or .gguf file",
            hint="check the spelling and the network; a private model needs HF_TOKEN; with HF_HUB_OFFLINE=1 only "
            "models that were fetched before are found",
        )
    if isinstance(error, json.JSONDecodeError):
        return BaseError(
            Message("a file of this model is not JSON: {first}", first=_first(text)),
            where=name,
            hint="download it again",
        )
    if "model type" in text or "Unrecognized model" in text:
        return UnsupportedBaseError(
            Message("this is not a model that transformers knows: {first}", first=_first(text)), where=name
        )
    return BaseError(
        Message("the base model could not be loaded: {name}: {first}", name=type(error).__name__, first=_first(text)),
        where=name,
        hint="its files may be cut off or of different versions; download them again",
    )


def _first(text: str) -> str:
    return text if len(text) <= 240 else text[:240] + "..."


def _nearest(path: Path) -> str | None:
    parent = path.parent
    if not parent.is_dir():
        return None
    names = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=1)
    return str(parent / names[0]) if names else None
