"""Real tasks, each learned by a prefix with its untrained start beside it: what is gained, on which rows, how long.

    python bench/tasks.py --data FOLDER [--task wnut17 ...] [--output RUNS] [--seed 1] [--json]

FOLDER holds the data sets as their READMEs name them; what is missing is said and left out. A run that was interrupted
goes on where it stopped. The untrained start is the text prompt where the model answers in words; where a head answers
it is the prefix and the head as they are drawn. The bases are all-MiniLM-L6-v2 (an encoder, 22M weights) and
SmolLM2-135M-Instruct (a decoder), from packages.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foreword import samples
from foreword.core.base import Base, load_base
from foreword.errors import DataError
from foreword.evaluation.summary import evaluate, figure_text
from foreword.methods.base import make_writer
from foreword.progress import Progress
from foreword.run import train
from foreword.run.dev import metric_names
from foreword.run.prepare import prepare
from foreword.settings import TaskOptions, TrainRequest, TrainSettings


@dataclass(frozen=True)
class Spec:
    """One run.

    Args:
        base: ``minilm`` or ``smollm2``.
        data: folder below FOLDER and files of train, dev and test; no dev file: a part of train is dev.
        limits: rows of train, dev and test, drawn with a fixed seed; None: all.
        task, settings: as in the settings file.
        figures: what the table shows.
    """

    base: str
    data: tuple[str, str, str | None, str]
    limits: tuple[int | None, int | None, int | None]
    settings: dict[str, Any]
    figures: tuple[str, ...]
    task: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)


_JSONL = ("train.jsonl", "dev.jsonl", "test.jsonl")
_RTE = ("superglue_fewshot/RTE", "train32.jsonl", "dev32.jsonl", "test.jsonl")
_TAG = {"learning_rate": 2e-2, "per_device_eval_batch_size": 64, "early_stopping_patience": 0}
_SENTIMENT = "Decide whether the sentiment of a movie review is positive or negative.\n\n"
_ENTAILMENT = "Does the premise entail the hypothesis?\n\n"
_TWO = {"target": "label", "inputs": ("premise", "hypothesis")}
SPECS: dict[str, Spec] = {
    "wnut17": Spec(
        "minilm", ("ner_wnut17", *_JSONL), (1000, 200, 800), {**_TAG, "num_train_epochs": 6},
        ("span_f1", "token_accuracy"), method={"num_virtual_tokens": 32},
    ),
    "srl": Spec(
        "minilm", ("srl_ewt_up", "dev.jsonl.gz", None, "test.jsonl.gz"), (1500, 200, 1000),
        {**_TAG, "num_train_epochs": 6}, ("span_f1", "token_accuracy"),
        method={"num_virtual_tokens": 32},
    ),
    "sst2_minilm": Spec(
        "minilm", ("sst2", *_JSONL), (2000, 200, 800), {"learning_rate": 1e-2, "num_train_epochs": 3},
        ("accuracy", "macro_f1"), {"head": True, "guidance": _SENTIMENT, "template": "{{ text }}"},
    ),
    "rte_minilm": Spec(
        "minilm", _RTE, (None, None, None), {"learning_rate": 1e-2, "num_train_epochs": 20, "eval_steps": 8},
        ("accuracy", "macro_f1"), {"head": True, "guidance": _ENTAILMENT, **_TWO},
    ),
    "sst2_smollm2": Spec(
        "smollm2", ("sst2", *_JSONL), (400, 100, 300), {"learning_rate": 2e-2, "num_train_epochs": 3},
        ("accuracy", "macro_f1"), {"guidance": _SENTIMENT, "template": "Review: {{ text }}\nSentiment:"},
    ),
    "rte_smollm2": Spec(
        "smollm2", _RTE, (None, None, None), {"learning_rate": 1e-2, "num_train_epochs": 8},
        ("accuracy", "macro_f1"),
        {"guidance": _ENTAILMENT, **_TWO, "labels": {"entailment": "yes", "not_entailment": "no"},
         "template": "Premise: {{ premise }}\nHypothesis: {{ hypothesis }}\nAnswer:"},
    ),
    "taskmaster": Spec(
        "smollm2", ("dialog_en_taskmaster4", "train.tsv", "dev.tsv", "test.tsv"), (400, 50, 60),
        {"learning_rate": 2e-2, "num_train_epochs": 2}, ("perplexity", "chrf", "bleu"),
        {"guidance": "Answer as the other speaker in a conversation about food orders.\n\n", "metric": "perplexity",
         "template": "Customer: {{ source }}\nAnswer:", "max_new_tokens": 40},
    ),
    "story": Spec(
        "smollm2", ("", "", None, ""), (240, 40, 40), {"learning_rate": 2e-2, "num_train_epochs": 2},
        ("perplexity", "chrf", "rouge_l"),
        {"guidance": "Continue the news story.\n\n", "metric": "perplexity", "template": "{{ prompt }}",
         "max_new_tokens": 40},
    ),
    "zh_hotel": Spec(
        "smollm2", ("zh_chnsenticorp_htl", *_JSONL), (300, 60, 200), {"learning_rate": 2e-2, "num_train_epochs": 3},
        ("accuracy", "macro_f1"),
        {"guidance": "判断酒店评论是好评还是差评。\n\n", "template": "评论：{{ text }}\n标签：",
         "labels": {"positive": "好评", "negative": "差评"}},
    ),
}  # fmt: skip
_SHORT_REVIEW = 60


class Missing(Exception):
    """Data that a task needs and that is not there."""


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file or a file of dialogue pairs."""
    if not path.exists():
        raise Missing(str(path))
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    for line in filter(None, text.split("\n")):
        yield (
            dict(zip(("source", "reply"), line.split("\t"), strict=True)) if path.suffix == ".tsv" else json.loads(line)
        )


def stories() -> dict[str, list[dict[str, Any]]]:
    """The beginnings (25 words) of Reuters stories, with the next 25 words to write."""
    found = {}
    for name, path in zip(("train", "test"), samples.reuters_r8(), strict=True):
        with path.open(encoding="utf-8", newline="") as stream:
            texts = [row["text"].split() for row in csv.DictReader(stream)]
        found[name] = [
            {"prompt": " ".join(words[:25]), "completion": " ".join(words[25:50])}
            for words in texts
            if len(words) >= 50
        ]
    return found


def splits(name: str, spec: Spec, data: Path) -> dict[str, list[dict[str, Any]]]:
    """Train, dev and test: the same rows at every call."""
    folder, *files = spec.data
    if name == "story":
        found = stories()
    else:
        found = {
            split: list(rows_of(data / folder / file))
            for split, file in zip(("train", "dev", "test"), files, strict=True)
            if file is not None
        }
    if name == "zh_hotel":
        found = {split: [r for r in rows if len(r["text"]) <= _SHORT_REVIEW] for split, rows in found.items()}
    for rows in found.values():
        random.Random(13).shuffle(rows)
    if "dev" not in found:
        size = spec.limits[1] or len(found["train"]) // 10
        found["dev"], found["train"] = found["train"][:size], found["train"][size:]
    return {split: found[split][:limit] for split, limit in zip(("train", "dev", "test"), spec.limits, strict=True)}


def scaled(spec: Spec, share: float) -> Spec:
    """The same with a share of the rows."""
    if share >= 1:
        return spec
    train, dev, test = (None if limit is None else max(8, round(share * limit)) for limit in spec.limits)
    return replace(spec, limits=(train, dev, test))


def request_for(name: str, spec: Spec, base: Base, data: Path, output: Path, seed: int) -> TrainRequest:
    """The task as any user would ask for it."""
    rows = splits(name, spec, data)
    wanted = tuple(figure for figure in spec.figures if figure != spec.task.get("metric"))
    return TrainRequest(
        data=rows["train"], dev=rows["dev"], test=rows["test"], base=base, output_dir=output, skip_bad=True,
        method_settings=spec.method, settings=TrainSettings(seed=seed, **spec.settings),
        task_options=TaskOptions(**{**spec.task, "metrics": wanted}), resume=(output / "run.json").exists(),
    )  # fmt: skip


def untrained(request: TrainRequest) -> dict[str, Any]:
    """The figures of the start, where a head answers and no prompt could."""
    prepared = prepare(request)
    value = make_writer(prepared.method, prepared.start).write().detach()
    answers = prepared.asker.answer(value, prepared.examples["test"])
    task = prepared.task
    return evaluate(answers, task.kind, metric_names(task, request.task_options.metrics), task.labels)


def run(name: str, asked: argparse.Namespace, bases: dict[str, Base], progress: Progress) -> dict[str, Any]:
    """One line of the table."""
    began, seed = time.monotonic(), asked.seed
    spec = scaled(SPECS[name], asked.share)
    if spec.base not in bases:
        bases[spec.base] = load_base(getattr(samples, spec.base)(progress), progress=progress)
    request = request_for(name, spec, bases[spec.base], asked.data, asked.output / f"{name}-{seed}", seed)
    result = train(replace(request, progress=progress))
    systems = result.systems
    if "prompt" not in systems:
        systems = {"start": untrained(request), **systems}
    figures = {
        system: {key: {part: found["metrics"][key][part] for part in ("value", "low", "high")} for key in spec.figures}
        for system, found in systems.items()
    }
    return {
        "task": name, "base": spec.base, "rows": result.rows, "values": result.num_values, "bytes": result.bytes,
        "outcome": result.outcome, "figures": figures, "difference": result.difference, "seed": seed,
        "seconds": round(time.monotonic() - began), "alarms": result.alarms, "settings": spec.settings,
    }  # fmt: skip


def render(results: Sequence[dict[str, Any]], missing: Sequence[str]) -> str:
    """The table for people."""
    lines = []
    for one in results:
        rows = "/".join(str(one["rows"][name]) for name in ("train", "dev", "test"))
        lines.append(f"{one['task']} on {one['base']}: {rows} rows, {one['values']:,} values, {one['seconds']} s")
        for system, figures in one["figures"].items():
            cells = [f"{key} {_cell(key, figure)}" for key, figure in figures.items()]
            lines.append(f"  {system:<9} {', '.join(cells)}")
    return "\n".join([*lines, *(f"missing, left out: {what}" for what in missing)])


def _cell(key: str, figure: dict[str, Any]) -> str:
    low, high = (figure_text(key, figure[end]) for end in ("low", "high"))
    return f"{figure_text(key, figure['value'])} [{low}, {high}]"


def main() -> None:
    """Run what is asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SPECS, action="append")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("bench/results/tasks"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each split, for a slow machine")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results, missing, bases = [], [], {}
    with Progress() as progress:
        for name in arguments.task or SPECS:
            try:
                results.append(run(name, arguments, bases, progress))
            except (Missing, DataError) as problem:
                missing.append(f"{name}: {problem}")
    shown = {"results": results, "missing": missing}
    print(json.dumps(shown, indent=1, ensure_ascii=False) if arguments.json else render(results, missing))
    sys.exit(0 if results else 1)


if __name__ == "__main__":
    main()
