"""A base with a trainable foreword in front of every row, for other people's training loops (HF Trainer, TRL).

The model that comes back shares every weight with the base and is of a subclass of its class, so whatever accepts the
base accepts it. Only the writer's parameters require a gradient; saving it saves the foreword alone. The value is
written anew for every pass: when the model is called, or its layers are by a trainer that replaces ``forward`` with its
own (TRL's fused loss).
"""

from __future__ import annotations

import copy
import itertools
import json
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from foreword.artifact.manifest import BaseRecord, Golden, Manifest
from foreword.artifact.store import save
from foreword.core.attention.checkpointing import checkpoint_layers
from foreword.core.attention.hooks import HookSet, Level, bare, settle, splice
from foreword.core.attention.pass_context import ATTACHED, References, current, within
from foreword.core.attention.sources import Front
from foreword.core.base.device import number_format
from foreword.core.base.load import fingerprint_of
from foreword.core.inject.in_force import InForce
from foreword.core.inject.injection import Injection
from foreword.core.inject.sites import find_sites
from foreword.core.inject.stack_hooks import around_stack, owned, stacks
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.errors import UnsupportedBaseError
from foreword.methods.base import Writer

FILE = "model.foreword"
_NUMBERS = itertools.count()


class Attachment:
    """What is attached to a base: the writer's value, written anew whenever it is asked for."""

    def __init__(self, model: PreTrainedModel, writer: Writer) -> None:
        self.injection, self.writer = Injection(model), writer

    def owns(self, module: nn.Module) -> bool:
        """Whether it decides for ``module``."""
        return self.injection.owns(module)

    def now(self) -> InForce:
        """The value as the writer writes it now. Each pass has its own, also in threads that share the model."""
        return self.injection.lowered([self.writer.write()], None)

    def front(self, module: nn.Module, rows: int) -> Front | None:
        """What stands in front of a batch of ``rows`` rows at ``module``; None for nothing."""
        return self.now().front(module, rows)

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to what a linear layer gives for ``x [B, T, in]``; None for nothing."""
        return self.now().added(layer, x)

    def weight(self, name: str) -> Tensor | None:
        """What stands in the place of a parameter of the base; None for its own."""
        return self.now().weight(name)


class Attached:
    """What the subclass adds to the base's class."""

    writer: Writer
    _base: PreTrainedModel
    _attachment: Attachment
    _holds: tuple[HookSet, HookSet]
    _release: Any  # a weakref.finalize
    _checkpoints: bool
    _record: BaseRecord
    _method: str
    _task: Task | None = None
    _golden: Callable[[Foreword], list[Golden]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The base's pass behind its own foreword, whatever else is attached to the base meanwhile."""
        here, call = current(), cast(Any, super()).__call__
        attachment = self._attachment
        elsewhere = here.sources is None or any(s.owns(stacks(self._base)[0]) for s in here.sources)
        if elsewhere or not self._release.alive:
            return call(*args, **kwargs)
        with within(attached=attachment.now(), holds=(*here.holds, attachment.injection.hold)):
            return call(*args, **kwargs)

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
        if not self._checkpoints and self._release.alive:
            self._checkpoints = True
            checkpoint_layers(self._holds[1], self._base)

    def gradient_checkpointing_disable(self) -> None:
        """Undo :meth:`gradient_checkpointing_enable`."""
        if self._checkpoints and self._release.alive:
            self._checkpoints = False
            self._holds[1].clear()

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """The writer's state alone, under ``writer.``: what a trainer's checkpoint needs."""
        # By position is how modules asked each other before torch 2.
        destination, prefix, keep_vars = cast(Any, (*args, *(destination, prefix, keep_vars)[len(args) :]))
        out: dict[str, Any] = OrderedDict() if destination is None else destination
        out |= {f"{prefix}writer.{n}": t for n, t in self.writer.state_dict(keep_vars=keep_vars).items()}
        return out

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """The inverse of :meth:`state_dict`."""
        own = {name.removeprefix("writer."): tensor for name, tensor in state_dict.items()}
        return self.writer.load_state_dict(own, strict, assign)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # The state of what wraps this model is loaded part by part: the base's parts are not in it, and not missing.
        object.__setattr__(self, "_prefix", prefix)
        cast(Any, super())._load_from_state_dict(state_dict, prefix, *args)

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise UnsupportedBaseError(
            "an attached model cannot be copied to several devices within one process (nn.DataParallel): the copies "
            "would answer without the foreword",
            expected="one process for each device, or one device",
            hint="start the script with torchrun or accelerate launch, or with CUDA_VISIBLE_DEVICES=0",
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write the foreword to ``save_directory/model.foreword``; the base is not written.

        ``model.safetensors`` beside it is the state of the writer, under the name that ``resume_from_checkpoint`` of a
        trainer looks for.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        value = self.foreword()
        positions = find_sites(self._base).positions if value.num_virtual_tokens else "content"
        manifest = Manifest(
            base=self._record,
            method=self._method,
            settings={"dtype": number_format(self._base.dtype)},
            positions=positions,
            text=value.text,
        )
        if self._task is not None:
            manifest = manifest.model_copy(update={"task": json.loads(json.dumps(self._task.to_json()))})
        if self._golden is not None:
            manifest = manifest.model_copy(update={"golden": self._golden(value)})
        save(folder / FILE, value, manifest)
        save_file({name: t.cpu().contiguous() for name, t in self.state_dict().items()}, folder / SAFE_WEIGHTS_NAME)

    def detach(self) -> PreTrainedModel:
        """Take the foreword off and return the base as it was."""
        if self._release.detach() is not None:
            for hold in self._holds:
                hold.leave()
        return self._base


def _record(model: PreTrainedModel, tokenizer: Any) -> BaseRecord:
    """What the file says of the base; without a tokenizer its parts of the fingerprint are left out."""
    name, kind = str(model.config._name_or_path or type(model).__name__), find_sites(model).kind
    return BaseRecord(
        id=name, architecture=type(model).__name__, kind=kind, fingerprint=fingerprint_of(model, tokenizer)
    )


def attach(
    model: PreTrainedModel,
    writer: Writer,
    tokenizer: Any = None,
    *,
    task: Task | None = None,
    golden: Callable[[Foreword], list[Golden]] | None = None,
) -> PreTrainedModel:
    """``model`` with ``writer`` in front of every row, ready for HF ``Trainer`` or TRL's ``SFTTrainer``.

    Args:
        model: the base; frozen and set to eval mode by this.
        writer: from :func:`foreword.methods.base.make_writer`.
        tokenizer: the base's, for the file's record of the base.
        task: what the rows ask, so that the saved file runs in ``predict`` and ``generate``.
        golden: what answers the rows that the saved file carries for ``verify``, such as
            :func:`foreword.runs.use.verify.golden_rows` makes it.

    Until ``detach()``, whoever calls the base meets the foreword too: they share their layers. Where several are
    attached to one base, each answers with its own, and the base with the latest.

    Returns:
        A model of a subclass of ``type(model)`` with ``writer`` as a submodule, ``foreword()``, ``detach()``, and
        ``save_pretrained`` that saves the foreword.

    Raises:
        UnsupportedBaseError: the base is outside the attention interface.

    >>> from foreword import attach, load_base
    >>> from foreword.methods.base import Start, make, make_writer
    >>> base = load_base("base")
    >>> start = Start(base.model, ids=tuple(base.tokenizer("Reviews, one a line: ").input_ids))
    >>> model = attach(base.model, make_writer(make("prefix"), start), base.tokenizer)
    >>> model.foreword().num_virtual_tokens == len(start.ids)
    True
    >>> model.detach() is base.model
    True
    """
    settle()
    modes = {module: module.training for module in model.modules()}
    try:
        twin: PreTrainedModel = _attached(model.eval(), writer, tokenizer)
    except BaseException:
        for module, mode in modes.items():
            module.training = mode
        raise
    model.requires_grad_(False)
    object.__setattr__(twin, "_task", task)
    object.__setattr__(twin, "_golden", golden)
    return twin


def _attached(model: PreTrainedModel, writer: Writer, tokenizer: Any) -> Any:
    """The model that comes back, in force. Nothing is put on the base before all that may fail is done."""
    record, attachment = _record(model, tokenizer), Attachment(model, writer)
    with torch.no_grad():
        attachment.now()
    holds = (attachment.injection.hold, HookSet())
    number = next(_NUMBERS)
    for module in owned(model):
        holds[0].need(module, f"attached {number}", partial(_refer, module, weakref.ref(attachment)))
    twin = _twin(model, writer)
    attributes = {"_attachment": attachment, "_holds": holds, "_record": record, "_base": model}
    # Not through nn.Module's attributes: the base must not become its own twin's child.
    for name, value in {**attributes, "_method": type(writer).__name__, "_checkpoints": False}.items():
        object.__setattr__(twin, name, value)
    for hold in holds:
        hold.enter()
    object.__setattr__(twin, "_release", weakref.finalize(twin, _abandon, holds))
    return twin


def _twin(model: PreTrainedModel, writer: Writer) -> Any:
    """A shallow copy of ``model`` with ``writer`` as one more part, of a subclass of its class."""
    twin = copy.copy(model)
    twin.__dict__ = {**bare(model.__dict__), "_load_state_dict_post_hooks": OrderedDict()}
    twin._modules = {**model._modules, "writer": writer}
    twin.__class__ = type(f"Attached{type(model).__name__}", (Attached, type(model)), {})
    twin.register_load_state_dict_post_hook(_forgive_base)
    if model in stacks(model):
        # A base without a head is its own stack, and the copy stands beside it.
        splice(twin, "forward", Level.INJECTION, around_stack(model, model))
    return twin


def _forgive_base(twin: Any, incompatible: Any) -> None:
    """The base's weights are no part of the state: they are not missing."""
    own, prefix = f"{twin._prefix}writer.", twin._prefix
    missing = incompatible.missing_keys
    missing[:] = [name for name in missing if name.startswith(own) or not name.startswith(prefix)]


def _refer(module: nn.Module, reference: weakref.ref[Attachment]) -> Callable[[], None]:
    """Let ``module`` know what is attached to it; returns what makes it forget."""
    references = vars(module).get(ATTACHED, ())
    vars(module)[ATTACHED] = References((*references, reference))

    def forget() -> None:
        left = References(other for other in vars(module)[ATTACHED] if other is not reference)
        if left:
            vars(module)[ATTACHED] = left
        else:
            del vars(module)[ATTACHED]

    return forget


def _abandon(holds: tuple[HookSet, HookSet]) -> None:
    """The attached model was collected without :meth:`Attached.detach`."""
    for hold in holds:
        hold.abandon()
