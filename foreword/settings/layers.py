"""Settings from a YAML file, from flags and from ``--set``, laid over each other, every value with its place.

A file has the sections ``task:``, ``method:`` and ``training:``; the same keys may stand flat beside them, with
``data``, ``base``, ``output_dir``, ``dev``, ``test``, ``skip_bad`` and ``encoding``; a ``base:`` that is trained from
scratch may have settings of its own under it. Flags win over the file and ``--set`` wins over both. Paths are relative
to the working directory, wherever they are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.schema import (
    FETCHED,
    SCRATCH,
    BaseSettings,
    ProgressCall,
    TaskOptions,
    TrainRequest,
    TrainSettings,
)
from foreword.settings.values import Given, build, field_types, unknown_key
from foreword.settings.yaml import read_value, read_yaml


@dataclass(frozen=True)
class RequestKeys:
    """The keys that stand outside the sections."""

    data: str | None = None
    base: str | None = None
    output_dir: str | None = None
    dev: str | None = None
    test: str | None = None
    init_from: str | None = None
    skip_bad: bool = False
    encoding: str | None = None


SECTIONS: dict[str, type] = {"task": TaskOptions, "training": TrainSettings}
ESCAPED = ("template", "guidance")
# Settings that the command line calls otherwise.
_FLAGS = {
    "task_kind": "--task",
    "data": "DATA",
    "inputs": "--input",
    "first_k": "--input-prefix",
    "init_from": "--init",
    "per_device_train_batch_size": "--batch",
}


@dataclass(frozen=True)
class Resolved:
    """What file, flags and ``--set`` say together. ``places`` maps a setting to where it was given."""

    keys: RequestKeys = field(default_factory=RequestKeys)
    task_options: TaskOptions = field(default_factory=TaskOptions)
    settings: TrainSettings = field(default_factory=TrainSettings)
    method: str = "prefix"
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    base_settings: BaseSettings = field(default_factory=BaseSettings)
    places: Mapping[str, str] = field(default_factory=dict)

    def request(
        self, progress: ProgressCall | None = None, resume: bool = False, overwrite: bool = False
    ) -> TrainRequest:
        """The training request. Raises SettingsError when data, base or output folder was not given."""
        k = self.keys
        if k.base is not None and k.base.lower() in (*SCRATCH, *FETCHED):
            k = replace(k, base=k.base.lower())
        needed = {"DATA": k.data, "--base": k.base, "--output-dir": k.output_dir}
        for flag, value in needed.items():
            if value is None:
                raise SettingsError(
                    Message("{flag} is missing", flag=flag),
                    hint=Message("give {flag}, or its key in the file of --config", flag=flag),
                )
        if k.base not in SCRATCH and self.base_settings != BaseSettings():
            raise SettingsError(
                "only a base that is trained from scratch has settings of its own",
                where="base",
                expected=Message("--base {names}", names=" or ".join(SCRATCH)),
                received=k.base,
            )
        return TrainRequest(
            data=k.data,
            base=str(k.base),
            output_dir=str(k.output_dir),
            dev=k.dev,
            test=k.test,
            init_from=k.init_from,
            method=self.method,
            method_settings=self.method_settings,
            settings=self.settings,
            task_options=self.task_options,
            base_settings=self.base_settings,
            skip_bad=k.skip_bad,
            resume=resume,
            overwrite=overwrite,
            encoding=k.encoding,
            progress=progress,
            places=self.places,
        )


def resolve(
    config: str | Path | None = None,
    flags: Mapping[str, object] | None = None,
    assignments: Sequence[str] = (),
) -> Resolved:
    """Lay the settings file, the flags and the ``--set`` assignments over each other.

    Args:
        config: a YAML file, or None.
        flags: setting -> value; None values were not given.
        assignments: ``key=value`` or ``section.key=value``, values as YAML.

    Raises:
        SettingsError: unknown keys, values that do not fit, a file that cannot be read; with the place.
    """
    layers = _Layers()
    if config is not None:
        layers.add(read_yaml(config))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    layers.add({key: _typed(key, Given.of(value, flag_of(key))) for key, value in given.items()})
    for assignment in assignments:
        layers.add(_assignment(assignment))
    return layers.result()


def is_setting(name: str) -> bool:
    """Whether a setting of the task or of training has this name."""
    return any(name in field_types(section) for section in SECTIONS.values())


def flag_of(key: str) -> str:
    """How a setting is called on the command line."""
    return _FLAGS.get(key, "--" + key.replace("_", "-"))


def from_json(values: Mapping[str, object], where: str = "settings") -> Resolved:
    """The inverse of ``TrainRequest.to_json``, for instance of the settings recorded in a run's folder."""
    layers = _Layers()
    layers.add({key: Given.of(value, where) for key, value in values.items()})
    return layers.result()


class _Layers:
    """Collects values by section; a later layer wins key by key."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, Given]] = {
            "keys": {},
            "task": {},
            "training": {},
            "method": {},
            "base": {},
        }
        self.known = {key: part for part, cls in SECTIONS.items() for key in field_types(cls)}
        self.known |= dict.fromkeys(field_types(RequestKeys), "keys")

    def add(self, layer: Mapping[str, Given]) -> None:
        for key, given in layer.items():
            if key == "method" and not isinstance(given.value, dict):
                self.parts["method"]["name"] = given
            elif key == "base" and isinstance(given.value, dict):
                self._base(given.value)
            elif key in ("method", *SECTIONS):
                self._section(key, given)
            elif key in self.known:
                self.parts[self.known[key]][key] = given
            else:
                self._flat_unknown(key, given)

    def _section(self, section: str, given: Given) -> None:
        if given.value is None:
            return
        if not isinstance(given.value, dict):
            raise given.wrong(section, "settings under it, one a line")
        for key, item in given.value.items():
            if section != "method" and key not in field_types(SECTIONS[section]):
                raise unknown_key(key, list(field_types(SECTIONS[section])), item.where)
            self.parts[section][key] = item

    def _base(self, parts: Mapping[str, Given]) -> None:
        """``base:`` with settings under it, for one that is trained from scratch; its ``name`` is what it is."""
        known = list(field_types(BaseSettings))
        for key, item in parts.items():
            if key == "name":
                self.parts["keys"]["base"] = item
            elif key in known:
                self.parts["base"][key] = item
            else:
                raise unknown_key(key, ["name", *known], item.where)

    def _flat_unknown(self, key: str, given: Given) -> None:
        """A flat key that no section knows is the method's, which checks it later, unless it is plainly a slip."""
        names = [*self.known, "method", *SECTIONS]
        if key == "name" or get_close_matches(key, names, n=1, cutoff=0.8):
            raise unknown_key(key, names, given.where)
        self.parts["method"][key] = given

    def result(self) -> Resolved:
        method = dict(self.parts["method"])
        name = method.pop("name", Given.of("prefix", "default"))
        if not isinstance(name.value, str) or not name.value:
            raise name.wrong("method", "the name of a method")
        places = {key: given.where for part in self.parts.values() for key, given in part.items()}
        return Resolved(
            keys=build(RequestKeys, self.parts["keys"]),
            task_options=build(TaskOptions, self.parts["task"]),
            settings=build(TrainSettings, self.parts["training"]),
            method=name.value,
            method_settings={key: _own(given) for key, given in method.items()},
            base_settings=build(BaseSettings, self.parts["base"]),
            places=places,
        )


def _typed(key: str, given: Given) -> Given:
    """A template or guidance typed at a shell: ``\\n`` is a new line there.

    In a guidance only where no letter follows, so that ``\\nu`` and ``C:\\new`` stay as they are.
    """
    if key not in ESCAPED or given.text is None:
        return given
    if key == "guidance":
        text = re.sub(r"\\([nt])(?![A-Za-z])", lambda match: "\n" if match[1] == "n" else "\t", given.text)
    else:
        text = given.text.replace("\\n", "\n").replace("\\t", "\t")
    return Given(text, text, given.where)


def _own(given: Given) -> Any:
    """A method's setting. At a shell ``layers=15:`` is that text, though YAML reads a map in it."""
    if isinstance(given.value, dict) and given.text is not None and not given.text.lstrip().startswith("{"):
        return given.text
    return given.plain()


def _assignment(text: str) -> dict[str, Given]:
    name, equals, value = text.partition("=")
    where = f"--set {name.strip()}"
    if not equals or not name.strip():
        raise SettingsError(Message("--set {text} has no value", text=text), where="--set", expected="key=value")
    *sections, key = name.strip().split(".")
    try:
        given = read_value(value, where) if value.strip() else Given("", "", where)
    except SettingsError:
        given = Given(value, value, where)  # not YAML: the text as it is, such as a template
    given = _typed(key, Given(given.value, value, where))
    for section in reversed(sections):
        key, given = section, Given({key: given}, None, where)
    return {key: given}
