"""One whole model with the foreword's weights in it: a folder of safetensors that transformers, and whatever reads its
folders, loads as any other model. Full fine-tuning stands in place of the base's weights; of LoRA, W + b a."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.export.base import ExportFormat, Exporting, task_files


@dataclass(frozen=True)
class Merged(ExportFormat):
    """The model's folder, with tokenizer and chat template, and the task beside it."""

    name: ClassVar[str] = "merged"
    title: ClassVar[str] = "transformers (one model)"
    holds: ClassVar[tuple[str, ...]] = ("full", "lora")
    admits: ClassVar[str] = "any"
    needs: ClassVar[str] = "transformers, or what reads its folders"
    proven: ClassVar[str] = "loaded by transformers with the same logits, in tests"
    limits: ClassVar[str] = "as large as the base; shares no pass with other forewords; no head"
    runner: ClassVar[str] = "run_transformers.py"
    module: ClassVar[str] = "transformers"
    package: ClassVar[str] = "transformers"

    def job(self, exporting: Exporting) -> dict[str, Any]:
        dtype = str(exporting.base.model.dtype).removeprefix("torch.")
        return {"base": str(exporting.folder.resolve()), "adapter": None, "dtype": dtype}

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        part = self.check(exporting)
        base, value = exporting.base, exporting.value
        if value.head or value.slots is not None:
            raise SettingsError("a head or soft slots have no place in the base's own weights", where="--to merged")
        weights = value.weights if part == "full" else merged_weights(base, value)
        base.model.save_pretrained(exporting.scratch, state_dict=_state(base, weights), max_shard_size="2GB")
        base.tokenizer.save_pretrained(exporting.scratch)
        return task_files(exporting.manifest, value.text, [])


def merged_weights(base: Base, value: Foreword) -> dict[str, Tensor]:
    """``W + b a`` of each changed layer, by the parameter's name, in the base's precision."""
    out = {}
    for name, pair in value.adapters.items():
        layer = base.model.get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if not weight.dtype.is_floating_point:
            raise SettingsError("the base is quantised, and its weights take no change", where="--to merged")
        change = pair.b.float() @ pair.a.float()
        change = change.T if isinstance(layer, Conv1D) else change
        out[f"{name}.weight"] = (weight.float() + change.to(weight.device)).to(weight.dtype)
    return out


def _state(base: Base, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's state with ``weights`` in their places, tied ones too."""
    first = {id(parameter): name for name, parameter in base.model.named_parameters()}
    names = {name: first.get(id(parameter), name) for name, parameter in _all_parameters(base)}
    state = base.model.state_dict()
    return {
        name: weights[names.get(name, name)].to(tensor) if names.get(name, name) in weights else tensor
        for name, tensor in state.items()
    }


def _all_parameters(base: Base) -> list[tuple[str, Tensor]]:
    return list(base.model.named_parameters(remove_duplicate=False))
