"""A report done again: the same data, settings, plan and seeds in a new folder, and whether it agrees."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foreword.errors import FileFormatError, ResumeError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction, read_jsonl
from foreword.messages import Message
from foreword.runs.train.result import versions
from foreword.runs.train.run_record import recorded
from foreword.runs.train.train import train
from foreword.settings.budget import LEVELS
from foreword.settings.layers import from_json
from foreword.settings.schema import ProgressCall
from foreword.studies.compare.compare import compare
from foreword.studies.compare.compare_contents import answers_digest
from foreword.studies.compare.decisions import columns
from foreword.studies.compare.plan import Plan
from foreword.studies.compare.settings import CompareOptions


@dataclass(frozen=True)
class Reproduced:
    """What doing it again showed.

    Args:
        agrees: every run gives the same answers, or a score inside the interval that was reported.
        equal: every run gives the same answers.
        folder: where the new report is.
        runs: system, seed, ``answers`` (equal, within, differs), the score before and now.
        differences: what else is not as it was: versions, machine.
    """

    agrees: bool
    equal: bool
    folder: str
    runs: list[dict[str, Any]]
    differences: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def render(self) -> str:
        """For people."""
        said = "every row is answered as before" if self.equal else "within the intervals" if self.agrees else ""
        lines = [f"reproduced: {said}" if self.agrees else "NOT reproduced"]
        lines += [
            f"  {run['system']}{'' if run['seed'] is None else ' seed ' + str(run['seed'])}: "
            f"{run['before']:.4f} before, {run['now']:.4f} now ({run['answers']})"
            for run in self.runs
            if run["answers"] != "equal"
        ]
        return "\n".join(
            [
                *lines,
                *(Message("note: {text}", text=one) for one in self.differences),
                Message("the new report is in {folder}", folder=self.folder),
            ]
        )


def reproduce(
    report: str | Path, output_dir: str | Path | None = None, progress: ProgressCall | None = None
) -> Reproduced:
    """Do what a ``report.json`` says again.

    Args:
        report: of a comparison or of a training run.
        output_dir: a new folder; None makes one beside the report.

    Raises:
        FileFormatError: it is not such a report.
        ResumeError: its data were in memory.
        DataError, BaseError: the data or the base are not where they were.
    """
    path = Path(report)
    if path.is_dir():
        path /= "report.json"
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        comparison = isinstance(old, dict) and old.get("kind") == "comparison"
        if not comparison and not (isinstance(old, dict) and "systems" in old and "training" in old):
            raise ValueError("the keys of a report are missing")
    except (OSError, ValueError) as problem:
        raise FileFormatError(
            "not a report that can be reproduced", where=str(path), received=problem,
            hint="give the report.json of `foreword compare` or `foreword train`",
        ) from problem  # fmt: skip
    folder = Path(output_dir or tempfile.mkdtemp(prefix="reproduced-", dir=path.parent))
    runs = _comparison(path, old, folder, progress) if comparison else _training(path, old, folder, progress)
    differences = [
        f"{name} {before} before, {versions().get(name)} now"
        for name, before in old.get("versions", {}).items()
        if versions().get(name) != before
    ]
    states = {run["answers"] for run in runs}
    return Reproduced("differs" not in states, states <= {"equal"}, str(folder), runs, differences)


def _in_memory(values: Mapping[str, Any], path: Path) -> None:
    if any(str(values[name]).startswith("<") for name in ("data", "dev", "test")):
        raise ResumeError("the report's data were in memory", where=str(path), hint="do it again from Python")


def _comparison(
    path: Path, old: Mapping[str, Any], folder: Path, progress: ProgressCall | None
) -> list[dict[str, Any]]:
    saved = dict(old["request"])
    _in_memory(saved, path)
    plan = Plan.from_json(old["plan"])
    seeds = {run["seed"] for found in old["records"].values() for run in found if "seed" in run}
    plan = replace(plan, seeds=tuple(seed for seed in plan.seeds if seed in seeds))
    # What it may take was decided when it was first run.
    options = replace(
        CompareOptions.from_json(saved.pop("compare")), budget=f"{100 * LEVELS['heavy']:g}s", require=None
    )
    request = replace(from_json(saved, str(path)).request(progress), output_dir=folder)
    compare(request, options, plan)
    new = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    out = []
    for system, found in old["records"].items():
        for number, run in enumerate(found):
            again = new["records"].get(system, [])
            was = _score(old, read_jsonl(path.parent / run["predictions"]))
            if number >= len(again):
                out.append(_run(system, run.get("seed"), "differs", was, float("nan")))
                continue
            now = _score(old, read_jsonl(folder / again[number]["predictions"]))
            same = again[number]["answers"] == run["answers"]
            figure = old["systems"][system]["metrics"][old["metric"]]
            out.append(_run(system, run.get("seed"), _state(same, figure, now), was, now))
    return out


def _training(path: Path, old: Mapping[str, Any], folder: Path, progress: ProgressCall | None) -> list[dict[str, Any]]:
    saved = recorded(path.parent)["request"]
    _in_memory(saved, path)
    train(replace(from_json(saved, str(path)).request(progress), output_dir=folder))
    out, told = [], {**old, "metric": old["training"]["metric"]}
    for system, found in old["systems"].items():
        files = [place / "predictions" / f"{system}.jsonl" for place in (path.parent, folder)]
        before, after = (read_jsonl(file) for file in files)
        same = answers_digest(before) == answers_digest(after)
        was, now = _score(told, before), _score(told, after)
        out.append(_run(system, None, _state(same, found["metrics"][told["metric"]], now), was, now))
    return out


def _score(report: Mapping[str, Any], predictions: list[Prediction]) -> float:
    metric = get_metric(report["metric"])
    return metric.corpus(*columns(metric, predictions))


def _state(same: bool, figure: Mapping[str, Any], now: float) -> str:
    if same:
        return "equal"
    low, high = figure.get("low"), figure.get("high")
    return "within" if low is not None and high is not None and low <= now <= high else "differs"


def _run(system: str, seed: int | None, state: str, before: float, now: float) -> dict[str, Any]:
    return {"system": system, "seed": seed, "answers": state, "before": before, "now": now}
