"""A conversation on a terminal: messages in, answers side by side, a few commands."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from foreword.core.base.load import Base
from foreword.errors import ForewordError
from foreword.serve.app.run_server import base_for
from foreword.serve.engine.conversation import Conversation
from foreword.settings.schema import ProgressCall


def chat(
    files: Sequence[str | Path],
    *,
    base: str | Base | None = None,
    messages: Iterable[str],
    screen: TextIO,
    progress: ProgressCall | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Answer messages until there are no more, or until ``/quit``.

    Args:
        files: forewords that answer beside the bare model.
        messages: what the user says; ``/reset``, ``/save FILE`` and ``/quit`` are commands.
        options: ``bare``, ``full`` and ``max_tokens`` of :class:`Conversation`.
        screen: where answers go: side by side on a terminal, one after another elsewhere.

    Returns:
        ``{"model", "messages"}`` of each speaker.

    Raises:
        ForewordError: the base or a file cannot be used. What goes wrong with a message is only said.

    >>> import io
    >>> from foreword.api import chat
    >>> said = chat(["writer.foreword"], messages=["Hello", "/quit"], screen=io.StringIO(), max_tokens=2)
    >>> [speaker["model"] for speaker in said]
    ['base', 'writer']
    """
    paths = [Path(file) for file in files]
    loaded = base_for(paths, base, progress)
    with Conversation(loaded, paths, **options) as talk:
        for message in messages:
            text = message.strip()
            if text == "/quit":
                break
            if text:
                try:
                    _turn(talk, text, screen)
                except ForewordError as error:
                    print(error, file=screen, flush=True)
        return [{"model": speaker.name, "messages": speaker.turns} for speaker in talk.speakers]


def _turn(talk: Conversation, text: str, screen: TextIO) -> None:
    word, _, rest = text.partition(" ")
    if word == "/reset":
        talk.reset()
        print("begun again", file=screen, flush=True)
    elif word == "/save":
        path = rest.strip() or "conversations.jsonl"
        print(f"{talk.save(path)} conversations in {path}", file=screen, flush=True)
    elif text.startswith("/"):
        print("no such command: /reset, /save FILE and /quit are known", file=screen, flush=True)
    else:
        before = [speaker.dropped for speaker in talk.speakers]
        _side_by_side(talk, text, screen) if screen.isatty() else _in_turn(talk, text, screen)
        for speaker, dropped in zip(talk.speakers, before, strict=True):
            if speaker.dropped > dropped:
                count = speaker.dropped - dropped
                print(f"[{speaker.name}: the oldest {count} messages were left out]", file=screen, flush=True)


def _in_turn(talk: Conversation, text: str, screen: TextIO) -> None:
    for speaker, answer in zip(talk.speakers, talk.say(text), strict=True):
        print(f"{speaker.name}: {answer}", file=screen, flush=True)


def _side_by_side(talk: Conversation, text: str, screen: TextIO) -> None:
    console = Console(file=screen)
    texts = [""] * len(talk.speakers)
    width = max(20, shutil.get_terminal_size().columns // len(talk.speakers) - 1)

    def page() -> Columns:
        names = [speaker.name for speaker in talk.speakers]
        return Columns([Panel(Text(t), title=n, width=width) for n, t in zip(names, texts, strict=True)])

    with Live(page(), console=console, refresh_per_second=12) as live:

        def show(speaker: int, piece: str) -> None:
            texts[speaker] += piece
            live.update(page())

        talk.say(text, show)
