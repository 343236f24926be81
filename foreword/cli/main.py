"""The command ``foreword``: finds the command, and turns every error into a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Annotated

import typer
from typer.exceptions import TyperException

from foreword.cli import (
    base_command,
    bias_command,
    check_command,
    compare_command,
    doctor_command,
    evaluate_command,
    explain_command,
    export_command,
    feedback_command,
    generate_command,
    import_command,
    ls_command,
    predict_command,
    reproduce_command,
    search_command,
    show_command,
    sweep_command,
    train_command,
    transfer_command,
    verify_command,
)
from foreword.cli.failure import report
from foreword.errors import SettingsError
from foreword.settings.layers import is_setting
from foreword.storage import protecting

COMMANDS: dict[str, Callable[..., int]] = {
    "check": check_command.command,
    "base": base_command.command,
    "train": train_command.command,
    "evaluate": evaluate_command.command,
    "predict": predict_command.command,
    "generate": generate_command.command,
    "search": search_command.command,
    "bias": bias_command.command,
    "explain": explain_command.command,
    "sweep": sweep_command.command,
    "feedback": feedback_command.command,
    "transfer": transfer_command.command,
    "compare": compare_command.command,
    "reproduce": reproduce_command.command,
    "export": export_command.command,
    "import": import_command.command,
    "ls": ls_command.command,
    "show": show_command.command,
    "verify": verify_command.command,
    "doctor": doctor_command.command,
}

app = typer.Typer(
    name="foreword",
    help="Teach a frozen language model a task with a few learned tokens in front of it.",
    epilog="Exit codes: 0 ok, 1 failure, 2 usage or settings, 3 data refused, 4 not enough memory or no such device, "
    "100 a required result was not met, 130 interrupted.",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> int:
    if version:
        from importlib.metadata import version as installed

        print(installed("foreword"))
    elif context.invoked_subcommand is None:
        print(context.get_help())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Never raises for an error; returns the exit code.

    Args:
        argv: the words after ``foreword``; None takes them from the process.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    options = args[: args.index("--")] if "--" in args else args
    machine, verbose = "--json" in options, "-v" in options or "--verbose" in options
    try:
        with protecting(_given(args)):
            code = app(args=args, prog_name="foreword", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return report(_usage(error, args), machine, verbose)
    except BrokenPipeError:
        # The reader has gone (``| head``): keep the interpreter from failing once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        return report(error, machine, verbose)
    if code == 130:  # typer's own answer to Ctrl-C
        return report(KeyboardInterrupt(), machine, verbose)
    return int(code or 0)


def _given(args: Sequence[str]) -> list[str]:
    """Every word that may be the name of an input: all but those that say where to write."""
    words = []
    for before, word in zip(["", *args], args, strict=False):
        name, equals, value = word.partition("=")
        if "output" not in (name if equals and name.startswith("-") else before):
            words += [word, value] if equals else [word]
    return words


def _usage(error: TyperException, args: Sequence[str]) -> SettingsError:
    command = next((word for word in args if word in COMMANDS), None)
    option = getattr(error, "option_name", "").removeprefix("--").replace("-", "_")
    if command is not None and "set" in signature(COMMANDS[command]).parameters and is_setting(option):
        problem = f"{command} has no option --{option.replace('_', '-')}"
        return SettingsError(problem, hint=f"it is a setting: --set {option}=VALUE")
    return SettingsError(
        error.format_message().rstrip("."), hint=f"see foreword {command + ' ' if command else ''}--help"
    )
