"""One server's parts: base, engine, library, metrics; and how a request's jobs are run and waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from foreword.core.base.load import Base
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import end_id
from foreword.errors import SettingsError
from foreword.serve.app import label_calibration
from foreword.serve.app.experiments import Experiments, parse
from foreword.serve.app.serving_metrics import ServingMetrics
from foreword.serve.app.settings import ServeSettings
from foreword.serve.app.shadows import Shadows
from foreword.serve.engine.engine import Engine
from foreword.serve.engine.jobs import Done, Event, Scored, ScoreJob, WriteJob
from foreword.serve.engine.library import BASE, Library, Watched, base_task
from foreword.serve.engine.llamacpp_remote import LlamaCppRemote
from foreword.serve.engine.prompting import row_of
from foreword.serve.engine.remote import Remote, same_base
from foreword.serve.engine.sampling import Sampling, sampling_of
from foreword.serve.engine.served import Served, end_tokens
from foreword.serve.engine.vllm_remote import VllmRemote
from foreword.serve.wire.api_errors import ApiError
from foreword.studies.feedback.request_log import RequestLog

log = logging.getLogger("foreword.serve")
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A row to write behind: whose, its ids, how."""

    served: Served
    ids: tuple[int, ...]
    sampling: Sampling
    strip: bool


class Service:
    """What the routes work with.

    Raises:
        ForewordError: a file that was named cannot be served. One in a folder is only reported.
    """

    def __init__(self, base: Base, settings: ServeSettings) -> None:
        self.base, self.settings = base, settings
        remote = remote_of(settings, base)
        self.engine = Engine(base, settings.limits, remote)
        try:
            self.library = Library(base, self.engine, settings.foreword_bytes)
            bare = self.library.bare
            self.library.bare = replace(bare, ends=bare.ends | end_tokens(base.model))
            self.chat = _chatting(self.library.bare)
            if remote is not None:
                equal = same_base(remote, self.library.bare, base.model)
                log.info("engine", extra={"fields": {"same_next_tokens_of_4": equal}})
            self.metrics = ServingMetrics(self.engine, self.library)
            self.watched = Watched(self.library, [p for p in settings.files if p.is_dir()], _report)
            for path in settings.files:
                if not path.is_dir():
                    self.library.add(path)
            self.watched.look()
            self.experiments = Experiments(map(parse, settings.splits), settings.feedback)
            self._check_splits()
            self.calibrations = {
                self._digest(name): self._calibrated(name, path)
                for name, path in map(label_calibration.parse, settings.calibrate)
            }
            self.shadows = Shadows(settings.shadows, self.library.entry)
            self.log = None if settings.request_log is None else RequestLog(settings.request_log, settings.log_days)
        except BaseException:
            self.engine.stop(finish=False)
            raise

    def _check_splits(self) -> None:
        for experiment in self.experiments.all():
            for name in (experiment.a, experiment.b):
                self.library.entry(name)
            if experiment.name in self.library.names():
                raise SettingsError("a split has the name of a file", where="--split", received=experiment.name)

    def _digest(self, name: str) -> str:
        return self.library.entry(name).peek.digest

    def _calibrated(self, name: str, path: Path) -> label_calibration.Calibration:
        fitted = label_calibration.calibrated_on(self.library, name, path)
        log.info("calibrated", extra={"fields": {"foreword": name, **fitted.to_json()}})
        return fitted

    def calibration(self, name: str) -> label_calibration.Calibration | None:
        """What a foreword's probabilities were calibrated to, as long as it is the same foreword."""
        return self.calibrations.get(self._digest(name))

    async def watch(self) -> None:
        """Look at the folders now and then, for ever."""
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            await asyncio.to_thread(self.watched.look)

    async def foreword(self, model: str, answer: str, user: str | None = None) -> Served:
        """The foreword of a request, loaded where it is not; ``answer`` is the id that the answer will have."""
        name = self.experiments.choose(model, answer, user)
        if name == BASE:
            return self.library.bare
        served = await asyncio.to_thread(self.library.get, name)
        self.metrics.requests.labels(name).inc()
        return served

    @asynccontextmanager
    async def written(self, rows: Sequence[Row]) -> AsyncIterator[Answers]:
        """Run the rows; those that are not done when the block is left are let go."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()
        jobs: list[WriteJob] = []
        for index, row in enumerate(rows):

            def emit(event: Event, index: int = index) -> None:
                _call(loop, events.put_nowait, (index, event))

            jobs.append(WriteJob(row.served, row.ids, row.sampling, emit, row.strip))
        self.engine.submit(*jobs)
        try:
            yield Answers(jobs, events, self)
        finally:
            for job in jobs:
                job.cancel()

    async def scored(self, served: Served, examples: Sequence[Example]) -> list[Scored]:
        """Score the rows; all or an error."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Scored]] = [loop.create_future() for _ in examples]
        jobs = [
            ScoreJob(served, example, lambda answer, future=future: _call(loop, _settle, future, answer))  # type: ignore[misc]
            for example, future in zip(examples, futures, strict=True)
        ]
        self.engine.submit(*jobs)
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for job, future in zip(jobs, futures, strict=True):
                job.cancel()
                future.cancel()

    async def answered(self, answer: str, served: Served, fields: Mapping[str, Any], output: str) -> None:
        """Write an answer down, and ask the foreword that stands in its shadow."""
        if self.log is not None:
            await asyncio.to_thread(self.log.add, answer, served.name, dict(fields), output)
        other = self.shadows.of(served.name) if served.task.kind in ("classification", "generation") else None
        if other is not None and len(self.engine.waiting) < self.settings.limits.queue // 2:
            self.shadows.run(self._shadow(served.name, other, fields, output))

    async def _shadow(self, name: str, other: str, fields: Mapping[str, Any], output: str) -> None:
        served = await asyncio.to_thread(self.library.get, other)
        if served.task.kind != self.library.get(name).task.kind:
            return
        example = await asyncio.to_thread(row_of, served, fields, self.library.entry(other).first_k)
        if served.task.kind == "classification":
            [scored] = await self.scored(served, [example])
            theirs = max(scored.probabilities, key=scored.probabilities.__getitem__)
        else:
            sampling = sampling_of(served.task.decoding, served.task.decoding.max_new_tokens)
            async with self.written([Row(served, tuple(example.input_ids), sampling, True)]) as answers:
                theirs = "".join([event.text async for _, event in answers.events()])
        self.shadows.note(name, theirs == output)

    def note(self, served: Served, done: Done) -> None:
        """Count an answer."""
        self.metrics.tokens.labels(served.name).inc(done.written)
        if done.written:
            self.metrics.first_token.labels(served.name).observe(done.first_seconds)


def remote_of(settings: ServeSettings, base: Base) -> Remote | None:
    """The engine behind the gateway; None where this process writes itself."""
    if settings.engine is None:
        return None
    if settings.url is None or settings.engine_dir is None or not settings.engine_dir.is_dir():
        raise SettingsError(
            "a gateway needs the engine's address and the folder in which it looks for forewords",
            where="--engine",
            expected="--url URL and --engine-dir DIR",
            hint="DIR is llama-server's --slot-save-path, or the folder of vLLM's connector",
        )
    if not settings.url.startswith(("http://", "https://")):
        raise SettingsError("not an address", where="--url", expected="http://HOST:PORT", received=settings.url)
    kinds: dict[str, Callable[[str, Path, Base], Remote]] = {"llamacpp": LlamaCppRemote, "vllm": VllmRemote}
    if settings.engine not in kinds:
        raise SettingsError("no such engine", where="--engine", expected=", ".join(kinds), received=settings.engine)
    return kinds[settings.engine](settings.url, settings.engine_dir.resolve(), base)


def _chatting(bare: Served) -> Served:
    """The bare model in a conversation: its template writes the beginning of the text itself, and has its own end."""
    tokenizer = bare.asker.tokenizer
    end = end_id(base_task(chat=True), tokenizer) if tokenizer.chat_template else None
    return replace(bare, lead=(), ends=bare.ends if end is None else bare.ends | {end})


class Answers:
    """The events of a request's rows, as they come."""

    def __init__(self, jobs: list[WriteJob], events: asyncio.Queue[tuple[int, Event]], service: Service) -> None:
        self.jobs, self._events, self._service = jobs, events, service
        self.ends: list[Done] = []

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """(row, event) until every row is done; raises what went wrong with one."""
        while len(self.ends) < len(self.jobs):
            index, event = await self._events.get()
            if isinstance(event, Done):
                if event.error is not None:
                    raise event.error
                self.ends.append(event)
                self._service.note(self.jobs[index].served, event)
            yield index, event


async def unless_gone(request: Any, work: Awaitable[T], seconds: float) -> T:
    """Wait for ``work``, unless the client goes away or it takes too long; then it is cancelled.

    Raises:
        ApiError: it took too long, or nobody is there for the answer.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ApiError(499, "the client went away", "client_gone")
        raise ApiError(504, f"no answer within {seconds:g} seconds", "timeout")
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Any) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in the loop's thread; a loop that is closed has nobody left who waits."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return


def _settle(future: asyncio.Future[Scored], answer: Scored | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _report(what: str, name: str, why: str) -> None:
    fields = {"foreword": Path(name).name, **({"why": why} if why else {})}
    log.log(logging.WARNING if why else logging.INFO, what, extra={"fields": fields})
