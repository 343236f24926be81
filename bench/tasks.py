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
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foreword import samples
from foreword.core.base.load import Base, load_base
from foreword.errors import DataError
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import compare, evaluate, figure_text
from foreword.methods.base import make_writer
from foreword.progress import Progress
from foreword.runs.prepare.prepare import prepare
from foreword.runs.series import Member, member
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings


@dataclass(frozen=True)
class Spec:
    """One run.

    Args:
        base: ``minilm`` or ``smollm2``.
        data: folder below FOLDER and files of train, dev and test; no dev file: a part of train is dev.
        limits: rows of train, dev and test, drawn with a fixed seed; None: all.
        task, settings: as in the settings file.
        figures: what the table shows.
        folds: runs that divide the test rows between them, each learning from the others' too; 0: one run.
    """

    base: str
    data: tuple[str, str, str | None, str]
    limits: tuple[int | None, int | None, int | None]
    settings: dict[str, Any]
    figures: tuple[str, ...]
    task: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    folds: int = 0


_JSONL = ("train.jsonl", "dev.jsonl", "test.jsonl")
_RTE = ("superglue_fewshot/RTE", "train32.jsonl", "dev32.jsonl", "test.jsonl")
_TAG = {"learning_rate": 2e-2, "per_device_eval_batch_size": 64, "early_stopping_patience": 0}
_SENTIMENT = "Decide whether the sentiment of a movie review is positive or negative.\n\n"
_ENTAILMENT = "Does the premise entail the hypothesis?\n\n"
_TWO = {"target": "label", "inputs": ("premise", "hypothesis")}
SPECS: dict[str, Spec] = {
    "wnut17": Spec(
        "minilm", ("ner_wnut17", *_JSONL), (None, None, None), {**_TAG, "num_train_epochs": 4},
        ("span_f1", "token_accuracy"), method={"num_virtual_tokens": 32},
    ),
    "srl": Spec(
        "minilm", ("srl_ewt_up", "dev.jsonl.gz", None, "test.jsonl.gz"), (2500, 300, 2000),
        {**_TAG, "num_train_epochs": 4}, ("span_f1", "token_accuracy"),
        method={"num_virtual_tokens": 32},
    ),
    "sst2_minilm": Spec(
        "minilm", ("sst2", *_JSONL), (None, None, None), {"learning_rate": 1e-2, "num_train_epochs": 3},
        ("accuracy", "macro_f1"), {"head": True, "guidance": _SENTIMENT, "template": "{{ text }}"},
    ),
    "rte_minilm": Spec(
        "minilm", _RTE, (None, None, None), {"learning_rate": 1e-2, "num_train_epochs": 5},
        ("accuracy", "macro_f1"),
        {"head": True, "guidance": _ENTAILMENT, **_TWO, "template": "{{ premise }} [SEP] {{ hypothesis }}"}, folds=5,
    ),
    "sst2_smollm2": Spec(
        "smollm2", ("sst2", *_JSONL), (400, 100, 300), {"learning_rate": 2e-2, "num_train_epochs": 3},
        ("accuracy", "macro_f1"), {"guidance": _SENTIMENT, "template": "Review: {{ text }}\nSentiment:"},
    ),
    "rte_smollm2": Spec(
        "smollm2", _RTE, (None, None, None), {"learning_rate": 1e-2, "num_train_epochs": 2},
        ("accuracy", "macro_f1"),
        {"guidance": _ENTAILMENT, **_TWO, "labels": {"entailment": "yes", "not_entailment": "no"},
         "template": "Premise: {{ premise }}\nHypothesis: {{ hypothesis }}\nAnswer:"},
        folds=2,
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
        "smollm2", ("zh_chnsenticorp_htl", *_JSONL), (240, 80, 240),
        {"learning_rate": 2e-2, "num_train_epochs": 3, "sampling": "balanced"}, ("accuracy", "macro_f1"),
        {"guidance": "判断酒店评论是好评还是差评。\n\n", "template": "评论：{{ text }}\n评价：",
         "labels": {"positive": "好", "negative": "差"}, "metric": "macro_f1"},
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


def splits(name: str, spec: Spec, data: Path, share: float = 1.0) -> dict[str, list[dict[str, Any]]]:
    """Train, dev and test, or a share of each: the same rows at every call."""
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
    for split, limit in zip(("train", "dev", "test"), spec.limits, strict=True):
        kept = found[split][:limit]
        found[split] = kept if share >= 1 else kept[: max(8, round(share * len(kept)))]
    return found


def folded(found: dict[str, list[dict[str, Any]]], fold: int, folds: int) -> dict[str, list[dict[str, Any]]]:
    """One part of cross-validation over the test rows: a part is tested, every other labelled row is learned from."""
    test = found["test"]
    rest = [row for number, row in enumerate(test) if number % folds != fold]
    return {"train": found["train"] + rest, "dev": found["dev"], "test": test[fold::folds]}


def request_for(
    spec: Spec, rows: dict[str, list[dict[str, Any]]], base: Base, output: Path, asked: argparse.Namespace
) -> TrainRequest:
    """The task as any user would ask for it; another method than the prefix tries its own rates."""
    wanted = tuple(figure for figure in spec.figures if figure != spec.task.get("metric"))
    settings, method = dict(spec.settings), dict(spec.method)
    if asked.method != "prefix":
        settings.pop("learning_rate", None)
        method = {}
    return TrainRequest(
        data=rows["train"], dev=rows["dev"], test=rows["test"], base=base, output_dir=output, skip_bad=True,
        method=asked.method, method_settings=method, settings=TrainSettings(seed=asked.seed, **settings),
        task_options=TaskOptions(**{**spec.task, "metrics": wanted}),
    )  # fmt: skip


def start_of(request: TrainRequest, one: Member) -> tuple[str, list[Prediction]]:
    """What stands beside the foreword, and its answers: the text prompt; where a head answers and no prompt could, the
    values as they are drawn."""
    if one.prompt is not None:
        return "prompt", one.prompt
    if not request.task_options.head and not one.learned:
        return "prompt", one.answers
    prepared = prepare(request)
    value = make_writer(prepared.method, prepared.start).write().detach()
    return "start", prepared.asker.answer(value, prepared.examples["test"])


def run(name: str, asked: argparse.Namespace, bases: dict[str, Base], progress: Progress) -> dict[str, Any]:
    """One line of the table."""
    spec = SPECS[name]
    found = splits(name, spec, asked.data, asked.share)
    if spec.base not in bases:
        bases[spec.base] = load_base(getattr(samples, spec.base)(progress), progress=progress)
    parts, answers, beside = [], defaultdict[str, list[Prediction]](list), "prompt"
    for fold in range(spec.folds or 1):
        rows = folded(found, fold, spec.folds) if spec.folds else found
        label = "-".join([name, *([asked.method] if asked.method != "prefix" else []), str(asked.seed)])
        folder = asked.output / (f"{label}-{fold}" if spec.folds else label)
        request = request_for(spec, rows, bases[spec.base], folder, asked)
        parts.append(member(request, name, progress))
        beside, first = start_of(request, parts[-1])
        for system, some in ((beside, first), ("foreword", parts[-1].answers)):
            answers[system] += [replace(one, id=f"{fold}/{one.id}") for one in some]
    return {"task": name, "base": spec.base, "method": asked.method, "seed": asked.seed, **facts(spec, parts, answers)}


def facts(spec: Spec, parts: Sequence[Member], answers: dict[str, list[Prediction]]) -> dict[str, Any]:
    """The figures of some runs over all of their test rows."""
    reports = [one.report for one in parts]
    kind, metric = reports[0]["task"]["kind"], reports[0]["training"]["metric"]
    labels = tuple(reports[0]["task"]["verbalizer"])
    shown = {system: evaluate(some, kind, spec.figures, labels) for system, some in answers.items()}
    beside = next(system for system in answers if system != "foreword")
    rows = {name: sum(one["data"][name]["rows"] for one in reports) for name in ("train", "dev", "test")}
    return {
        "rows": {**{name: rows[name] // len(parts) for name in ("train", "dev")}, "test": rows["test"]},
        "folds": spec.folds, "metric": metric, "values": reports[0]["file"]["values"],
        "outcomes": [one["file"]["outcome"] for one in reports],
        "learning_rates": [one["training"].get("learning_rate") for one in reports],
        "constant": shown["foreword"]["baseline"] if kind == "classification" else None,
        "figures": {
            system: {key: {end: one["metrics"][key][end] for end in ("value", "low", "high")} for key in spec.figures}
            for system, one in shown.items()
        },
        "difference": compare(answers["foreword"], answers[beside], metric).to_json(),
        "seconds": round(sum(one["training"]["seconds"] for one in reports)),
        "warnings": [warning for one in reports for warning in one["warnings"]],
        "settings": reports[0]["settings"],
    }  # fmt: skip


def render(results: Sequence[dict[str, Any]], missing: Sequence[str]) -> str:
    """The table for people."""
    lines = []
    for one in results:
        rows = "/".join(str(one["rows"][name]) for name in ("train", "dev", "test"))
        runs = f", {one['folds']} runs that test each row once" if one["folds"] else ""
        lines.append(f"{one['task']} on {one['base']}, {one['method']}: {rows} rows{runs}, {one['values']:,} values")
        for system, figures in one["figures"].items():
            cells = [f"{key} {_cell(key, figure)}" for key, figure in figures.items()]
            lines.append(f"  {system:<9} {', '.join(cells)}")
        if one["constant"]:
            lines.append(f"  always {one['constant']['output']}: accuracy {100 * one['constant']['share']:.1f}")
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
    parser.add_argument("--method", default="prefix", help="another one tries its own learning rates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each split, for a slow machine")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results, missing = [], []
    bases: dict[str, Any] = {}
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
