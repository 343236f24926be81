"""Help as people read it: options under headings, commands by what they are for, an example at the end."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from foreword.cli.commands import GROUPS, example, group
from foreword.messages import language, say, say_if_known
from foreword.messages.width import wrapped

# Heading -> parameters, by their names in the functions; what stands under none comes under the first.
HEADINGS = {
    "Options": (),
    "Data": (
        "data", "dev", "test", "encoding", "skip_bad", "inputs", "target", "first_k", "input_prefix", "pool", "other",
    ),
    "Task": ("task_kind", "template", "guidance", "labels", "metric", "chat"),
    "Training": (
        "method", "methods", "init_from", "layers", "learning_rate", "num_train_epochs", "per_device_train_batch_size",
        "seed", "seeds", "folds",
    ),
    "Decoding": (
        "max_new_tokens", "min_new_tokens", "num_beams", "temperature", "top_p", "top_k", "sampling_seed",
        "repetition_penalty", "stop",
    ),
    "Run": ("overwrite", "resume", "dry_run", "workers", "ray", "config", "set"),
    "General": ("json", "verbose", "help"),
}  # fmt: skip
_NAME_WIDTH = 28  # of options; a longer one pushes its own text aside


class Command(TyperCommand):
    """A command whose options stand under headings."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """The first line."""
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), prefix=say("Usage: "))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What the command is for, a paragraph at a time."""
        _write_paragraphs(formatter, self.help)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then the options by heading."""
        arguments, options = [], dict[str, list[tuple[str, tuple[str, str]]]]()
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            record = record[0], _said(record[1], getattr(param, "help", None) or "")
            if param.param_type_name == "argument":
                arguments.append(record)
            else:
                heading = next((title for title, names in HEADINGS.items() if param.name in names), "Options")
                options.setdefault(heading, []).append((str(param.name), record))
        _write_list(formatter, "Arguments", arguments)
        for heading in HEADINGS:
            records = [record for _, record in _in_order(options.get(heading, []), HEADINGS[heading])]
            _write_list(formatter, heading, records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example, on lines of its own."""
        shown = example(self.name or "")
        if shown:
            with formatter.section(say("Example")):
                for line in shown.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _in_order(options: list[tuple[str, Any]], names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Options in the order of a heading's names; one that has no name there keeps its place in the command."""
    return sorted(options, key=lambda option: names.index(option[0]) if option[0] in names else -1)


class Group(TyperGroup):
    """The commands under the headings of :data:`foreword.cli.commands.GROUPS`."""

    format_usage = Command.format_usage
    format_help_text = Command.format_help_text

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The program's own options, then the commands."""
        records = [(param.get_help_record(ctx), getattr(param, "help", None) or "") for param in self.get_params(ctx)]
        shown = [(record[0], _said(record[1], text)) for record, text in records if record is not None]
        _write_list(formatter, "Options", shown)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section a heading."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names)) if language() == "en" else 1000
        for heading in GROUPS:
            commands = {name: self.get_command(ctx, name) for name in names if group(name) == heading}
            rows = [(name, command.get_short_help_str(limit)) for name, command in commands.items() if command]
            _write_list(formatter, heading, [(name, _said(text, text)) for name, text in rows])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The exit codes."""
        _write_paragraphs(formatter, self.epilog)


def _said(shown: str, text: str) -> str:
    """A line of help in the user's language; what the parser adds to it in brackets stays."""
    text = " ".join(text.split())
    shown = " ".join(shown.split()) if language() != "en" else shown
    translated = say(text) + shown[len(text) :] if text and shown.startswith(text) else say_if_known(shown)
    return translated.replace("[required]", say("[required]")) if language() != "en" else translated


def _write_paragraphs(formatter: Any, text: str | None) -> None:
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        if paragraph:
            formatter.write_paragraph()
            with formatter.indentation():
                _write_wrapped(formatter, say(" ".join(paragraph.split())), "")


def _write_list(formatter: Any, heading: str, rows: Sequence[tuple[str, str]]) -> None:
    """Rows under a heading: a name, and what it is."""
    if not rows:
        return
    with formatter.section(say(heading)):
        if language() == "en":
            formatter.write_dl(rows)
            return
        width = min(max(len(name) for name, _ in rows), _NAME_WIDTH)
        for name, text in rows:
            _write_wrapped(formatter, text, f"{name:<{width}}  ")


def _write_wrapped(formatter: Any, text: str, first: str) -> None:
    """A text in the width of the terminal, in which a Chinese character is two columns wide and ends a word."""
    indent = " " * formatter.current_indent
    if language() == "en":
        formatter.write_text(text)
        return
    room = formatter.width - len(indent) - len(first)
    for number, line in enumerate(wrapped(text, room)):
        formatter.write(f"{indent}{first if number == 0 else ' ' * len(first)}{line}\n")
