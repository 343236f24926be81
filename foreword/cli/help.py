"""Help as people read it: options under headings, commands by what they are for, an example at the end."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from foreword.cli.commands import GROUPS, example, group

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


class Command(TyperCommand):
    """A command whose options stand under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then the options by heading."""
        arguments, options = [], dict[str, list[tuple[str, tuple[str, str]]]]()
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                arguments.append(record)
            else:
                heading = next((title for title, names in HEADINGS.items() if param.name in names), "Options")
                options.setdefault(heading, []).append((str(param.name), record))
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        for heading in HEADINGS:
            if heading in options:
                with formatter.section(heading):
                    formatter.write_dl([record for _, record in _in_order(options[heading], HEADINGS[heading])])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example, on lines of its own."""
        shown = example(self.name or "")
        if shown:
            with formatter.section("Example"):
                for line in shown.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _in_order(options: list[tuple[str, Any]], names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Options in the order of a heading's names; one that has no name there keeps its place in the command."""
    return sorted(options, key=lambda option: names.index(option[0]) if option[0] in names else -1)


class Group(TyperGroup):
    """The commands under the headings of :data:`foreword.cli.commands.GROUPS`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section a heading."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        for heading in GROUPS:
            commands = {name: self.get_command(ctx, name) for name in names if group(name) == heading}
            rows = [(name, found.get_short_help_str(limit)) for name, found in commands.items() if found is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
