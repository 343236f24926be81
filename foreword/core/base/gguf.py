"""A GGUF file, converted once to a folder of safetensors in the user's cache.

The base is trained on, exported and fingerprinted as an ordinary Hugging Face folder, so the blocks of a GGUF are
unpacked once. A folder is keyed by the sha256 of the GGUF's bytes: a file that was replaced is converted anew.

What is checked and repaired, because transformers' reader does not:
the rule by which a byte-level vocabulary splits digits (``tokenizer.ggml.pre``), and the longest input.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from foreword.errors import BaseError, ForewordError, UnsupportedBaseError
from foreword.messages import Message
from foreword.storage import building, cache_folder, file_digest

Progress = Callable[..., None]
"""Called as ``progress(name, done, total)``."""

CONVERTER = 1
"""Part of a folder's key: raised when the conversion itself changes what it writes."""

_MAGIC = b"GGUF"
# Above this many values a model is kept in 16 bits: twice the GGUF's own size at most, rather than four to eight times.
_FULL_PRECISION_LIMIT = 1_000_000_000
# llama.cpp's names for "every digit alone, then GPT-2's rule".
_DIGITS_ALONE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})


def convert_gguf(path: Path, *, progress: Progress | None = None) -> Path:
    """The folder that holds the GGUF's model, tokenizer and chat template, made if it is not there yet.

    Args:
        path: the ``.gguf`` file.
        progress: called with the stage's name, how much is done and how much there is.

    Returns:
        ``<cache>/gguf/<stem>-<first 16 digits of the sha256>``: config, safetensors (float32 up to a billion values,
        else bfloat16) and tokenizer.

    Raises:
        BaseError: the file is missing, is not a GGUF, or cannot be read.
        UnsupportedBaseError: transformers cannot read this architecture from a GGUF.
        ResourceError: the cache's disk is full.
    """
    _check_magic(path)
    advance = None if progress is None else (lambda done, total: progress("read GGUF", done, total))
    digest = file_digest(path, advance)
    key = digest[:16] if CONVERTER == 1 else f"{digest[:16]}-v{CONVERTER}"
    target = cache_folder("gguf", f"{path.stem}-{key}")
    if (target / "config.json").is_file():
        return target
    values, pre = _look(path)
    width = 4 if values <= _FULL_PRECISION_LIMIT else 2
    with building(target, needs_bytes=values * width + 64_000_000) as folder, _bars(progress):
        try:
            _convert(path, folder, "float32" if width == 4 else "bfloat16", pre)
        except ForewordError:
            raise
        except Exception as error:  # the readers below raise nearly every built-in error on a damaged file
            raise UnsupportedBaseError(
                Message("this GGUF file cannot be converted: {name}: {error}", name=type(error).__name__, error=error),
                where=str(path),
                expected="a text model whose architecture transformers reads from GGUF",
                hint="use the model's original folder or hub id instead of the GGUF file",
            ) from error
        source = {"gguf": path.name, "sha256": digest, "converter": CONVERTER}
        (folder / "foreword_source.json").write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")
    return target


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise BaseError("there is no such GGUF file", where=str(path), hint="check the path's spelling")
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != _MAGIC:
        raise BaseError(
            "this is not a GGUF file, or its download was cut off",
            where=str(path),
            expected=Message("the first four bytes {value!r}", value=_MAGIC),
            received=repr(magic),
            hint="download the file again",
        )


def _look(path: Path) -> tuple[int, str]:
    """How many values the tensors hold, and the name of the vocabulary's splitting rule."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(path))
        field = reader.get_field("tokenizer.ggml.pre")
        values = sum(int(tensor.n_elements) for tensor in reader.tensors)
        return values, "" if field is None else str(field.contents())
    except Exception as error:  # a cut-off file fails in numpy, with whatever its bytes happen to mean
        raise BaseError(
            Message("this GGUF file is damaged: {name}: {error}", name=type(error).__name__, error=error),
            where=str(path),
            hint="download the file again and compare its size with the source's",
        ) from error


def _convert(path: Path, folder: Path, dtype: str, pre: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"gguf_file": path.name, "trust_remote_code": False, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **place)
    if pre in _DIGITS_ALONE:
        _split_digits(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=dtype, **place, **_dequantized())
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context:
        tokenizer.model_max_length = int(context)
    model.config.name_or_path = ""  # the title inside a GGUF is not a name that anything can be loaded by
    model.save_pretrained(str(folder), max_shard_size="2GB")
    tokenizer.save_pretrained(str(folder))
    _forget_local_keys(folder / "tokenizer_config.json")


def _dequantized() -> dict[str, Any]:
    """What asks ``from_pretrained`` for dense weights: older releases always unpack and know no such setting."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _split_digits(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    rule = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(rule)


def _forget_local_keys(path: Path) -> None:
    """Remove what says how this one load was asked for, and would otherwise be asked for again for ever."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in ("is_local", "local_files_only")}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _bars(progress: Progress | None) -> Iterator[None]:
    """Send transformers' progress bars to ``progress``; without one they are shown nowhere."""
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging as bars

    class Bar(bars.EmptyTqdm):
        def __init__(self, items: Any = None, *, desc: str = "", total: int | None = None, **_: Any) -> None:
            super().__init__(items)  # type: ignore[no-untyped-call]
            self.name, self.done = desc.strip(". "), 0
            self.total = total if total is not None else (len(items) if items is not None else 0)

        def __iter__(self) -> Iterator[Any]:
            for item in self._iterator or ():
                yield item
                self.update(1)

        def update(self, n: int = 1) -> None:
            self.done += n
            if progress is not None:
                progress(self.name, self.done, self.total)

    # The reader of GGUF tensors takes tqdm itself and asks nobody.
    own = mock.patch.object(reader, "tqdm", Bar) if "tqdm" in vars(reader) else contextlib.nullcontext()
    previous = bars.set_tqdm_hook(lambda factory, args, kwargs: Bar(*args, **kwargs))
    try:
        with own, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        bars.set_tqdm_hook(previous)
