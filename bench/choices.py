"""What a choice is worth: augmentation, the order of rows, the place of soft slots, guidance brought in gradually.

    python bench/choices.py --data FOLDER [--table slots ...] [--seeds 3] [--output RUNS] [--json]

FOLDER holds ``sst2/{train,dev,test}.jsonl`` (text, label). Each table has one plain run, and one run for each choice
with everything else as it was; each seed draws its own training rows. Differences to the plain run are means over
seeds with an interval over test rows. The bases are all-MiniLM-L6-v2 with a head and SmolLM2-135M-Instruct, which
answers in words. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from foreword import load, samples
from foreword.core.base.load import Base, load_base
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.evaluation.report.summary import figure_text
from foreword.evaluation.statistics.repeated_seeds import runs_table, spread_of_runs
from foreword.progress import Progress
from foreword.runs.prepare.prepare import prepare
from foreword.runs.series import Member, member
from foreword.settings.schema import ProgressCall, TaskOptions, TrainRequest, TrainSettings

Rows = list[dict[str, Any]]
Splits = dict[str, Rows]
# What a line changes: keys of ``settings``, ``task`` and ``method`` (its settings), and ``name``, the method's.
Change = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """One question.

    Args:
        base: ``minilm`` or ``smollm2``.
        rows: (all rows of SST-2 by split, seed) -> train, dev and test; dev and test are the same for every seed.
        settings, task, method: what all lines have in common.
        lines: what a line is called -> what it changes; the first is what the others are compared with.
        without: answer the test rows without the guidance as well.
    """

    base: str
    rows: Callable[[Splits, int], Splits]
    settings: dict[str, Any]
    task: dict[str, Any]
    lines: dict[str, Change]
    method: str = "prefix"
    metric: str = "accuracy"
    without: bool = False


def few(train: int, dev: int, test: int, rare: int | None = None) -> Callable[[Splits, int], Splits]:
    """So many rows of each split; with ``rare`` only so many of train's (in dev as large a share) are negative."""

    def drawn(splits: Splits, seed: int) -> Splits:
        def some(name: str, count: int, dice: random.Random) -> Rows:
            rows = dice.sample(splits[name], len(splits[name]))
            if rare is None or name == "test":
                return rows[:count]
            wanted = {"negative": round(count * rare / train)}
            wanted["positive"] = count - wanted["negative"]
            kept = [row for label in wanted for row in [r for r in rows if r["label"] == label][: wanted[label]]]
            return dice.sample(kept, len(kept))

        return {
            "train": some("train", train, random.Random(seed)),
            "dev": some("dev", dev, random.Random(13)),
            "test": some("test", test, random.Random(13)),
        }

    return drawn


_GUIDANCE = "Decide whether the sentiment of a movie review is positive or negative.\n\n"
_WORDS = {"guidance": _GUIDANCE, "template": "Review: {{ text }}\nSentiment:"}
_HEAD = {"guidance": _GUIDANCE, "template": "{{ text }}", "head": True}
SYNONYMS = (
    "film, movie, picture\ngood, fine, great\nbad, poor, awful\nfunny, amusing, comic\ndull, boring, tedious\n"
    "story, plot, tale\nactor, performer\nmoving, touching\nbig, large\nsmall, little\nvery, really\nclever, smart\n"
)
_VARIANTS = ("review: {{ text }}", "{{ text }} (a film review)", '"{{ text }}"')


def _one_token(text: str) -> Change:
    """A prefix of one virtual token: on all-MiniLM-L6-v2 the 4,608 values of 12 slots, on SmolLM2 the 11,520 of 20.

    It would stand in the guidance's place, which the slots leave alone: the guidance is part of the rows here.
    """
    method = {"name": "prefix", "num_virtual_tokens": 1, "init": "random"}
    return {"method": method, "task": {"template": "{{ guidance }}" + text}}


def _forms() -> dict[str, Change]:
    more: dict[str, dict[str, Any]] = {
        "synonyms": {"augment_synonyms": SYNONYMS},
        "template": {"augment_templates": _VARIANTS},
    }
    names = ("case", "punctuation", "dropout", "synonyms", "template")
    return {name: {"settings": {"augment": (name,), **more.get(name, {})}} for name in names}


def _orders(*names: str) -> dict[str, Change]:
    return {name: {"settings": {"sampling": name}} for name in names}


def _places(count: int, text: str) -> dict[str, Change]:
    """The same number of soft slots in front of the text, behind it, and around it."""
    front, half = f"{{{{ soft({count}) }}}}", f"{{{{ soft({count // 2}) }}}}"
    templates = {"in front": f"{front}{text}", "at the end": f"{text}{front}", "around": f"{half}{text}{half}"}
    return {name: {"task": {"template": template}} for name, template in templates.items()}


def _gradual(*methods: str) -> dict[str, Change]:
    # 1:1 keeps the guidance in every row as text, so that it can be left away afterwards.
    shares = {"always": "1:1", "more and more": "0:1", "less and less": "1:0"}
    return {
        f"{method}, {name}": {"settings": {"guidance_share": share}, "method": {"name": method}}
        for method in methods
        for name, share in shares.items()
    }


_MINILM = {"learning_rate": 1e-2, "num_train_epochs": 10, "early_stopping_patience": 0, "eval_steps": 15}
_SMOLLM2 = {"learning_rate": 2e-2, "num_train_epochs": 2, "early_stopping_patience": 0}
_ROWS: dict[str, Change] = {"plain": {}, **_orders("balanced", "length"), **_forms()}
TABLES: dict[str, Table] = {
    "few": Table("minilm", few(96, 150, 500), _MINILM, _HEAD, _ROWS),
    "skewed": Table("minilm", few(128, 150, 500, rare=16), _MINILM, _HEAD, _ROWS, metric="macro_f1"),
    "difficulty": Table(
        "smollm2", few(128, 64, 200), _SMOLLM2, _WORDS, {"shuffle": {}, **_orders("difficulty", "length")}
    ),
    "slots": Table(
        "minilm", few(300, 150, 500), {**_MINILM, "num_train_epochs": 4}, _HEAD,
        {**_places(12, "{{ text }}"), "prefix of as many values": _one_token("{{ text }}")},
        method="slots",
    ),
    "slots_smollm2": Table(
        "smollm2", few(300, 64, 300), {**_SMOLLM2, "num_train_epochs": 1}, _WORDS,
        {**{name: {"task": {"template": change["task"]["template"] + "\nSentiment:"}}
            for name, change in _places(20, "Review: {{ text }}").items()},
         "prefix of as many values": _one_token(_WORDS["template"]), "prefix": {"method": {"name": "prefix"}}},
        method="slots",
    ),
    "gradual": Table(
        "smollm2", few(96, 32, 100), {**_SMOLLM2, "num_train_epochs": 1, "per_device_train_batch_size": 8}, _WORDS,
        _gradual("prefix", "lora"), without=True,
    ),
}  # fmt: skip
# The prefix's rate is not LoRA's or that of slots.
_RATES = {"lora": 1e-3, "slots": 3e-2}


def request_for(table: Table, line: str, seed: int, splits: Splits, base: Base, folder: Path) -> TrainRequest:
    """One run as any user would ask for it."""
    change = table.lines[line]
    method = {"name": table.method, **change.get("method", {})}
    settings = {**table.settings, **change.get("settings", {}), "seed": seed}
    if method["name"] in _RATES:
        settings["learning_rate"] = _RATES[method["name"]]
    if "augment_synonyms" in settings:
        folder.mkdir(parents=True, exist_ok=True)
        settings["augment_synonyms"] = str(folder / "synonyms.txt")
        (folder / "synonyms.txt").write_text(SYNONYMS, encoding="utf-8")
    rows = table.rows(splits, seed)
    return TrainRequest(
        data=rows["train"], dev=rows["dev"], test=rows["test"], base=base, skip_bad=True,
        output_dir=folder / f"{line.replace(', ', '-').replace(' ', '_')}-{seed}",
        method=method.pop("name"), method_settings=method, settings=TrainSettings(**settings),
        task_options=TaskOptions(
            **{**table.task, **change.get("task", {})}, inputs=("text",), target="label", metric=table.metric
        ),
    )  # fmt: skip


def unguided(request: TrainRequest, run: Member) -> list[Prediction]:
    """The answers to the test rows without the guidance in them."""
    kept = run.folder / "predictions" / "without.jsonl"
    if not kept.exists():
        prepared = prepare(request)
        write_jsonl(kept, prepared.asker.answer(load(run.file)[0], prepared.plain["test"]))
    return read_jsonl(kept)


def measure(name: str, splits: Splits, base: Base, asked: argparse.Namespace, report: ProgressCall) -> dict[str, Any]:
    """All runs of a table, and each line beside the first."""
    table, seeds = TABLES[name], range(1, asked.seeds + 1)
    asked_for = [line for line in table.lines if line in (asked.line or table.lines)]
    runs: dict[str, list[Member]] = {}
    answers: dict[str, list[list[Prediction]]] = {}
    for line in asked_for:
        for seed in seeds:
            request = request_for(table, line, seed, splits, base, asked.output / name)
            run = member(request, f"{name}, {line}, seed {seed}", report)
            runs.setdefault(line, []).append(run)
            answers.setdefault(line, []).append(run.answers)
            if table.without:
                answers.setdefault(f"{line}; left away", []).append(unguided(request, run))
    prompt = next(iter(runs.values()))[0].prompt
    return {
        "table": name, "base": table.base, "metric": table.metric, "seeds": list(seeds),
        "rows": {split: found["rows"] for split, found in next(iter(runs.values()))[0].report["data"].items()},
        "prompt": None if prompt is None else _mean(table.metric, [prompt]),
        "lines": {line: _line(table.metric, line, answers, runs.get(line)) for line in answers},
    }  # fmt: skip


def _mean(metric: str, runs: Sequence[Sequence[Prediction]]) -> float:
    return mean(get_metric(metric).corpus(_outputs(run), _golds(run)) for run in runs)


def _line(
    metric: str, line: str, answers: dict[str, list[list[Prediction]]], runs: Sequence[Member] | None
) -> dict[str, Any]:
    first = next(iter(answers))
    found: dict[str, Any] = {"test": _mean(metric, answers[line]), "difference": None}
    if runs is not None:
        found |= {
            "dev": mean(run.report["training"]["dev"] for run in runs),
            "values": runs[0].report["file"]["values"],
            "learned": sum(run.learned for run in runs),
        }
    if line != first:
        found["difference"] = difference_of_lines(metric, answers[line], answers[first])
    return found


def difference_of_lines(
    metric: str, runs: Sequence[Sequence[Prediction]], first: Sequence[Sequence[Prediction]], level: float = 0.95
) -> dict[str, Any]:
    """Both means over seeds, the gain of ``runs`` over ``first``, for each seed too, and its interval.

    Two or three seeds say next to nothing of their own variance, and here both sides share what a seed draws: the
    interval is over other test rows, for the runs that there are.
    """
    found, a, b = get_metric(metric), [_outputs(run) for run in runs], [_outputs(run) for run in first]
    table = runs_table(found, a, b, _golds(first[0]))
    scores = found.score(table.sum(axis=1))
    spread = replace(spread_of_runs(found, table, len(a), 2000, 13), seeds=None, weights=None)
    value, before, reach = float(scores[: len(a)].mean()), float(scores[len(a) :].mean()), float(spread.reach(level))
    return {
        "value": value, "first": before, "gain": value - before, "low": float(spread.centre) - reach,
        "high": float(spread.centre) + reach, "level": level,
        "by_seed": (scores[: len(a)] - scores[len(a) :]).tolist(),
    }  # fmt: skip


def _outputs(run: Sequence[Prediction]) -> list[Any]:
    return [one.output for one in run]


def _golds(run: Sequence[Prediction]) -> list[Any]:
    return [one.accepted for one in run]


def render(results: Sequence[dict[str, Any]]) -> str:
    """The tables for people."""
    lines = []
    for one in results:
        metric, rows = one["metric"], "/".join(map(str, one["rows"].values()))
        lines.append(f"{one['table']} on {one['base']}: {metric}, {rows} rows, seeds {one['seeds']}")
        if one["prompt"] is not None:
            lines.append(f"  {'prompt':<38} test {figure_text(metric, one['prompt'])}")
        for line, found in one["lines"].items():
            dev = f"dev {figure_text(metric, found['dev']):>5}, " if "dev" in found else ""
            lines.append(f"  {line:<38} {dev}test {figure_text(metric, found['test'])}{_gain(metric, found)}")
    return "\n".join(lines)


def _gain(metric: str, found: dict[str, Any]) -> str:
    if found["difference"] is None:
        return ""
    gain, low, high = (figure_text(metric, found["difference"][key], True) for key in ("gain", "low", "high"))
    return f", {gain} [{low}, {high}]"


def sst2(data: Path) -> Splits:
    """All rows of SST-2. Raises SystemExit where they are missing."""
    found = {}
    for name in ("train", "dev", "test"):
        path = data / "sst2" / f"{name}.jsonl"
        if not path.exists():
            raise SystemExit(f"{path} is missing: give the folder that holds sst2/ with --data")
        found[name] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return found


def main() -> None:
    """Run what is asked for and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", choices=TABLES, action="append")
    parser.add_argument("--line", action="append", help="a line of the table; else all of them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench/results/choices"))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    splits, bases, results = sst2(asked.data), {}, []
    with Progress(sys.stderr) as progress:
        for name in asked.table or TABLES:
            kind = TABLES[name].base
            if kind not in bases:
                bases[kind] = load_base(getattr(samples, kind)(progress), progress=progress)
            results.append(measure(name, splits, bases[kind], asked, progress))
    print(json.dumps(results, indent=1) if asked.json else render(results))


if __name__ == "__main__":
    main()
