"""Is a learned prefix as good as LoRA or full fine-tuning, and better than the prompt? Same rows, epochs and seeds.

    python bench/quality.py --task sst2 --data FOLDER --base MODEL [--seeds 3] [--json]

FOLDER holds ``sst2/{train,dev,test}.jsonl`` (text, label) or ``e2e_nlg/{train,dev,test}.jsonl[.gz]`` (mr, ref or refs).
Each method has its own learning-rate sweep on dev with the first seed; the other seeds use the rate that won. Every
trial keeps its checkpoint below ``--output``: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foreword.core.inject.value import Foreword
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.evaluation.statistics.repeated_seeds import paired_difference_of_runs
from foreword.methods.base import Start, make, make_writer
from foreword.progress import Progress
from foreword.runs.prepare.prepare import Prepared, prepare
from foreword.runs.train.dev_score import DevScore
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.training.loop import Evaluated, Step, Trial
from foreword.training.lr_search import search

TASKS: dict[str, dict[str, Any]] = {
    "sst2": {
        "folder": "sst2", "train": 512, "dev": 200, "test": 1000, "metric": "accuracy", "report": "accuracy",
        "options": {
            "template": "Review: {{ text }}\nSentiment:", "inputs": ("text",), "target": "label",
            "guidance": "Decide whether the sentiment of a movie review is positive or negative.\n\n",
        },
    },
    "e2e": {
        "folder": "e2e_nlg", "train": 500, "dev": 100, "test": 100, "metric": "perplexity", "report": "bleu_e2e",
        "options": {
            "template": "{{ mr }}\nText:", "inputs": ("mr",), "target": "ref", "max_new_tokens": 70,
            "guidance": "Write one or two sentences that describe the restaurant with these attributes.\n\n",
        },
    },
}  # fmt: skip


def rows_of(folder: Path, name: str, limit: int) -> list[dict[str, Any]]:
    """A seeded sample of a split; the first reference is the target where a row has several."""
    path = next((p for p in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz") if p.exists()), None)
    if path is None:
        sys.exit(f"missing: {folder / name}.jsonl (see the README of the data folder for where to get it)")
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    random.Random(13).shuffle(rows)
    return [{("ref" if k == "refs" else k): v for k, v in row.items()} for row in rows[:limit]]


def prepared_for(task: str, data: Path, base: str, output: Path, epochs: float) -> Prepared:
    """The task's rows on the base, checked like any user's."""
    spec = TASKS[task]
    splits = {name: rows_of(data / spec["folder"], name, spec[name]) for name in ("train", "dev", "test")}
    request = TrainRequest(
        data=splits["train"], dev=splits["dev"], test=splits["test"], base=base, output_dir=output, skip_bad=True,
        settings=TrainSettings(num_train_epochs=epochs, seed=1, early_stopping_patience=0),
        task_options=TaskOptions(metric=spec["metric"], **spec["options"]),
    )  # fmt: skip
    return prepare(request)


def trials(prepared: Prepared, method: str, seed: int) -> Callable[[float], Trial]:
    """How to make a trial of ``method``, given a learning rate."""
    asker, text = prepared.asker, prepared.task.guidance
    settings = replace(prepared.request.settings, seed=seed)
    start = Start(asker.model, text, asker.lead(Foreword(text=text)), None, seed)

    def build(rate: float) -> Trial:
        writer = make_writer(make(method), start)
        with torch.no_grad():
            objective = asker.objective(writer.write())
        dev = DevScore(asker, prepared.examples["dev"])
        return Trial(asker.model, writer, objective, prepared.examples["train"], settings, rate, dev)

    return build


def run_method(
    prepared: Prepared, method: str, seeds: Sequence[int], rates: Sequence[float], output: Path, progress: Progress
) -> dict[str, Any]:
    """Sweep with the first seed, then the others at its rate; test answers of each seed's best checkpoint."""
    done = output / f"{method}.json"
    if done.exists():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    facts: dict[str, Any] = {"method": method, "seeds": [], "seconds": 0.0}
    for seed in seeds:
        began = time.monotonic()

        def told(trial: Trial, event: Step | Evaluated, seed: int = seed) -> None:
            if isinstance(event, Evaluated):
                score = f"{event.score.metric:.3f} loss {event.score.loss:.4f}"
                progress(f"{method} seed {seed}", event.step, trial.total, learning_rate=trial.learning_rate, dev=score)

        found = search(rates, trials(prepared, method, seed), output / method / str(seed), told)
        assert found.trial is not None
        trial = found.trial
        best = trial.best()
        seconds = time.monotonic() - began
        answers = prepared.asker.answer(best, prepared.examples["test"])
        write_jsonl(output / f"{method}-{seed}.jsonl", answers)
        tried = [(o.learning_rate, o.steps, o.score.loss if o.score else None) for o in found.results]
        facts["seeds"].append(
            {
                "seed": seed,
                "learning_rate": trial.learning_rate,
                "best_step": trial.progress.best_step,
                "seconds": seconds,
                "sweep": [{"learning_rate": rate, "steps": steps, "loss": loss} for rate, steps, loss in tried],
            }
        )
        facts["values"] = sum(p.numel() for p in trial.parameters)
        rates = (trial.learning_rate,)
    done.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


def main() -> None:
    """Run what is not there yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument(
        "--methods", default="prefix,lora", help="by their names: prefix,lora,full; the sweep is the method's own"
    )
    parser.add_argument("--sweep", type=int, default=4, help="how many learning rates each method tries")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    output = arguments.output or Path("bench/results") / arguments.task
    output.mkdir(parents=True, exist_ok=True)
    prepared = prepared_for(arguments.task, arguments.data, arguments.base, output, arguments.epochs)
    seeds = list(range(1, arguments.seeds + 1))
    with Progress() as progress:
        prompt = output / "prompt.jsonl"
        if not prompt.exists():
            write_jsonl(prompt, prepared.asker.answer(Foreword(text=prepared.task.guidance), prepared.examples["test"]))
        facts = {
            m: run_method(prepared, m, seeds, make(m).learning_rates[: arguments.sweep], output, progress)
            for m in arguments.methods.split(",")
        }
    result = table(arguments.task, output, facts, seeds)
    print(json.dumps(result, indent=1) if arguments.json else render(result))


def table(task: str, output: Path, facts: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Means over seeds on test, and every paired difference with its interval."""
    metric = get_metric(TASKS[task]["report"])
    runs: dict[str, list[list[Prediction]]] = {"prompt": [read_jsonl(output / "prompt.jsonl")]}
    runs |= {method: [read_jsonl(output / f"{method}-{seed}.jsonl") for seed in seeds] for method in facts}
    references = [p.accepted for p in runs["prompt"][0]]
    outputs = {name: [[p.output for p in run] for run in found] for name, found in runs.items()}
    scores = {name: [metric.corpus(run, references) for run in found] for name, found in outputs.items()}
    names = list(outputs)
    pairs = [(a, b) for i, b in enumerate(names) for a in names[i + 1 :]]
    differences = {
        f"{a} - {b}": paired_difference_of_runs(metric, outputs[a], outputs[b], references).to_json() for a, b in pairs
    }
    return {
        "task": task,
        "metric": metric.name,
        "rows": len(references),
        "scores": scores,
        "differences": differences,
        "methods": facts,
    }


def render(result: dict[str, Any]) -> str:
    """The table for people."""
    lines = [f"{result['task']}: {result['metric']} on {result['rows']} test rows"]
    for name, scores in result["scores"].items():
        facts = result["methods"].get(name, {})
        rates = {s["learning_rate"] for s in facts.get("seeds", [])}
        mean = sum(scores) / len(scores)
        more = f"  {facts['values']:>9,} values, rate {rates.pop():g}" if rates else ""
        lines.append(f"  {name:<8}{mean:8.4f}  ({', '.join(f'{s:.4f}' for s in scores)}){more}")
    for name, found in result["differences"].items():
        interval = found["interval"]
        lines.append(f"  {name:<16}{found['estimate']:+8.4f}  [{interval['low']:+.4f}, {interval['high']:+.4f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
