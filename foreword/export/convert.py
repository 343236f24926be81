"""A foreword to another tool's files and back: what the commands ``export`` and ``import`` do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.artifact.manifest import Manifest
from foreword.artifact.store import save
from foreword.core.base.load import Base
from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.task.infer import space
from foreword.data.task.task import Task
from foreword.errors import SettingsError
from foreword.export.foreign_checkpoint import object_of
from foreword.export.peft import SIDECAR, export_peft, import_peft
from foreword.runs.prepare.base import find_base
from foreword.runs.prepare.prepare import plain_settings
from foreword.runs.prepare.start import same_base
from foreword.runs.train.result import record_of, versions
from foreword.runs.use.use import open_foreword
from foreword.settings.schema import ProgressCall
from foreword.storage import refuse_overwriting

FORMATS = ("peft",)


def export(
    file: str | Path,
    output_dir: str | Path,
    *,
    format: str = "peft",
    base: str | Base | None = None,
    progress: ProgressCall | None = None,
) -> dict[str, Any]:
    """Write a ``.foreword`` file in another tool's format.

    Args:
        file: a ``.foreword`` file.
        output_dir: folder for the other tool's files; made if it is not there.
        format: ``peft``: what ``PeftModel.from_pretrained(base, output_dir)`` loads.
        base: a base to use instead of the one that the file names; it must be the same model.

    Returns:
        The format, the folder, its files, and the guidance text, which the other tool does not put in front.

    Raises:
        SettingsError: no such format, or one that cannot hold this foreword.
        FileFormatError, BaseMismatchError: as ``foreword evaluate``.
    """
    if format not in FORMATS:
        raise SettingsError("no such format", where="--format", expected=", ".join(FORMATS), received=format)
    opened = open_foreword(file, base, progress)
    folder = export_peft(opened.value, opened.manifest, output_dir, opened.base.model)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return {"format": format, "folder": str(folder), "files": files, "text": opened.value.text}


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
    """Make a ``.foreword`` file of another tool's checkpoint (PEFT: prefix, prompt, P-tuning, LoRA).

    What was exported from here takes its task, golden rows and figures along. A checkpoint of the other tool says
    nothing of a task: then it is the one that ``template``, ``guidance`` and ``labels`` say.

    Args:
        folder: the checkpoint.
        output: the file to write.
        base: the base that the checkpoint was trained on.
        template: text of a row.
        guidance: text in front of every row; only where no virtual tokens stand there.
        labels: label -> words, for a classification; None for generation.

    Raises:
        FileFormatError: the checkpoint is damaged, hostile, or of another kind.
        SettingsError: it gives other answers here than there, or does not fit the base.
        BaseMismatchError: it was exported from a foreword of another base.
    """
    refuse_overwriting(output, (folder, base))
    loaded = base if isinstance(base, Base) else find_base(base, progress=progress)
    sites = find_sites(loaded.model)
    own = [name for name, site in sites.sites.items() if site.kind == "self"]
    layers = {name: sizes(layer) for name, layer in linear_layers(loaded.model).items()}
    value = import_peft(folder, own, layers)
    manifest = _taken_along(Path(folder))
    if manifest is None:
        value, manifest = _new(value, loaded, template, guidance, labels)
    else:
        same_base(manifest, loaded, str(folder))
    with injected(loaded.model, [value]):
        pass  # what does not fit the base is refused here, before anything is written
    written = save(output, value, manifest)
    return {
        "file": str(output),
        "bytes": Path(output).stat().st_size,
        "method": written.method,
        "num_virtual_tokens": value.num_virtual_tokens,
        "num_values": value.num_values,
        "task": written.task,
        "golden_rows": len(written.golden),
    }


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
        notes="imported from a PEFT checkpoint",
    )
