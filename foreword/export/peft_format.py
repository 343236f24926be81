"""PEFT as one of the formats; what its files hold and what it refuses is in peft.py."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foreword.export.base import ExportFormat, Exporting, local_base
from foreword.export.peft import export_peft


@dataclass(frozen=True)
class Peft(ExportFormat):
    """A checkpoint that ``PeftModel.from_pretrained(base, folder)`` loads."""

    name: ClassVar[str] = "peft"
    title: ClassVar[str] = "PEFT"
    holds: ClassVar[tuple[str, ...]] = ("prefix", "prompt", "lora")
    needs: ClassVar[str] = "peft"
    proven: ClassVar[str] = "the same logits as ours, in tests on tiny models of each family"
    limits: ClassVar[str] = "one shape for all layers; no prefix of an encoder; no head beside a prefix"
    runner: ClassVar[str] = "run_transformers.py"
    module: ClassVar[str] = "peft"
    package: ClassVar[str] = "peft"

    def job(self, exporting: Exporting) -> dict[str, Any]:
        dtype = str(exporting.base.model.dtype).removeprefix("torch.")
        return {"base": local_base(exporting.base), "adapter": str(exporting.folder.resolve()), "dtype": dtype}

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        # Its own refusals say more than the general ones.
        with tempfile.TemporaryDirectory() as folder:
            export_peft(exporting.value, exporting.manifest, folder, exporting.base.model)
            names = ("adapter_model.safetensors", "foreword.json", "adapter_config.json")
            return {name: (Path(folder) / name).read_bytes() for name in names}
