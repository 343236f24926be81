"""What a run begins from: its method, the file of ``--init``, the start, how much of what the base reads that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from foreword.artifact.manifest import Manifest
from foreword.artifact.store import load
from foreword.core.base.load import Base, Outline, fingerprint_differences, float16_weights
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.all_turns import refuse_all_turns
from foreword.data.tokens.encode_row import slot_starts
from foreword.data.tokens.tokenize import lead_ids
from foreword.errors import BaseMismatchError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.messages import Message
from foreword.methods.base import Method, Start, make, make_writer, registry
from foreword.runs.prepare.classifier_base import own_start
from foreword.runs.prepare.compatibility import refuse_mismatch
from foreword.settings.schema import SCRATCH, TrainRequest

_PARTS = {
    "sites": "keys and values",
    "prompt": "a soft prompt",
    "slots": "soft slots",
    "adapters": "low-rank changes",
    "weights": "weights",
}


@dataclass(frozen=True)
class Begin:
    """What is known of a run's beginning before its base is loaded.

    Args:
        value: the foreword of ``--init``, None where there is none; ``manifest`` is its file's.
    """

    request: TrainRequest
    method: Method
    value: Foreword | None = None
    manifest: Manifest | None = None

    def accept(self, task: Task, base: Outline | Base) -> None:
        """Refuse what this base cannot do, or a file to start from that belongs to another kind of base.

        Raises:
            SettingsError, TemplateError, VerbalizerError: as :func:`refuse_mismatch`.
            UnsupportedBaseError, SettingsError: the method on a base that is not trained yet.
            BaseMismatchError: says what differs.
        """
        refuse_mismatch(task, self.method, base)
        if self.request.settings.loss_on == "all_turns":
            refuse_all_turns(task, base.kind == "decoder", bool(self.request.settings.augment))
        if self.manifest is not None and base.kind != self.manifest.base.kind:
            raise _mismatch(self.manifest, str(self.request.init_from), f"{base.architecture}, of another kind")
        if self.value is None and isinstance(base, Base) and self.request.base in SCRATCH:
            # Training a base from scratch takes long; what the method cannot do on it shows on its first weights.
            make_writer(self.method, self.start(task, base))

    def start(self, task: Task, base: Base) -> Start:
        """What the writer starts from: the guidance's tokens, the words of soft slots, and the file of ``--init`` where
        there is one.

        Raises:
            BaseMismatchError: that file's base is another one.
        """
        if self.manifest is not None:
            same_base(self.manifest, base, str(self.request.init_from))
        lead = tuple(lead_ids(task, base.tokenizer, special_tokens=base.kind != "decoder", whatever_place=True))
        return Start(
            base.model,
            task.guidance,
            lead,
            self.value,
            self.request.settings.seed,
            len(task.labels) if task.head else 0,
            tuple(token for group in slot_starts(task, base.tokenizer) for token in group),
            own_start(task, base),
        )


def begin(request: TrainRequest) -> Begin:
    """The request's method and the foreword that it starts from.

    A file to start from is the method's init unless the request says otherwise.

    Raises:
        SettingsError: settings that cannot be, or a file without what the method starts from.
        FileFormatError: that file is damaged.
    """
    settings = dict(request.method_settings)
    if request.init_from is not None:
        refuse_start(request.method)
        settings.setdefault("init", "foreword")
    method = make(request.method, settings)
    if request.settings.layerwise_decay != 1 and not method.in_layers:
        raise SettingsError(
            Message("what method {name} trains does not belong to the base's layers", name=method.name),
            where="layerwise_decay",
            expected="1",
            received=request.settings.layerwise_decay,
            hint=Message("use it with {value}, or leave it out", value=_with(lambda one: one.in_layers)),
        )
    if request.init_from is None:
        if settings.get("init") == "foreword":
            raise SettingsError(
                "init=foreword needs a file to start from", where="init", hint="add `--init FILE.foreword`"
            )
        return Begin(request, method)
    value, manifest = load(request.init_from)
    _refuse_other(str(request.init_from), value, method)
    return Begin(request, method, value, manifest)


def refuse_start(name: str) -> None:
    """Refuse a method that cannot start from another foreword. Raises SettingsError."""
    method = registry().get(name)
    if method is not None and "init" not in {field.name for field in fields(method)}:
        others = _with(lambda one: "init" in {field.name for field in fields(one)})
        raise SettingsError(
            Message("method {name} cannot start from another foreword", name=name),
            where="--method",
            received=name,
            hint=Message("use {others}", others=others),
        )


def _with(holds: Callable[[type[Method]], bool]) -> str:
    names = [name for name, one in registry().items() if holds(one)]
    return ", ".join(names[:-1]) + " or " + names[-1]


def _refuse_other(where: str, value: Foreword, method: Method) -> None:
    """Refuse a file that has nothing of what the method starts from."""
    wanted = method.starts_from

    def held(part: str) -> bool:
        found = getattr(value, part)
        return found is not None and len(found) > 0

    if not wanted or method.settings().get("init") != "foreword" or held(wanted):
        return
    there = [part for part in _PARTS if held(part)]
    fitting = [name for name, one in registry().items() if one.starts_from in there]
    raise SettingsError(
        Message(
            "method {name} starts from {value}, which this foreword does not have",
            name=method.name,
            value=_PARTS[wanted],
        ),
        where=where,
        received=" and ".join(_PARTS[part] for part in there) or "a text",
        hint=Message("use `--method {value}`, or another file", value=fitting[0])
        if fitting
        else "start from another file",
    )


def same_base(manifest: Manifest, base: Base, where: str) -> None:
    """Make sure that a foreword meets the base that it was trained on.

    Raises:
        BaseMismatchError: says what differs.
    """
    expected, received = manifest.base.fingerprint, base.fingerprint
    if expected.get("weights") != received["weights"]:
        rounded = float16_weights(base.model)
        received = received | {"weights": rounded} if rounded == expected.get("weights") else received
    differences = fingerprint_differences(expected, received)
    if differences:
        raise _mismatch(manifest, where, f"{base.architecture} {base.id}: {'; '.join(differences)}")


def _mismatch(manifest: Manifest, where: str, received: str) -> BaseMismatchError:
    return BaseMismatchError(
        "the foreword was trained on another base",
        where=where,
        expected=f"{manifest.base.architecture} {manifest.base.id}",
        received=received,
        hint="give the base it was trained on with --base, or train it again on this one",
    )


def prefix_length(value: Foreword, asker: Asker) -> int:
    """How many of the base's positions stand in front of a row's own tokens.

    Keys and values take none of an encoder's; a soft prompt does.
    """
    if value.sites and not find_sites(asker.model).moves_positions:
        return 0
    return value.num_virtual_tokens or len(asker.lead(value))


def longest_prefix(start: Start, method: Method, base: Base, asker: Asker) -> int:
    """The most positions that a run needs in front: those of the prompt, or of what is learned instead.

    Raises:
        SettingsError: more virtual tokens than the base reads, or settings that do not fit the base.
        UnsupportedBaseError: the base cannot be given what the method writes.
    """
    wanted = method.settings().get("num_virtual_tokens")
    if wanted is not None and base.context is not None and wanted >= base.context:
        raise SettingsError(
            "more virtual tokens than the base reads",
            where="num_virtual_tokens",
            expected=Message("less than {context}", context=base.context),
            received=wanted,
        )
    # A head has no prompt to be compared with.
    prompt = 0 if start.classes else len(asker.lead(Foreword(text=start.text)))
    with torch.no_grad():
        value = make_writer(method, start).write()
    with injected(base.model, [value]):
        return max(prompt, prefix_length(value, asker))
