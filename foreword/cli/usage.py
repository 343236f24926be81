"""What is wrong with the words of a command line, with the nearest word that there is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from inspect import signature

from typer.exceptions import TyperException

from foreword.cli.commands import COMMANDS
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.layers import is_setting


def usage_error(error: TyperException, args: Sequence[str]) -> SettingsError:
    """The error of the command line's parser as one of ours."""
    command = next((word for word in args if word in COMMANDS), None)
    text, name = error.format_message().rstrip("."), str(getattr(error, "option_name", ""))
    help_of = Message("see foreword {value}--help", value=f"{command} " if command else "")
    if text.startswith("No such command"):
        typed = text.split("'")[1]
        return SettingsError(Message("no such command: {name}", name=typed), hint=_near(typed, COMMANDS, help_of))
    if text.startswith("No such option"):
        return _no_option(name, getattr(error, "possibilities", None) or (), command, help_of)
    if text.startswith("Missing"):
        parameter = re.sub(r"^Missing \w+ ", "", text).strip("'[]{}")
        return SettingsError(Message("{name} is missing", name=parameter), hint=help_of)
    if text.endswith("requires an argument"):
        return SettingsError(Message("{name} needs a value", name=name), hint=help_of)
    if text.startswith("Invalid value for"):
        _, where, reason = text.split("'", 2)
        reason = reason.removeprefix(": ")
        return SettingsError("this value is not possible", where=where, received=reason, hint=help_of)
    if text.startswith("Got unexpected extra"):
        words = text.rpartition("(")[2].rstrip(")")
        return SettingsError("there are more words than the command takes", received=words, hint=help_of)
    return SettingsError(text, hint=help_of)


def _no_option(name: str, possible: Sequence[str], command: str | None, help_of: Message) -> SettingsError:
    option = name.removeprefix("--").replace("-", "_")
    if command is not None and "set" in signature(COMMANDS[command]).parameters and is_setting(option):
        problem = Message("{command} has no option --{value}", command=command, value=option.replace("_", "-"))
        return SettingsError(problem, hint=Message("it is a setting: --set {option}=VALUE", option=option))
    return SettingsError(Message("no such option: {name}", name=name), hint=_near(name, possible, help_of))


def _near(word: str, words: Iterable[str], help_of: Message) -> Message:
    """The nearest of the words that there are, and where all of them stand."""
    near = get_close_matches(word, list(words), 1)
    return Message("did you mean {value}? {help}", value=near[0], help=help_of) if near else help_of
