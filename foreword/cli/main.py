"""The command ``foreword``: finds the command, and turns every error into a message and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from foreword.cli.commands import COMMANDS
from foreword.cli.failure import report
from foreword.cli.help import Command, Group
from foreword.cli.usage import usage_error
from foreword.errors import speaking_flags
from foreword.messages import say_if_known, speaking
from foreword.storage import protecting

_EPILOG = (
    "Exit codes: 0 ok, 1 failure, 2 usage or settings, 3 data refused, 4 not enough memory or no such device, "
    "100 a required result was not met, 130 interrupted."
)


def app_of(words: Sequence[str]) -> typer.Typer:
    """The command line with the one command that ``words`` begin with, or with all of them, for the list."""
    app = typer.Typer(
        name="foreword",
        cls=Group,
        help="Teach a frozen language model a task with a few learned tokens in front of it.",
        epilog=_EPILOG,
        add_completion=True,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for name in words[:1] if words and words[0] in list(COMMANDS) else COMMANDS:
        app.command(name, cls=Command)(COMMANDS[name])
    return app


def root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> int:
    """Answer ``--version``, and show the help where no command is given."""
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal of another code page cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    with speaking(), speaking_flags(say_if_known):
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(args: list[str]) -> int:
    options = args[: args.index("--")] if "--" in args else args
    machine, verbose = "--json" in options, "-v" in options or "--verbose" in options
    try:
        with protecting(_given(args)):
            code = app_of(args)(args=args, prog_name="foreword", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return report(usage_error(error, args), machine, verbose)
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
