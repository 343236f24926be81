"""How fast and in how much memory a prefix trains, beside PEFT's prefix tuning, LoRA and full fine-tuning.

    python bench/train_speed.py [--base MODEL] [--rows 96] [--rounds 5] [--task sst2|e2e --data FOLDER]
                                [--dtype best|float32|bfloat16] [--kinds random,grouped] [--json]

Every method trains on the same batches of 16 rows (Reuters R8, rows of at most 50 words) in one process, in turns: one
batch each, round by round, so that whatever else the machine does hits all alike. Ratios are medians over batches of
the time of the same batch. Each method runs in the precision in which its step is the fastest, the base in float32 or
in bfloat16 (what is learned stays in float32, but for full fine-tuning), or all in the same one. PEFT's prefix tuning
is trained by a plain loop and by transformers' Trainer. Two kinds of batches: drawn at random, as Trainer draws them by
default (``prefix_vs_peft``), and grouped by length, as this project's own loop does (``prefix_vs_peft_grouped``). Peak
memory is that of a process of its own for each method, above the loaded weights, on 4 rows of 300 words.

With ``--task`` the batches are of SST-2 sentences (labels as words) or E2E meaning representations and references
(completions); FOLDER is that of ``bench/quality.py``.

The floor is arithmetic: a step needs one pass forward over the weights that are not embeddings and one backward through
the activations, 4 operations a weight and token (padding not counted), at the matrix-product rate that this machine
shows in the same run, in the precision of this project's step.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from quality import rows_of as records
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from foreword import samples
from foreword.core.base.load import load_base
from foreword.core.passes.flops import matrix_rate, operations
from foreword.data.quality.row_sampling import TrainingRows
from foreword.data.tokens.examples import Example, batches
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.training.loop import Score, Trial
from foreword.training.objective import Choose, Complete

P, BATCH = 20, 16
PRECISIONS = ("float32", "bfloat16")
METHODS = ("foreword prefix", "PEFT prefix", "PEFT prefix, Trainer", "LoRA", "full")
Step = Callable[[list[Example]], None]


def rows_of(tokenizer: Any, count: int, least: int, most: int) -> tuple[list[Example], Choose]:
    """``count`` rows of R8's training file with at least ``least`` words, cut after ``most``."""
    names = {"acq": " acquisition", "crude": " oil", "earn": " earnings", "grain": " grain", "interest": " interest",
             "money-fx": " currency", "ship": " shipping", "trade": " trade"}  # fmt: skip
    choices = tuple(tuple(tokenizer(w, add_special_tokens=False)["input_ids"]) for w in names.values())
    with samples.reuters_r8()[0].open(encoding="utf-8", newline="") as file:
        lengths = ((row, len(row["text"].split())) for row in csv.DictReader(file))
        # Short rows as they are, long ones cut: lengths that differ as in real data, or all alike.
        found = [row for row, n in lengths if n >= least and (n <= most or least == most)][:count]
    examples = []
    for number, row in enumerate(found):
        text = " ".join(row["text"].split()[:most])
        ids = tuple(tokenizer(f"Text: {text}\nTopic:", add_special_tokens=False)["input_ids"])
        examples.append(Example(str(number), ids, (), list(names).index(row["label"]), row["label"]))
    return examples, Choose(choices, int(tokenizer.pad_token_id or 0))


def task_rows(tokenizer: Any, task: str, folder: Path, count: int) -> tuple[list[Example], Choose | Complete]:
    """The first ``count`` training rows of SST-2 or E2E, as token ids."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    fill = int(tokenizer.pad_token_id or 0)
    found = records(folder / ("sst2" if task == "sst2" else "e2e_nlg"), "train", count)
    if task == "sst2":
        labels = sorted({str(row["label"]) for row in found})
        texts = [ids(f"Review: {row['text']}\nSentiment:") for row in found]
        golds = [labels.index(str(row["label"])) for row in found]
        rows = [Example(str(i), t, (), g, labels[g]) for i, (t, g) in enumerate(zip(texts, golds, strict=True))]
        return rows, Choose((ids(" negative"), ids(" positive")), fill)
    end = (int(tokenizer.eos_token_id),)
    answers = [row["ref"] if isinstance(row["ref"], str) else row["ref"][0] for row in found]
    pairs = [(ids(f"Data: {row['mr']}\nText:"), ids(f" {a}") + end) for row, a in zip(found, answers, strict=True)]
    return [Example(str(i), given, wanted, -1, "") for i, (given, wanted) in enumerate(pairs)], Complete(fill)


def drawn(examples: list[Example]) -> list[list[Example]]:
    """Batches drawn at random, as HF Trainer draws them by default."""
    order = list(range(len(examples)))
    random.Random(13).shuffle(order)
    return [[examples[i] for i in order[k : k + BATCH]] for k in range(0, len(order), BATCH)]


def ours(model: PreTrainedModel, objective: Choose | Complete, checkpoint: bool = False) -> Step:
    """One optimizer step of the project's own loop."""
    writer = make_writer(make("prefix", {"num_virtual_tokens": P, "init": "random"}), Start(model))
    settings = TrainSettings(
        per_device_train_batch_size=BATCH,
        warmup_ratio=0.0,
        lr_scheduler_type="constant",
        max_steps=10_000,
        num_train_epochs=10_000,
        gradient_checkpointing=checkpoint,
        early_stopping_patience=0,
        eval_steps=10_000,
    )
    trial = Trial(model, writer, objective, [], settings, 5e-3, lambda value: Score(0.0, 0.0))
    trial.total, trial.steps_per_epoch = 10_000, 1

    def step(rows: list[Example]) -> None:
        trial.rows, trial.course = rows, TrainingRows(rows)
        next(trial.run(trial.progress.step + 1))

    return step


def padded(rows: list[Example], objective: Choose | Complete) -> dict[str, Tensor]:
    """A batch as transformers' models take it: ids, mask and labels, -100 but at the answers."""
    chosen = objective.choices if isinstance(objective, Choose) else ()
    full = [(*row.input_ids, *(row.target_ids or chosen[row.gold])) for row in rows]
    ids = torch.full((len(rows), max(map(len, full))), objective.fill)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (row, whole) in enumerate(zip(rows, full, strict=True)):
        ids[i, : len(whole)] = torch.tensor(whole)
        mask[i, : len(whole)] = 1
        labels[i, len(row.input_ids) : len(whole)] = torch.tensor(whole[len(row.input_ids) :])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def theirs(model: PreTrainedModel, objective: Choose | Complete, kind: str) -> Step:
    """One step as a user of PEFT writes it: labels at the answer, the model's own loss, AdamW."""
    if kind == "full":
        wrapped: Any = model.requires_grad_(True)
    elif kind == "LoRA":
        wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"))
    else:
        wrapped = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P))
    wrapped.train()
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=5e-3)

    def step(rows: list[Example]) -> None:
        wrapped(**padded(rows, objective)).loss.backward()
        torch.nn.utils.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class _Feed:
    """A data loader that is given its batches one by one and knows when each was learned."""

    def __init__(self) -> None:
        self.given: queue.Queue[dict[str, Tensor]] = queue.Queue()
        self.learned: queue.Queue[None] = queue.Queue()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield self.given.get()
            # Asked for the next one: the step is over.
            self.learned.put(None)


def theirs_in_trainer(model: PreTrainedModel, objective: Choose | Complete) -> Step:
    """PEFT's prefix as most people train it: in transformers' Trainer, here in a thread that waits between steps."""
    wrapped = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P))
    arguments = TrainingArguments(
        tempfile.mkdtemp(), max_steps=10**6, learning_rate=5e-3, lr_scheduler_type="constant", report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer, feed = Trainer(model=wrapped, args=arguments, train_dataset=[{}]), _Feed()
    trainer.get_train_dataloader = lambda: feed
    threading.Thread(target=trainer.train, daemon=True).start()

    def step(rows: list[Example]) -> None:
        feed.given.put(padded(rows, objective))
        feed.learned.get()

    return step


def make_step(method: str, model: PreTrainedModel, objective: Choose | Complete) -> Step:
    """The training step of a method; it may change the model."""
    if method.startswith("foreword"):
        return ours(model, objective, "checkpointing" in method)
    if method.endswith("Trainer"):
        return theirs_in_trainer(model, objective)
    return theirs(model, objective, method)


def peak_memory(method: str, base: str, words: int, dtype: str) -> int:
    """Peak bytes above the loaded weights of a process that makes two steps of ``method``."""
    command = [sys.executable, __file__, "--base", base, "--memory-of", method, "--words", str(words), "--dtype", dtype]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(method: str, base: str, words: int, dtype: str) -> None:
    """What a process started by :func:`peak_memory` does (Linux: the peak is reset after loading)."""
    loaded = load_base(base, device="cpu", dtype=dtype)
    examples, objective = rows_of(loaded.tokenizer, 4, words, words)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step = make_step(method, loaded.model, objective)
    for _ in range(2):
        step(examples)
    print(_status("VmHWM") - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def measure(given: argparse.Namespace, base: str) -> dict[str, Any]:
    """Times of every method on every batch, in turns, for both kinds of batches."""
    loaded = load_base(base, device="cpu")
    examples: list[Example]
    objective: Choose | Complete
    if given.task is not None:
        examples, objective = task_rows(loaded.tokenizer, given.task, given.data, given.rows)
    else:
        examples, objective = rows_of(loaded.tokenizer, given.rows, 5, 50)
    kinds = {
        "random": drawn(examples),
        "grouped": [[examples[i] for i in batch] for batch in batches(examples, BATCH, seed=13, epoch=0)],
    }
    kinds = {kind: kinds[kind] for kind in given.kinds.split(",")}
    steps: dict[str, Step] = {}
    chosen: dict[str, str] = {}
    for method in METHODS:
        chosen[method], steps[method] = fastest(method, base, objective, next(iter(kinds.values()))[0], given.dtype)
    times: dict[str, dict[str, list[float]]] = {k: {m: [] for m in METHODS} for k in kinds}
    tokens: dict[str, list[int]] = {k: [] for k in kinds}
    precision = getattr(torch, chosen[METHODS[0]])
    rates = [matrix_rate(dtype=precision)]
    for _ in range(given.rounds):
        for kind, order in kinds.items():
            for rows in order:
                for method, step in steps.items():
                    times[kind][method].append(seconds_of(step, rows))
                tokens[kind].append(sum(len(r.input_ids) + len(r.target_ids) for r in rows))
        rates.append(matrix_rate(dtype=precision))
    return {"precision": chosen, **summary(times, tokens, operations(loaded.model, 1), max(rates))}


def seconds_of(step: Step, rows: list[Example]) -> float:
    """How long a step takes."""
    began = time.perf_counter()
    step(rows)
    return time.perf_counter() - began


def fastest(method: str, base: str, objective: Choose | Complete, rows: list[Example], wanted: str) -> tuple[str, Step]:
    """The precision in which a step of ``method`` is the fastest (of three, the first not counted), and the step."""
    names = PRECISIONS if wanted == "best" else (wanted,)
    steps: dict[str, Step] = {}
    for name in names:
        steps[name] = make_step(method, load_base(base, device="cpu", dtype=name).model, objective)
    times = {name: min([seconds_of(step, rows) for _ in range(3)][1:]) for name, step in steps.items()}
    best = min(times, key=times.__getitem__)
    return best, steps[best]


def summary(
    times: dict[str, dict[str, list[float]]], tokens: dict[str, list[int]], per_token: float, rate: float
) -> dict[str, Any]:
    """Ratios of the same batches, and the share of the arithmetic floor."""
    result: dict[str, Any] = {"matrix_gflops": rate / 1e9, "batches": len(next(iter(tokens.values())))}
    for kind, found in times.items():
        mine = found[METHODS[0]]
        name = "" if kind == "random" else f"_{kind}"
        for method, key in (
            ("PEFT prefix", "peft"),
            ("PEFT prefix, Trainer", "peft_trainer"),
            ("LoRA", "lora"),
            ("full", "full"),
        ):
            result[f"prefix_vs_{key}{name}"] = statistics.median(
                t / o for t, o in zip(found[method], mine, strict=True)
            )
        floor = [per_token * count / rate for count in tokens[kind]]
        result[f"share_of_floor{name}"] = statistics.median(f / o for f, o in zip(floor, mine, strict=True))
        result[f"examples_per_second{name}"] = {m: BATCH / statistics.median(t) for m, t in found.items()}
        result[f"tokens_per_row{name}"] = statistics.mean(tokens[kind]) / BATCH
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", choices=("sst2", "e2e"))
    parser.add_argument("--data", type=Path, help="the folder with the task's files")
    parser.add_argument("--dtype", choices=("best", *PRECISIONS), default="best")
    parser.add_argument("--kinds", default="random,grouped", help="of batches")
    parser.add_argument("--words", type=int, default=300, help="words a row where memory is measured")
    parser.add_argument("--memory-of", choices=[*METHODS, "foreword prefix, checkpointing"], help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    base = arguments.base or str(samples.smollm2())
    if arguments.memory_of:
        measure_memory(arguments.memory_of, base, arguments.words, arguments.dtype)
        return
    if (arguments.task is None) != (arguments.data is None):
        parser.error("--task and --data go together")
    result = measure(arguments, base)
    precision = result["precision"]
    memory = {
        m: peak_memory(m, base, arguments.words, precision[m.partition(",")[0]])
        for m in ("foreword prefix", "foreword prefix, checkpointing", "PEFT prefix")
    }
    result["peak_memory_mib"] = {m: round(b / 2**20) for m, b in memory.items()}
    result["memory_vs_peft"] = memory["foreword prefix"] / memory["PEFT prefix"]
    result["memory_vs_peft_checkpointing"] = memory["foreword prefix, checkpointing"] / memory["PEFT prefix"]
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for kind in ("", "_grouped"):
        for method, speed in result.get(f"examples_per_second{kind}", {}).items():
            print(f"{method + kind.replace('_', ', '):<32}{speed:7.2f} examples/s in {precision[method]}")
    for key, value in result.items():
        if isinstance(value, float):
            print(f"{key:<32}{value:7.2f}")


if __name__ == "__main__":
    main()
