"""Every error that a user can meet. Each says where, what was expected, what was received and what to do.

    ForewordError                     exit code 1
      SettingsError                   2   a flag, a key of a settings file, a combination of them
        TemplateError                 2   a template that does not parse, or names a field that is not there
        VerbalizerError               2   label words that collide or tokenise to nothing
      DataError                       3   a data file that cannot be read or was refused by the check
      BaseError                       1   the base model cannot be found or loaded
        UnsupportedBaseError          1   the base model is outside what the mechanism reaches
        BaseMismatchError             1   the foreword was trained on another base
      FileFormatError                 1   a .foreword file (or an import) that is damaged, hostile or too new
      TrainingError                   1   training could not go on
        NothingLearnedError           1   training ran and taught the model nothing
        ResumeError                   1   the run to resume was made with other data or settings
      ResourceError                   4   not enough memory, or the device is not there
      GateError                     100   a required result was not met
      Interrupted                   130   stopped by the user, checkpoint saved

Nothing here imports anything heavy: the command line shows errors before torch is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_speaks_flags = ContextVar("speaks_flags", default=False)
_translate: ContextVar[Callable[[object], str]] = ContextVar("translate", default=str)
# Flags that are called otherwise in Python.
_NAMES = {"input": "inputs", "input_prefix": "first_k", "init": "init_from", "batch": "per_device_train_batch_size"}
_SWITCHES = {"skip_bad", "overwrite", "chat", "curve"}
_SHELL = {"help", "version", "json", "verbose", "workers", "ray", "dry_run", "config"}
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?:[ =]('[^']*'|\"[^\"]*\"|[^\s`]+))?")


@contextmanager
def speaking_flags(translate: Callable[[object], str] = str) -> Iterator[None]:
    """Inside the block errors name flags, as on the command line; elsewhere they speak Python.

    Args:
        translate: a text of the program's in the language of the user.
    """
    token, before = _speaks_flags.set(True), _translate.set(translate)
    try:
        yield
    finally:
        _speaks_flags.reset(token)
        _translate.reset(before)


def in_python(text: str) -> str:
    """What a message says of flags, as Python has it: ``--overwrite`` is ``overwrite=True``.

    A whole command, ```foreword check DATA```, stays: it says the same wherever it is read.

    >>> in_python("replace it with `--overwrite`, or use `--method prefix`; see --labels")
    "replace it with `overwrite=True`, or use `method='prefix'`; see labels"
    """
    parts = text.split("`")
    for index, part in enumerate(parts):
        if not part.startswith("foreword "):
            quoted = index % 2 == 1
            parts[index] = _FLAG.sub(lambda match, quoted=quoted: _keyword(match, quoted), part)  # type: ignore[misc]
    return "`".join(parts)


def _keyword(match: re.Match[str], quoted: bool) -> str:
    """A flag as a keyword; words behind it are its value where it stands in quotes or is a NAME in capitals."""
    name, value = match.group(1).replace("-", "_"), match.group(2) or ""
    if name in _SHELL:
        return match.group(0)
    behind = f" {value}" if value else ""
    if name == "resume":  # which folder it is, says output_dir
        return "resume=True" + (value[-1] if value[-1:] in (";", ",", ".") else "")
    if name in _SWITCHES:
        return f"{name}=True{behind}"
    name = _NAMES.get(name, name)
    if name == "set":
        return value if quoted and value else f"a setting{behind}"
    if not value or not (quoted or value.strip("'.,;").isupper()):
        return name + behind
    plain = value.isupper() or value[0] in "'\"" or value.replace(".", "").isdigit()
    return f"{name}={value if plain else repr(value)}"


class ForewordError(Exception):
    """An error with its place and its remedy.

    Args:
        problem: what is wrong, one sentence without a full stop at the end.
        where: ``file:line``, a flag, or a path inside a file.
        expected: what would have been right.
        received: what was found instead.
        hint: what to do about it.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        expected: object = None,
        received: object = None,
        hint: str | None = None,
    ) -> None:
        self.problem = problem
        self.where = where
        self.expected = expected
        self.received = received
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        say = _translate.get()
        flags: Callable[[str], str] = str if _speaks_flags.get() else in_python
        # Below its first line a problem may show the user's own data, which stays as it is.
        first, newline, rest = say(self.problem).partition("\n")
        problem = flags(first) + newline + rest
        lines = [f"{flags(str(self.where))}: {problem}" if self.where else problem]
        if self.expected is not None:
            # A single word is a value, such as a column called text, and no sentence.
            expected = say(self.expected) if " " in str(self.expected) else str(self.expected)
            lines.append(f"  {say('expected: ')}{flags(expected)}")
        if self.received is not None:
            lines.append(f"  {say('received: ')}{self.received}")
        if self.hint:
            lines.append(f"  {say('what to do: ')}{flags(say(self.hint))}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The same, for ``--json``: type, problem, where, expected, received, hint, exit_code."""
        return {
            "error": type(self).__name__,
            "problem": self.problem,
            "where": self.where,
            "expected": None if self.expected is None else str(self.expected),
            "received": None if self.received is None else str(self.received),
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class SettingsError(ForewordError):
    """A flag or a settings file says something that cannot be."""

    exit_code = 2


class TemplateError(SettingsError):
    """A template that does not parse, or that names a field the rows do not have."""


class VerbalizerError(SettingsError):
    """Label words that collide, are missing, or tokenise to nothing."""


class DataError(ForewordError):
    """A data file that cannot be read, or that the check refused."""

    exit_code = 3


class BaseError(ForewordError):
    """The base model cannot be found or loaded."""


class UnsupportedBaseError(BaseError):
    """The base model is outside what the mechanism reaches."""


class BaseMismatchError(BaseError):
    """A foreword meets a base other than the one it was trained on."""


class FileFormatError(ForewordError):
    """A file that is truncated, damaged, hostile, or of an unknown version."""


class TrainingError(ForewordError):
    """Training could not go on."""


class NothingLearnedError(TrainingError):
    """Training ran to its end and taught the model nothing."""


class ResumeError(TrainingError):
    """The run to resume was made with other data or other settings."""


class ResourceError(ForewordError):
    """Not enough memory, or a device that is not there."""

    exit_code = 4


class GateError(ForewordError):
    """A result that the caller required was not met."""

    exit_code = 100


class Interrupted(ForewordError):
    """Stopped by the user; the checkpoint is saved."""

    exit_code = 130
