"""A base with a trainable foreword in front of every row, for other people's training loops (HF Trainer, TRL).

The model that comes back shares every weight with the base and is of a subclass of its class, so whatever accepts the
base accepts it. Only the writer's parameters require a gradient; saving it saves the foreword alone. The value is
written anew at the layers, before every pass through them: trainers replace ``forward`` with their own (TRL's fused
loss).
"""

from __future__ import annotations

import copy
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from foreword.artifact.manifest import BaseRecord, Manifest
from foreword.artifact.store import save
from foreword.core.attention import attend
from foreword.core.attention.checkpointing import unwrap, wrap
from foreword.core.base.load import fingerprint_of
from foreword.core.inject.injection import Injection, hooked, stacks
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.methods.base import Writer

FILE = "model.foreword"


class Attached:
    """What the subclass adds to the base's class."""

    writer: Writer
    _base: PreTrainedModel
    _leave: ExitStack
    _wrapped: list[Any]
    _record: BaseRecord
    _method: str

    def foreword(self) -> Foreword:
        """The foreword as it is now, frozen."""
        with torch.no_grad():
            return self.writer.write().detach()

    def train(self, mode: bool = True) -> Any:
        """Only the writer trains; the base keeps its dropout off."""
        self.training = mode
        self.writer.train(mode)
        return self

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoint the base's layers, which stay in eval mode; transformers' own options do not apply."""
        self._wrapped.extend(wrap(self._base))

    def gradient_checkpointing_disable(self) -> None:
        """Undo :meth:`gradient_checkpointing_enable`."""
        unwrap(self._wrapped)
        self._wrapped.clear()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The writer's state alone, under ``writer.``: what a trainer's checkpoint needs."""
        return {f"writer.{name}": tensor for name, tensor in self.writer.state_dict().items()}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """The inverse of :meth:`state_dict`."""
        return self.writer.load_state_dict({n.removeprefix("writer."): t for n, t in state_dict.items()}, strict)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write the foreword to ``save_directory/model.foreword``; the base is not written.

        ``model.safetensors`` beside it is the state of the writer, under the name that ``resume_from_checkpoint`` of a
        trainer looks for.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        value = self.foreword()
        positions = find_sites(self._base).positions if value.num_virtual_tokens else "content"
        manifest = Manifest(base=self._record, method=self._method, positions=positions, text=value.text)
        save(folder / FILE, value, manifest)
        save_file({name: t.cpu().contiguous() for name, t in self.state_dict().items()}, folder / SAFE_WEIGHTS_NAME)

    def detach(self) -> PreTrainedModel:
        """Take the foreword off and return the base as it was."""
        self.gradient_checkpointing_disable()
        self._leave.close()
        return self._base


def _record(model: PreTrainedModel, tokenizer: Any) -> BaseRecord:
    """What the file says of the base; without a tokenizer its parts of the fingerprint are left out."""
    name, kind = str(model.config._name_or_path or type(model).__name__), find_sites(model).kind
    return BaseRecord(
        id=name, architecture=type(model).__name__, kind=kind, fingerprint=fingerprint_of(model, tokenizer)
    )


def attach(model: PreTrainedModel, writer: Writer, tokenizer: Any = None) -> PreTrainedModel:
    """``model`` with ``writer`` in front of every row, ready for HF ``Trainer`` or TRL's ``SFTTrainer``.

    Args:
        model: the base; frozen and set to eval mode by this.
        writer: from :func:`foreword.methods.base.make_writer`.
        tokenizer: the base's, for the file's record of the base.

    Until ``detach()``, whoever calls the base meets the foreword too: they share their layers.

    Returns:
        A model of a subclass of ``type(model)`` with ``writer`` as a submodule, ``foreword()``, ``detach()``, and
        ``save_pretrained`` that saves the foreword.

    Raises:
        UnsupportedBaseError: the base is outside the attention interface.
    """
    model.eval().requires_grad_(False)
    injection = Injection(model)
    twin = copy.copy(model)
    twin.__dict__ = dict(model.__dict__)
    twin._modules = {**model._modules, "writer": writer}
    twin.__class__ = type(f"Attached{type(model).__name__}", (Attached, type(model)), {})
    leave = ExitStack()
    leave.enter_context(attend.routed(model))
    attend.attach_to(injection.map.modules, injection)
    leave.callback(attend.detach_from, tuple(injection.map.modules))
    leave.callback(injection.changes.release)

    def renew(*_: Any) -> None:
        # A soft prompt runs through these layers itself as it is written: then the plain model is wanted.
        if attend.sources() is not None:
            injection.put([writer.write()], None)

    for stack in stacks(model):
        leave.callback(stack.register_forward_pre_hook(renew).remove)
    leave.enter_context(hooked(model))
    object.__setattr__(twin, "_record", _record(model, tokenizer))
    object.__setattr__(twin, "_method", type(writer).__name__)
    # Not through nn.Module's attributes: the base must not become its own twin's child.
    object.__setattr__(twin, "_base", model)
    object.__setattr__(twin, "_leave", leave)
    object.__setattr__(twin, "_wrapped", [])
    weakref.finalize(twin, leave.close)
    return twin
