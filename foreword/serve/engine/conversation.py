"""A conversation with the bare model and forewords beside it: each answers every message, each with its own past."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from foreword.core.base.load import Base
from foreword.data.tokens.tokenize import end_id
from foreword.errors import SettingsError
from foreword.serve.engine.engine import Engine, EngineLimits
from foreword.serve.engine.jobs import Done, Scored, ScoreJob, Token, WriteJob
from foreword.serve.engine.library import BASE, Library, base_task
from foreword.serve.engine.prompting import chat_ids, fields_of_messages, row_of
from foreword.serve.engine.sampling import sampling_of
from foreword.serve.engine.served import Served, end_tokens
from foreword.storage import write_atomically

Turn = dict[str, str]
Full = Literal["trim", "refuse"]


@dataclass
class Speaker:
    """One side of the conversation, with the messages that it has seen and its own answers."""

    name: str
    served: Served
    first_k: int | None = None
    turns: list[Turn] = field(default_factory=list)
    dropped: int = 0


class Conversation:
    """Speakers on one base. Use it as a context manager.

    Args:
        files: forewords; each is a speaker.
        bare: whether the bare model is one too.
        full: what happens to a conversation that is longer than the base reads: its oldest messages are left out, or it
            is refused.
        max_tokens: of an answer of the bare model.

    Raises:
        ForewordError: a file cannot be used on the base.
    """

    def __init__(
        self, base: Base, files: Sequence[Path], *, bare: bool = True, full: Full = "trim", max_tokens: int = 256
    ) -> None:
        self._full, self._max_tokens = full, max_tokens
        length = min(base.context or 4096, 8192)
        self.engine = Engine(base, EngineLimits(rows=len(files) + bare, length=length))
        try:
            library = Library(base, self.engine)
            self.speakers = [_bare(library.bare)] if bare and self.engine.writes else []
            for file in files:
                entry = library.add(Path(file))
                self.speakers.append(Speaker(entry.name, library.get(entry.name), entry.first_k))
        except BaseException:
            self.engine.stop(finish=False)
            raise

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *problem: object) -> None:
        self.engine.stop(finish=False)

    def reset(self) -> None:
        """Begin again: nothing was said."""
        for speaker in self.speakers:
            speaker.turns, speaker.dropped = [], 0

    def save(self, path: str | Path) -> int:
        """Write each speaker's conversation as a line ``{"model", "messages"}``, which ``train`` reads; how many.

        Raises:
            ForewordError: the file cannot be written.
        """
        lines = [json.dumps({"model": s.name, "messages": s.turns}, ensure_ascii=False) for s in self.speakers]
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
        return len(lines)

    def say(self, text: str, show: Callable[[int, str], None] = lambda speaker, piece: None) -> list[str]:
        """Every speaker's answer to a message.

        Args:
            show: called with a speaker's number and the next piece of its answer.

        Raises:
            SettingsError: the conversation is too long (``full="refuse"``), or this message alone is.
            ForewordError: a foreword cannot be asked this.
        """
        events: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        jobs = [self._job(number, speaker, text, events) for number, speaker in enumerate(self.speakers)]
        self.engine.submit(*jobs)
        answers, left = [""] * len(jobs), len(jobs)
        try:
            while left:
                number, event = events.get()
                piece = _piece(event)
                left -= not isinstance(event, Token)
                if piece:
                    answers[number] += piece
                    show(number, piece)
        finally:
            for job in jobs:
                job.cancel()
        for speaker, answer in zip(self.speakers, answers, strict=True):
            speaker.turns += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        return answers

    def _job(
        self, number: int, speaker: Speaker, text: str, events: queue.SimpleQueue[tuple[int, object]]
    ) -> WriteJob | ScoreJob:
        message, served = {"role": "user", "content": text}, speaker.served
        if served.task.kind != "generation":
            example = row_of(served, fields_of_messages(served.task, [message]), speaker.first_k)
            return ScoreJob(served, example, lambda answer: events.put((number, answer)))
        room = self.engine.limits.length - served.prefix - len(served.lead)
        wanted = self._max_tokens if speaker.name == BASE else served.task.decoding.max_new_tokens
        while True:
            ids = self._ids(speaker, [*speaker.turns, message])
            if len(ids) + wanted <= room:
                sampling = sampling_of(served.task.decoding, wanted)
                return WriteJob(served, tuple(ids), sampling, lambda event: events.put((number, event)))
            if not speaker.turns or self._full == "refuse":
                raise SettingsError(
                    "the conversation is longer than the base reads",
                    where=speaker.name,
                    expected=f"{room} tokens, {wanted} of them for the answer",
                    received=f"{len(ids)} tokens",
                    hint="/reset begins again" if speaker.turns else "send a shorter message",
                )
            # A message and its answer go together.
            del speaker.turns[:2]
            speaker.dropped += 2

    def _ids(self, speaker: Speaker, turns: Sequence[Turn]) -> list[int]:
        served = speaker.served
        if speaker.name == BASE:
            return chat_ids(served.asker.tokenizer, turns)
        return list(row_of(served, fields_of_messages(served.task, turns), speaker.first_k).input_ids)


def _bare(bare: Served) -> Speaker:
    tokenizer = bare.asker.tokenizer
    end = end_id(base_task(chat=True), tokenizer) if tokenizer.chat_template else None
    ends = bare.ends | end_tokens(bare.asker.model) | (set() if end is None else {end})
    return Speaker(BASE, replace(bare, lead=(), ends=ends))


def _piece(event: object) -> str:
    """What an event adds to an answer; raises what went wrong."""
    if isinstance(event, BaseException):
        raise event
    if isinstance(event, Done) and event.error is not None:
        raise event.error
    if isinstance(event, Scored):
        if event.tags:
            return " ".join(tag for tag, _ in event.tags)
        best = max(event.probabilities, key=event.probabilities.__getitem__)
        return f"{best} ({event.probabilities[best]:.0%})"
    return event.text if isinstance(event, Token | Done) else ""
