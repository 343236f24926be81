"""The engine: rows with any forewords share passes, and every row's answer is the one it has alone."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
import torch

from foreword.core.base.load import base_of
from foreword.core.inject.value import EMPTY, Foreword
from foreword.data.task.task import Decoding, Task
from foreword.errors import ResourceError, SettingsError, UnsupportedBaseError
from foreword.evaluation.generate import decode
from foreword.evaluation.predict import Asker
from foreword.serve.engine.engine import Engine, EngineLimits
from foreword.serve.engine.engine_stats import EngineStats
from foreword.serve.engine.jobs import Done, WriteJob
from foreword.serve.engine.running import Running
from foreword.serve.engine.sampling import Sampling, sampling_of
from foreword.serve.engine.served import Served, served
from foreword.serve.engine.waiting import QueueFullError, StoppedError
from foreword.testing import byte_tokenizer, sample_ids, tiny, writer_for

TASK = Task(kind="generation", template="{{ text }}", guidance="", target="answer")
DECODERS = ["llama", "gpt2", "opt", "mistral", "gemma2", "gemma3", "qwen3", "gpt_oss", "gpt_neox", "deepseek_v3"]


def asker_for(base: Any) -> Asker:
    return Asker(base.model, base.tokenizer, TASK, False)


def ask(engine: Engine, one: Served, ids: list[int], count: int = 6, **sampling: Any) -> queue.SimpleQueue[Any]:
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    engine.submit(WriteJob(one, tuple(ids), Sampling(count, **sampling), events.put))
    return events


def answer(events: queue.SimpleQueue[Any]) -> tuple[list[int], Done]:
    """The ids that were written, and the end."""
    ids = []  # type: ignore[var-annotated]
    while True:
        event = events.get(timeout=60)
        if isinstance(event, Done):
            if event.error is not None:
                raise event.error
            return ids, event
        ids.append(event.id)


def lora(model: Any, seed: int) -> Foreword:
    writer = writer_for("lora", model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in writer.parameters():
            parameter.normal_(std=0.3)
    return writer.write().detach()


def forewords(model: Any) -> dict[str, Foreword]:
    prefix = writer_for("prefix", model).write().detach()
    small = {name: type(kv)(kv.keys[:2], kv.values[:2]) for name, kv in prefix.sites.items()}
    return {
        "none": EMPTY,
        "prefix": prefix,
        "short": Foreword(sites=small),
        "prompt": writer_for("prompt", model).write().detach(),
        "lora": lora(model, 1),
        "other lora": lora(model, 2),
        "text": Foreword(text="say it: "),
    }


@pytest.mark.parametrize("family", DECODERS)
def test_rows_with_different_forewords_share_steps_and_answer_as_alone(family: str) -> None:
    """Each answer is also the one that ``decode`` gives, which knows nothing of the engine."""
    base = base_of(tiny(family), byte_tokenizer())
    asker = asker_for(base)
    values = forewords(base.model)
    rows = [[*row[: 3 + 2 * i]] for i, row in enumerate(sample_ids(len(values), 16).tolist())]
    with Engine(base, EngineLimits(rows=4, length=48, step_tokens=8)) as engine:
        ready = {name: served(name, asker, value, True) for name, value in values.items()}
        waiting = [ask(engine, ready[name], row) for name, row in zip(values, rows, strict=True)]
        together = [answer(events)[0] for events in waiting]
        alone = [answer(ask(engine, ready[name], row))[0] for name, row in zip(values, rows, strict=True)]
    assert together == alone
    for (name, value), row, ids in zip(values.items(), rows, together, strict=True):
        inputs = [[*asker.lead(value), *row]]
        expected = decode(base.model, base.tokenizer, inputs, value, Decoding(max_new_tokens=6), 2)
        assert [ids] == expected, name


def llama() -> tuple[Any, Asker]:
    base = base_of(tiny("llama"), byte_tokenizer())
    return base, asker_for(base)


def test_a_row_that_nobody_waits_for_frees_its_slot_at_the_next_step() -> None:
    base, asker = llama()
    with Engine(base, EngineLimits(rows=1, length=64)) as engine:
        one = served("none", asker, EMPTY, True)
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        job = WriteJob(one, (5, 6, 7), Sampling(50), events.put)
        engine.submit(job)
        events.get(timeout=60)
        job.cancel()
        assert answer(ask(engine, one, [8, 9], 2))[1].finish == "length"
        ids, done = answer(events)
    assert done.finish == "cancelled"
    assert len(ids) < 50


def test_a_cancelled_job_that_waits_never_runs() -> None:
    base, asker = llama()
    with Engine(base, EngineLimits(rows=1, length=64)) as engine:
        one = served("none", asker, EMPTY, True)
        first = ask(engine, one, [5, 6, 7], 20)
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        job = WriteJob(one, (5, 6, 7), Sampling(20), events.put)
        engine.submit(job)
        job.cancel()
        assert answer(first)[1].finish in ("length", "stop")
        assert answer(events) == ([], Done("cancelled"))


def test_a_full_queue_refuses_and_takes_all_of_a_request_or_nothing() -> None:
    base, asker = llama()
    with Engine(base, EngineLimits(rows=1, length=64, queue=2)) as engine:
        one = served("none", asker, EMPTY, True)
        gate = threading.Event()
        engine.call(gate.wait)
        jobs = [WriteJob(one, (5, 6, 7), Sampling(2), lambda event: None) for _ in range(3)]
        with pytest.raises(QueueFullError):
            engine.submit(*jobs)
        engine.submit(*jobs[:2])
        with pytest.raises(QueueFullError):
            engine.submit(jobs[2])
        gate.set()


def test_a_row_longer_than_a_slot_is_refused_with_its_length() -> None:
    base, asker = llama()
    with Engine(base, EngineLimits(rows=1, length=16)) as engine:
        one = served("none", asker, EMPTY, True)
        with pytest.raises(SettingsError, match="longer than the server takes") as refusal:
            ask(engine, one, [5] * 10, 7)
        assert answer(ask(engine, one, [5] * 10, 6))[1].finish in ("length", "stop")
    assert "10 in the prompt" in str(refusal.value)


def test_models_take_turns_when_slots_are_few() -> None:
    """One model asks ten times before another asks once: the other's row is the next to have a slot."""
    base, asker = llama()
    order: list[str] = []
    with Engine(base, EngineLimits(rows=2, length=64)) as engine:
        busy, rare = (served(name, asker, EMPTY, True) for name in ("busy", "rare"))
        gate, left = threading.Event(), threading.Semaphore(0)

        def note(name: str) -> Any:
            def emit(event: Any) -> None:
                if isinstance(event, Done):
                    order.append(name)
                    left.release()

            return emit

        engine.call(gate.wait)
        for one in [busy] * 10 + [rare]:
            engine.submit(WriteJob(one, (5, 6, 7), Sampling(4, min_tokens=4), note(one.name)))
        gate.set()
        for _ in range(11):
            assert left.acquire(timeout=60)
    assert "rare" in order[:2]


def test_a_seed_gives_the_same_answer_in_any_company() -> None:
    base, asker = llama()
    with Engine(base, EngineLimits(rows=4, length=64)) as engine:
        one = served("none", asker, EMPTY, True)
        drawn = {"temperature": 1.0, "top_p": 0.95, "top_k": 50}
        alone = answer(ask(engine, one, [5, 6, 7], 8, seed=3, **drawn))[0]
        company = [ask(engine, one, [5, 6, 7], 8, seed=seed, **drawn) for seed in (1, 3, 2)]
        answers = [answer(events)[0] for events in company]
    assert answers[1] == alone
    assert len({tuple(ids) for ids in answers}) == 3


def test_penalties_and_least_lengths_are_those_of_generate() -> None:
    base, asker = llama()
    row = sample_ids(1, 9).tolist()[0]
    decoding = Decoding(max_new_tokens=10, repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=5)
    expected = decode(base.model, base.tokenizer, [row], EMPTY, decoding, 2)
    with Engine(base, EngineLimits(rows=2, length=64)) as engine:
        one = served("none", asker, EMPTY, True)
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        engine.submit(WriteJob(one, tuple(row), sampling_of(decoding, 10), events.put))
        assert [answer(events)[0]] == expected


def test_soft_slots_stand_inside_a_row() -> None:
    base, asker = llama()
    value = Foreword(slots=torch.randn(3, 32, generator=torch.Generator().manual_seed(4)))
    row = [5, -1, 6, -3, -2, 9, 10]
    expected = decode(base.model, base.tokenizer, [row], value, Decoding(max_new_tokens=6), 2)
    with Engine(base, EngineLimits(rows=2, length=64, step_tokens=3)) as engine:
        plain = ask(engine, served("none", asker, EMPTY, True), [5, 7, 8])
        assert [answer(ask(engine, served("slots", asker, value, True), row))[0]] == expected
        answer(plain)


def test_a_long_prompt_is_read_in_parts_while_other_rows_write_on() -> None:
    base, asker = llama()
    running = Running(base.model, 2, 128, 8, EngineStats())
    one = served("none", asker, EMPTY, True)
    events: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue(), queue.SimpleQueue()]
    running.join(WriteJob(one, (5, 6, 7), Sampling(40, min_tokens=40), events[0].put))
    running.step()
    running.join(WriteJob(one, tuple(range(10, 60)), Sampling(2), events[1].put))
    for step in range(8):
        assert events[0].qsize() == step + 1
        assert events[1].qsize() == 0
        running.step()
    # 7 tokens of the prompt a step beside the row that writes: 50 are read in eight.
    assert events[1].qsize() == 1


def test_rows_move_together_when_one_leaves() -> None:
    base, asker = llama()
    running = Running(base.model, 4, 64, 64, EngineStats())
    one = served("none", asker, EMPTY, True)
    for count in (2, 6, 6):
        running.join(WriteJob(one, (5, 6, 7), Sampling(count, min_tokens=count), lambda event: None))
    while len(running.rows) == 3:
        running.step()
    assert sorted(row.slot for row in running.rows) == [0, 1]


def test_other_threads_use_the_base_while_rows_are_written() -> None:
    base, asker = llama()
    value = writer_for("prefix", base.model).write().detach()
    row = sample_ids(1, 9).tolist()[0]
    expected = decode(base.model, base.tokenizer, [row], value, Decoding(max_new_tokens=4), 2)
    with Engine(base, EngineLimits(rows=4, length=120)) as engine:
        one = served("lora", asker, lora(base.model, 1), True)
        alone = answer(ask(engine, one, [5, 6, 7], 60, min_tokens=60))[0]
        writing = [ask(engine, one, [5, 6, 7], 60, min_tokens=60) for _ in range(3)]
        for _ in range(8):
            assert decode(base.model, base.tokenizer, [row], value, Decoding(max_new_tokens=4), 2) == expected
        assert [answer(events)[0] for events in writing] == [alone] * 3


def test_a_base_in_half_precision_writes_too() -> None:
    base = base_of(tiny("llama").bfloat16(), byte_tokenizer())
    asker = asker_for(base)
    values = forewords(base.model)
    with Engine(base, EngineLimits(rows=8, length=48, step_tokens=8)) as engine:
        ready = [served(name, asker, value.to(dtype=torch.float32), True) for name, value in values.items()]
        for events in [ask(engine, one, [5, 6, 7, 8], 6, min_tokens=6) for one in ready]:
            assert len(answer(events)[0]) == 6


def test_a_stored_text_is_read_once_and_answers_as_the_text_in_front() -> None:
    base, asker = llama()
    text = served("text", asker, Foreword(text="say it: "), True)
    assert (text.prefix, text.lead) == (8, ())
    short = served("short", asker, Foreword(text="s"), True)
    assert (short.prefix, short.lead) == (0, tuple(base.tokenizer("s")["input_ids"]))


def test_keys_and_values_of_a_foreword_are_stored_once_for_all_its_rows() -> None:
    base, asker = llama()
    value = writer_for("prefix", base.model).write().detach()
    with Engine(base, EngineLimits(rows=8, length=64)) as engine:
        one = served("one", asker, value, True)
        for events in [ask(engine, one, [5, 6, 7, row], 4) for row in range(8, 16)]:
            answer(events)
        assert engine.running is not None
        assert engine.running.prefixes.layer(0)[0].shape[0] == 1


def test_a_stopped_engine_finishes_what_runs_and_takes_nothing_more() -> None:
    base, asker = llama()
    engine = Engine(base, EngineLimits(rows=1, length=64))
    one = served("none", asker, EMPTY, True)
    events = [ask(engine, one, [5, 6, 7], 8) for _ in range(3)]
    engine.stop(finish=True)
    assert all(answer(each)[1].finish in ("length", "stop") for each in events)
    with pytest.raises(StoppedError):
        ask(engine, one, [5, 6, 7])


def test_an_error_in_a_step_ends_its_rows_and_not_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    base, asker = llama()
    with Engine(base, EngineLimits(rows=2, length=64)) as engine:
        one = served("none", asker, EMPTY, True)
        assert engine.running is not None
        with monkeypatch.context() as patched:

            def fail(*args: Any) -> None:
                raise RuntimeError("no")

            patched.setattr(engine.running, "_logits", fail)
            with pytest.raises(RuntimeError, match="no"):
                answer(ask(engine, one, [5, 6, 7]))
        assert answer(ask(engine, one, [5, 6, 7]))[1].finish in ("length", "stop")


def test_rows_that_do_not_fit_in_memory_are_refused_at_the_start() -> None:
    base, _ = llama()
    with pytest.raises(ResourceError, match="not enough memory") as refusal:
        Engine(base, EngineLimits(rows=10**7, length=128))
    assert "rows" in str(refusal.value.hint)


@pytest.mark.parametrize("family", ["t5", "qwen3_next", "bert"])
def test_a_base_that_cannot_write_row_by_row_says_so(family: str) -> None:
    base = base_of(tiny(family), byte_tokenizer())
    with Engine(base) as engine:
        assert not engine.writes
        with pytest.raises(UnsupportedBaseError, match="cannot write in the server"):
            ask(engine, served("none", asker_for(base), EMPTY, False), [5, 6, 7])
