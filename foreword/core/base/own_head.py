"""Checkpoints that end in a classification head: what stands for a language head in them, and what their own head is.

transformers' decoders classify by one matrix on the last token's state (``score``), which is what a head here can be;
its encoders put layers of their own between state and classes, which are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foreword.core.base.locate import snapshot


@dataclass(frozen=True, eq=False)
class OwnHead:
    """The head of a checkpoint's own: ``weight`` ``[C, E]``, ``bias`` ``[C]``, and its labels; without values where it
    is more than one matrix."""

    labels: tuple[str, ...]
    weight: Tensor | None = None
    bias: Tensor | None = None

    def rows(self, labels: Sequence[str]) -> list[int] | None:
        """Which of its classes each of ``labels`` is, by name or by number; None where one is none of them."""
        names = {label.casefold(): place for place, label in enumerate(self.labels)}
        unnamed = all(name == f"label_{place}" for name, place in names.items())
        found = [names.get(f"label_{label}" if unnamed else label.casefold()) for label in labels]
        places = [place for place in found if place is not None]
        return places if len(places) == len(labels) == len(set(places)) else None


def is_classifier(config: Any) -> bool:
    """Whether a checkpoint was saved with a head that classifies whole texts."""
    return any(str(name).endswith("ForSequenceClassification") for name in config.architectures or [])


def has_language_head(config: Any) -> bool:
    """Whether a checkpoint can be asked for words: a classifier can where its output layer is its embedding."""
    return not is_classifier(config) or bool(getattr(config.get_text_config(), "tie_word_embeddings", False))


def own_head(folder: str, commit: str | None, config: Any) -> OwnHead | None:
    """The head of a classifier's checkpoint; None for any other checkpoint."""
    if not is_classifier(config):
        return None
    from safetensors import safe_open

    labels = tuple(str(config.id2label[place]) for place in sorted(config.id2label))
    found: dict[str, Tensor] = {}
    for path in (Path(folder) if commit is None else snapshot(folder, commit)).glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            there = {"score.weight", "score.bias"} & set(tensors.keys())
            found |= {key: tensors.get_tensor(key).float() for key in there}
    weight = found.get("score.weight")
    if weight is None or weight.shape[0] != len(labels):
        return OwnHead(labels)
    return OwnHead(labels, weight, found.get("score.bias", torch.zeros(len(labels))))


def without_words(model: Any) -> set[str]:
    """Set the output layer of a classifier's backbone to zero, which its checkpoint does not hold: nothing is asked of
    it, and the model is the same each time it is loaded. The names of its parameters."""
    output = model.get_output_embeddings()
    own = {id(parameter) for parameter in output.parameters()}
    with torch.no_grad():
        for parameter in output.parameters():
            parameter.zero_()
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}
