"""What serving costs: one table, every ratio from runs in turns in one process.

    python bench/serve.py [--base MODEL] [--only SECTION,...] [--rounds 3] [--tokens 16] [--json]

Sections: mixed (64 rows with 64 forewords beside 64 rows with one), static (beside transformers' ``generate``), peft
(beside PEFT, one request after another with ``set_adapter``), zipf (many files, the popular ones asked for most),
classify (beside ``predict`` row by row), equal (answers in company and alone), http (the HTTP layer at batch 1).
Ratios are of the processor time of this process, which a busy machine changes less than the clock; tokens a second are
by the clock.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn

from foreword import samples
from foreword.artifact.manifest import BaseRecord, Manifest
from foreword.artifact.store import save
from foreword.core.base.load import Base, load_base
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import EMPTY, Foreword, KeyValue
from foreword.data.row import Row, Source
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.evaluation.predict import Asker
from foreword.serve.app.create_app import create_app
from foreword.serve.app.settings import ServeSettings
from foreword.serve.engine.engine import Engine, EngineLimits
from foreword.serve.engine.jobs import Done, ScoreJob, Token, WriteJob
from foreword.serve.engine.library import Library
from foreword.serve.engine.sampling import Sampling
from foreword.serve.engine.served import Served, served

WRITE = Task("generation", "{{ text }}", "", "completion")
CHOOSE = Task("classification", "{{ text }}\nSentiment:", "", "label", verbalizer={"good": " good", "bad": " bad"})
WORDS = "the quick brown fox jumps over a lazy dog while seven old friends talk about rain and bread in spring".split()


@dataclass
class Bench:
    """What every section works with."""

    base: Base
    rounds: int
    tokens: int
    options: argparse.Namespace

    def asker(self, task: Task) -> Asker:
        return Asker(self.base.model, self.base.tokenizer, task, False)

    def prefix(self, seed: int, length: int = 16) -> Foreword:
        """Keys and values that are a little different for every seed."""
        generator = torch.Generator().manual_seed(seed)
        sites = find_sites(self.base.model).sites.items()

        def draw(heads: int, size: int) -> torch.Tensor:
            return torch.randn(length, heads, size, generator=generator) * 0.1

        return Foreword(sites={n: KeyValue(draw(s.heads, s.key_size), draw(s.heads, s.value_size)) for n, s in sites})

    def ids(self, seed: int, words: int = 16) -> tuple[int, ...]:
        rng = random.Random(seed)
        return tuple(self.base.tokenizer(" ".join(rng.choice(WORDS) for _ in range(words)))["input_ids"])


def timed(act: Callable[[], Any]) -> tuple[float, float]:
    """(seconds of the clock, seconds of the processor)."""
    clock, processor = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - clock, time.process_time() - processor


def write(engine: Engine, rows: Sequence[tuple[Served, tuple[int, ...]]], tokens: int) -> list[list[int]]:
    """The ids that every row writes; exactly ``tokens`` each."""
    events: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    jobs = [
        WriteJob(one, ids, Sampling(tokens, min_tokens=tokens), lambda event, i=i: events.put((i, event)))  # type: ignore[misc]
        for i, (one, ids) in enumerate(rows)
    ]
    engine.submit(*jobs)
    out: list[list[int]] = [[] for _ in jobs]
    left = len(jobs)
    while left:
        index, event = events.get()
        if isinstance(event, Token):
            out[index].append(event.id)
        elif isinstance(event, Done):
            if event.error:
                raise event.error
            left -= 1
    return out


def in_turns(rounds: int, count: float, **acts: Callable[[], Any]) -> dict[str, dict[str, float]]:
    """Each act once a round, the first round not counted: medians of both times, and ``count`` a second."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
    for number in range(rounds + 1):
        for name, act in acts.items():
            taken = timed(act)
            if number:
                times[name].append(taken)
    result = {}
    for name, taken in times.items():
        clock, processor = (statistics.median(part) for part in zip(*taken, strict=True))
        result[name] = {"a_second": count / clock, "clock": clock, "processor": processor}
    return result


def mixed(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """64 rows with 64 forewords beside 64 rows with one."""
    rows, asker = bench.options.rows, bench.asker(WRITE)
    with Engine(bench.base, EngineLimits(rows=rows, length=128, step_tokens=512)) as engine:
        many = [served(f"p{i}", asker, bench.prefix(i), True) for i in range(rows)]
        ids = bench.ids(0)
        found = in_turns(
            bench.rounds,
            rows * bench.tokens,
            one=lambda: write(engine, [(many[0], ids)] * rows, bench.tokens),
            many=lambda: write(engine, [(each, ids) for each in many], bench.tokens),
        )
    ratio = found["one"]["processor"] / found["many"]["processor"]
    speeds = f"{found['many']['a_second']:.0f} and {found['one']['a_second']:.0f} tokens/s"
    yield f"{rows} rows, {rows} forewords / one foreword", ratio, 0.95, speeds


def static(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """Beside transformers' own ``generate`` on a batch of equal rows."""
    with Engine(bench.base, EngineLimits(rows=32, length=128, step_tokens=1024)) as engine:
        bare = served("base", bench.asker(WRITE), EMPTY, True)
        ids = bench.ids(1)
        for rows in (1, 8, 32):
            tensor = torch.tensor([ids] * rows)

            def plain(tensor: torch.Tensor = tensor) -> None:
                count = {"max_new_tokens": bench.tokens, "min_new_tokens": bench.tokens, "do_sample": False}
                with torch.no_grad():
                    bench.base.model.generate(tensor, attention_mask=torch.ones_like(tensor), **count)  # type: ignore[operator]

            def ours(rows: int = rows) -> None:
                write(engine, [(bare, ids)] * rows, bench.tokens)

            found = in_turns(bench.rounds, rows * bench.tokens, plain=plain, ours=ours)
            ratio = found["plain"]["processor"] / found["ours"]["processor"]
            speeds = f"{found['ours']['a_second']:.0f} and {found['plain']['a_second']:.0f} tokens/s"
            yield f"batch {rows} / transformers generate", ratio, 1.0, speeds


def peft(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """Beside PEFT, where each request switches to its own adapter: rows with different ones cannot share a batch."""
    from peft import PeftModel, PrefixTuningConfig, get_peft_model

    rows, few, asker, ids = bench.options.rows, 4, bench.asker(WRITE), bench.ids(2)
    tensor = torch.tensor([ids])
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=16)
    model: PeftModel = get_peft_model(bench.base.model, config, adapter_name="p0")
    for number in range(1, few):
        model.add_adapter(f"p{number}", config)
    model.eval()

    def one_by_one() -> None:
        count = {"max_new_tokens": bench.tokens, "min_new_tokens": bench.tokens, "do_sample": False}
        for number in range(few):
            model.set_adapter(f"p{number}")
            with torch.no_grad():
                model.generate(input_ids=tensor, attention_mask=torch.ones_like(tensor), **count)

    with Engine(bench.base, EngineLimits(rows=rows, length=128, step_tokens=512)) as engine:
        many = [served(f"p{i}", asker, bench.prefix(i), True) for i in range(rows)]
        found = in_turns(
            bench.rounds, 1, ours=lambda: write(engine, [(each, ids) for each in many], bench.tokens), theirs=one_by_one
        )
    ratio = (found["theirs"]["processor"] / few) / (found["ours"]["processor"] / rows)
    speeds = [rows * bench.tokens / found["ours"]["clock"], few * bench.tokens / found["theirs"]["clock"]]
    yield f"{rows} forewords / PEFT set_adapter a request", ratio, 10.0, f"{speeds[0]:.0f} and {speeds[1]:.0f} tokens/s"


def files(bench: Bench, folder: Path, count: int) -> list[str]:
    """``count`` forewords on disk, in half precision."""
    base = bench.base
    record = BaseRecord(id="bench", architecture=base.architecture, kind=base.kind, fingerprint=base.fingerprint)
    names = []
    for number in range(count):
        value = bench.prefix(number, 8).to(dtype=torch.float16)
        save(folder / f"f{number}.foreword", value, Manifest(base=record, method="prefix", task=WRITE.to_json()))
        names.append(f"f{number}")
    return names


def zipf(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """Many forewords on disk, asked for as often as words are in a text, beside one foreword."""
    count, requests = bench.options.files, bench.options.requests
    with tempfile.TemporaryDirectory() as folder, Engine(bench.base, EngineLimits(rows=16, length=128)) as engine:
        names = files(bench, Path(folder), count)
        library = Library(bench.base, engine, most_bytes=256 << 20)
        for name in names:
            library.add(Path(folder) / f"{name}.foreword")
        first: list[float] = []
        rng = random.Random(0)
        weights = [1 / (rank + 1) for rank in range(count)]

        def load(chosen: Sequence[str]) -> None:
            left = queue.SimpleQueue[str]()
            for name in chosen:
                left.put(name)

            def client(seed: int) -> None:
                while True:
                    try:
                        name = left.get_nowait()
                    except queue.Empty:
                        return
                    began = time.perf_counter()
                    done: queue.SimpleQueue[Done] = queue.SimpleQueue()

                    def emit(event: Any, done: queue.SimpleQueue[Done] = done) -> None:
                        if isinstance(event, Done):
                            done.put(event)

                    asked = Sampling(bench.tokens, min_tokens=bench.tokens)
                    job = WriteJob(library.get(name), bench.ids(seed), asked, emit)
                    engine.submit(job)
                    end = done.get()
                    first.append(job.asked - began + end.first_seconds)

            threads = [threading.Thread(target=client, args=(seed,)) for seed in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        found = in_turns(
            max(1, bench.rounds - 1),
            requests * bench.tokens,
            one=lambda: load(["f0"] * requests),
            many=lambda: load(rng.choices(names, weights, k=requests)),
        )
    first.sort()
    middle, last = first[len(first) // 2], first[int(len(first) * 0.99)]
    ratio = found["one"]["processor"] / found["many"]["processor"]
    yield (
        f"{count} files, Zipf / one file",
        ratio,
        0.85,
        f"first token p50 {middle:.2f} s, p99 {last:.2f} s (32 clients)",
    )


def classify(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """32 clients that ask for labels, beside ``predict`` row by row on the base that is loaded."""
    clients, asker, value = 32, bench.asker(CHOOSE), bench.prefix(1)
    rng = random.Random(3)
    texts = [" ".join(rng.choice(WORDS) for _ in range(16)) for _ in range(clients)]
    rows = [Row(str(i), {"text": text}, Source("bench", i + 1)) for i, text in enumerate(texts)]
    examples = Encoder(CHOOSE, bench.base.tokenizer, False).encode(rows, labelled=False)
    with Engine(bench.base, EngineLimits(rows=1, length=128)) as engine:
        one = served("choose", asker, value, True)

        def ours() -> None:
            done: queue.SimpleQueue[Any] = queue.SimpleQueue()
            engine.submit(*(ScoreJob(one, example, done.put) for example in examples))
            for _ in examples:
                done.get()

        def theirs() -> None:
            for example in examples:
                asker.answer(value, [example])

        found = in_turns(bench.rounds, clients, ours=ours, theirs=theirs)
    ratio = found["theirs"]["processor"] / found["ours"]["processor"]
    speeds = f"{found['ours']['a_second']:.0f} and {found['theirs']['a_second']:.0f} rows/s"
    yield "classify, 32 clients / predict row by row", ratio, 8.0, speeds


def equal(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """Greedy answers in company beside the same requests alone."""
    count, asker, rng = bench.options.equal, bench.asker(WRITE), random.Random(5)
    with Engine(bench.base, EngineLimits(rows=16, length=128, step_tokens=64, queue=count)) as engine:
        kinds = [served(f"p{i}", asker, bench.prefix(i, 4 * (i + 1)), True) for i in range(6)]
        kinds += [served("text", asker, Foreword(text="Once upon a time "), True), served("none", asker, EMPTY, True)]
        rows = [(rng.choice(kinds), bench.ids(i, rng.randrange(3, 24))) for i in range(count)]
        together = write(engine, rows, 8)
        same = sum(write(engine, [row], 8) == [ids] for row, ids in zip(rows, together, strict=True))
    yield f"greedy answers in company = alone, of {count}", same / count, 1.0, f"{same} of {count}"


@contextmanager
def on_a_port(base: Base, folder: Path) -> Iterator[tuple[str, Any]]:
    """A server's address and application."""
    app = create_app(base, ServeSettings(files=(folder,), limits=EngineLimits(rows=8, length=256)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", app
    finally:
        server.should_exit = True
        thread.join()


def http(bench: Bench) -> Iterator[tuple[str, float, float, str]]:
    """What a request takes beside the same job given to the engine: one client, one token."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files(bench, folder, 1)
        with on_a_port(bench.base, folder) as (url, app), httpx.Client(base_url=url, timeout=60) as client:
            service, text = app.state.service, "the quick brown fox"
            body = {"model": "f0", "prompt": text, "max_tokens": 1, "min_tokens": 1}
            ids = tuple(bench.base.tokenizer(text)["input_ids"])
            one = service.library.get("f0")
            found = in_turns(
                20 * bench.rounds,
                1,
                request=lambda: client.post("/v1/completions", json=body).raise_for_status(),
                engine=lambda: write(service.engine, [(one, ids)], 1),
            )
    extra = 1000 * (found["request"]["processor"] - found["engine"]["processor"])
    clock = 1000 * (found["request"]["clock"] - found["engine"]["clock"])
    yield "ms of the HTTP layer a request (client included)", extra, 5.0, f"{clock:.1f} ms by the clock; at most 5"


SECTIONS = {
    "mixed": mixed, "static": static, "peft": peft, "zipf": zipf, "classify": classify, "equal": equal, "http": http,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="a model's folder or hub id; default: SmolLM2-135M-Instruct")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=128, help="of the section zipf, a round")
    parser.add_argument("--equal", type=int, default=1000, help="requests of the section equal")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bench = Bench(load_base(options.base or str(samples.smollm2())), options.rounds, options.tokens, options)
    print(f"{torch.get_num_threads()} threads, {bench.base.architecture}, {bench.base.dtype}", flush=True)
    for name in options.only.split(","):
        for what, value, wanted, told in SECTIONS[name](bench):
            line = {"what": what, "value": round(value, 3), "wanted": wanted, "told": told}
            print(json.dumps(line) if options.json else f"{what:<52} {value:8.3f}  ({wanted:g})  {told}", flush=True)


if __name__ == "__main__":
    main()
