"""A foreword to another tool's files and back: what the commands ``export`` and ``import`` do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from foreword.artifact.header import MAX_FILE_BYTES
from foreword.artifact.manifest import Manifest
from foreword.artifact.safe_files import read_regular
from foreword.artifact.store import save
from foreword.core.base.load import Base
from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.task.infer import space
from foreword.data.task.task import Task
from foreword.errors import FileFormatError, SettingsError
from foreword.export.base import SIDECAR, Exporting, make_format, registry
from foreword.export.cache_layout import value_of
from foreword.export.foreign_checkpoint import object_of
from foreword.export.llamacpp import decode_prompt
from foreword.export.llamacpp_lora import decode_lora, paired
from foreword.export.llamacpp_state import decode_state, halves
from foreword.export.mlx import decode_cache
from foreword.export.peft import import_peft
from foreword.export.replay import engine_of, replay
from foreword.runs.prepare.base import find_base
from foreword.runs.prepare.prepare import plain_settings
from foreword.runs.prepare.start import same_base
from foreword.runs.train.result import record_of, versions
from foreword.runs.use.use import open_foreword
from foreword.settings.schema import ProgressCall
from foreword.storage import explained, refuse_overwriting, write_atomically


def export(
    file: str | Path,
    output_dir: str | Path,
    *,
    format: str = "peft",
    settings: Mapping[str, Any] | None = None,
    base: str | Base | None = None,
    verify: bool | str = False,
    progress: ProgressCall | None = None,
) -> dict[str, Any]:
    """Write a ``.foreword`` file in another tool's format.

    Args:
        file: a ``.foreword`` file.
        output_dir: folder for the other tool's files; made if it is not there.
        format: the name of a format (docs/export.md).
        settings: of the format.
        base: a base to use instead of the one that the file names; it must be the same model.
        verify: ask the engine the file's golden rows afterwards and compare its tokens with ours; the path of a Python
            that has the engine, or True for this one.

    Returns:
        The format, the folder, its files, the guidance text, which the other tool does not put in front, and how many
        golden rows agreed.

    Raises:
        SettingsError: no such format, or one that cannot hold this foreword; nothing is written then.
        FileFormatError, BaseMismatchError: as ``foreword evaluate``.

    >>> from foreword.api import export
    >>> made = export("model.foreword", "peft", format="peft")
    >>> made["format"]
    'peft'
    """
    chosen = make_format(format, settings)
    opened = open_foreword(file, base, progress)
    folder = Path(output_dir)
    python = verify if isinstance(verify, str) else None
    with _working_folder(folder) as scratch:
        exporting = Exporting(Path(file).stem, opened.value, opened.manifest, opened.base, folder, scratch)
        files = chosen.write(exporting)
        if verify:
            engine_of(chosen, exporting, python)
        names = sorted([*files, *_place(files, exporting)])
        result = {"format": format, "folder": str(folder), "files": names, "text": opened.value.text}
        return {**result, "verified": replay(chosen, exporting, python)} if verify else result


def _place(files: Mapping[str, bytes], exporting: Exporting) -> list[str]:
    """Put an export's files into its folder, those of the scratch folder first; the names of the latter."""
    folder, large = exporting.folder, [path.name for path in exporting.scratch.iterdir()]
    folder.mkdir(parents=True, exist_ok=True)
    for name in large:
        (exporting.scratch / name).replace(folder / name)
    for name, content in files.items():
        write_atomically(folder / name, content)
        if name.endswith(".sh"):
            (folder / name).chmod(0o755)
    return large


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """An empty folder on the disk of ``folder``, gone at the end; nothing is made where an export is refused."""
    above = next(path for path in folder.absolute().parents if path.is_dir())
    with explained(folder), TemporaryDirectory(prefix=".partial-export-", dir=above) as scratch:
        yield Path(scratch)


def formats() -> list[dict[str, Any]]:
    """What each format holds and needs, as docs/export.md shows it."""
    return [
        {
            "format": kind.name,
            "engine": kind.title,
            "holds": ", ".join(kind.holds),
            "architectures": ", ".join(kind.architectures) or kind.admits,
            "needs": kind.needs,
            "proven": kind.proven or "not yet",
            "limits": kind.limits,
        }
        for kind in registry().values()
    ]


def import_(
    folder: str | Path,
    output: str | Path,
    base: str | Base,
    *,
    template: str = "{{ text }}",
    guidance: str = "",
    labels: Mapping[str, str] | None = None,
    progress: ProgressCall | None = None,
) -> dict[str, Any]:
    """Make a ``.foreword`` file of another tool's files: a PEFT checkpoint (prefix, prompt, P-tuning, LoRA), a prompt
    cache of MLX-LM, or a sequence state, an adapter or a soft prompt of llama.cpp.

    What was exported from here takes its task, golden rows and figures along. A checkpoint of the other tool says
    nothing of a task: then it is the one that ``template``, ``guidance`` and ``labels`` say.

    Args:
        folder: the checkpoint's folder, or the cache's or state's file.
        output: the file to write.
        base: the base that the checkpoint was trained on.
        template: text of a row.
        guidance: text in front of every row; only where no virtual tokens stand there.
        labels: label -> words, for a classification; None for generation.

    Raises:
        FileFormatError: the checkpoint is damaged, hostile, or of another kind.
        SettingsError: it gives other answers here than there, or does not fit the base.
        BaseMismatchError: it was exported from a foreword of another base.

    >>> from foreword.api import export, import_
    >>> made = export("model.foreword", "adapter", format="peft")
    >>> made = import_("adapter", "again.foreword", "base", template="Text: {{ text }}\\nLabel:")
    >>> made["method"]
    'prefix'
    """
    refuse_overwriting(output, (folder, base))
    loaded = base if isinstance(base, Base) else find_base(base, progress=progress)
    value, beside = _value_of(Path(folder), loaded)
    manifest = _taken_along(beside)
    if manifest is None:
        value, manifest = _new(value, loaded, template, guidance, labels)
    else:
        same_base(manifest, loaded, str(folder))
    with injected(loaded.model, [value]):
        pass  # what does not fit the base is refused here, before anything is written
    return _figures(Path(output), value, save(output, value, manifest))


def _figures(file: Path, value: Foreword, written: Manifest) -> dict[str, Any]:
    """What was imported, for the caller."""
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "method": written.method,
        "num_virtual_tokens": value.num_virtual_tokens,
        "num_values": value.num_values,
        "task": written.task,
        "golden_rows": len(written.golden),
    }


def _value_of(source: Path, base: Base) -> tuple[Foreword, Path]:
    """What ``source`` holds, and the folder in which what was taken along lies."""
    if source.is_file():
        return _engine_cache(source, base), source.parent
    layers = {name: sizes(layer) for name, layer in linear_layers(base.model).items()}
    return import_peft(source, _self_sites(base), layers), source


def _self_sites(base: Base) -> list[str]:
    """The names of the base's self-attention sites in the order of its layers."""
    return [name for name, site in find_sites(base.model).sites.items() if site.kind == "self"]


def _engine_cache(path: Path, base: Base) -> Foreword:
    """What a prompt cache of MLX-LM holds, or a sequence state, an adapter or a soft prompt of llama.cpp."""
    sites = find_sites(base.model)
    names = _self_sites(base)
    if path.suffix == ".gguf":
        return Foreword(adapters=decode_lora(path, list(linear_layers(base.model)), base.model.config))
    if path.suffix == ".npy":
        return Foreword(prompt=decode_prompt(read_regular(path, MAX_FILE_BYTES, follow_links=True), str(path)))
    content = read_regular(path, MAX_FILE_BYTES, follow_links=True)
    if path.suffix == ".safetensors":
        cache = decode_cache(content, str(path))
    else:
        flat, _ = decode_state(content, str(path))
        site = sites.sites[names[0]]
        if flat.shape[3] != site.heads * site.key_size:
            raise FileFormatError(
                "its rows do not fit the base", where=str(path), expected=site.heads * site.key_size,
                received=flat.shape[3],
            )  # fmt: skip
        heads = flat.reshape(*flat.shape[:3], site.heads, site.key_size)
        if paired(base.model.config):
            heads[:, 0] = halves(heads[:, 0], site.key_size)
        cache = torch.from_numpy(heads).permute(0, 1, 3, 2, 4)
    if len(cache) != len(names):
        raise FileFormatError("another number of layers", where=str(path), expected=len(names), received=len(cache))
    return value_of(cache, names)


def _taken_along(folder: Path) -> Manifest | None:
    """The manifest beside an export of ours; None for a checkpoint of the other tool's own."""
    path = folder / SIDECAR
    fields = object_of(path).get("manifest") if path.exists() else None
    if fields is None:
        return None
    return Manifest.from_json_text(json.dumps(fields), path)


def _new(
    value: Foreword, base: Base, template: str, guidance: str, labels: Mapping[str, str] | None
) -> tuple[Foreword, Manifest]:
    """The value with its text, and what its file says."""
    if guidance and value.num_virtual_tokens:
        raise SettingsError("virtual tokens stand in front already", where="--guidance", hint="leave the guidance out")
    text = value.text or guidance
    value = Foreword(text, value.prompt, value.sites, adapters=value.adapters)
    words = {label: space(template, False, word) + word for label, word in (labels or {}).items()}
    task = Task("classification" if labels else "generation", template, text, "label" if labels else "target", words)
    kind = "lora" if value.adapters else "prompt" if value.prompt is not None else "prefix"
    return value, Manifest(
        base=record_of(base),
        method=kind,
        task=plain_settings(task.to_json()),
        positions=find_sites(base.model).positions if value.num_virtual_tokens else "content",
        text=text,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=versions(),
        notes="imported from another tool's files",
    )
