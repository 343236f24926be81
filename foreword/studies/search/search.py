"""One search, from the data to the prompt that training should start from."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from foreword.errors import Interrupted, SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import write_jsonl
from foreword.evaluation.report.summary import evaluate
from foreword.evaluation.report.write_report import write_report
from foreword.messages import Message
from foreword.methods.base import make
from foreword.runs.output_folder import in_its_folder
from foreword.runs.prepare.prepare import Prepared, prepare, say_nothing
from foreword.runs.train.dev_score import metric_names, score_of
from foreword.runs.train.run_record import record_run, to_resume
from foreword.settings.budget import Clock
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.storage import write_atomically
from foreword.studies.prompts.prompt_file import read_variants
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.variant import Variant, named
from foreword.studies.search.held_out import Gain, Pool, gain, make_pool
from foreword.studies.search.proposers import proposers, ready
from foreword.studies.search.reflective import Reflect
from foreword.studies.search.rounds import Played, Proposer, Round, Rules, play
from foreword.studies.search.search_report import START, contents, text_of
from foreword.studies.search.search_result import SearchResult
from foreword.studies.search.settings import SearchSettings
from foreword.studies.search.winner import write_winner

NAME = "search.json"
# The winner and the user's prompt are asked on the held rows, whatever the search has spent.
_KEPT_BACK = 0.15


@in_its_folder
def search(
    request: TrainRequest, settings: SearchSettings | None = None, *, reflect: Reflect | None = None
) -> SearchResult:
    """Compare prompts, search for a better one, and say honestly what it gains.

    Writes into ``request.output_dir``: ``report.json|md|html``, ``rounds.jsonl``, ``predictions/``, ``guidance.txt``
    and ``settings.yaml``, with which ``foreword train --config`` starts a prefix from the prompt that was found.

    Args:
        request: data, base and task as for training; its method and training settings are those that ``settings.yaml``
            passes on.
        settings: of the search.
        reflect: text -> text; what it writes from right and wrong answers joins the proposals (GEPA, an extra).

    Raises:
        SettingsError: a task without words, a metric without intervals, a file of variants that cannot be.
        DataError: the data is refused, or too few rows.
        ResumeError: ``request.resume`` and the folder holds another search.
        Interrupted: Ctrl-C; answers so far are kept.
    """
    settings = settings or SearchSettings()
    ready(settings, reflect)
    folder = Path(request.output_dir)
    prepared = prepare(replace(request, method="text", method_settings={}, init_from=None))
    metric = get_metric(prepared.task.metric)
    if metric.sums is None:
        raise SettingsError(
            Message("{name} has no interval to judge by", name=metric.name), where="--metric", hint="use another metric"
        )
    others = (
        [] if settings.variants is None else read_variants(settings.variants, prepared.task, prepared.tables["train"])
    )
    make(request.method, request.method_settings)  # a slip in what settings.yaml passes on shows now
    record_run(folder, replace(prepared, request=request), name=NAME, more={"search": settings.to_json()})
    try:
        return _search(request, prepared, settings, others, folder, reflect)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; every answer so far is kept",
            where=str(folder),
            hint=Message("go on with `foreword search --resume {folder}`", folder=folder),
        ) from None


def resume_search(folder: str | Path, progress: ProgressCall | None = None) -> SearchResult:
    """Go on with an interrupted search: nothing is asked or proposed twice.

    Raises:
        ResumeError: there is no search in ``folder``, its data were in memory, or they have changed.
    """
    request, asked = to_resume(folder, "search", progress, name=NAME, more="search")
    return search(request, SearchSettings(**{**asked, "operators": tuple(asked["operators"])}))


def _search(
    request: TrainRequest, prepared: Prepared, settings: SearchSettings, others: list[Variant], folder: Path,
    reflect: Reflect | None,
) -> SearchResult:  # fmt: skip
    task, tables = prepared.task, prepared.tables
    pool = make_pool(
        tables["train"].rows, tables["dev"].rows, task.target, rows=settings.rows, held=settings.held,
        seed=settings.seed,
    )  # fmt: skip
    limit = None if settings.seconds is None else settings.seconds * (1 - _KEPT_BACK)
    work = _Work(folder)
    clock = Clock(limit, work.spent())
    shown = {row.id: row for row in pool.shown}
    judge = PromptScorer(prepared, pool.rows, shown, folder / "answers", clock, settings.evaluations)
    start = Variant.of(task, START)
    report = request.progress or say_nothing

    def record(made: Round) -> None:
        work.record(made, clock.spent)
        report("search", made.number, settings.planned_rounds, **{f"best {task.metric}": made.metric_after})

    ways: list[Proposer] = proposers(judge, pool, settings, reflect) if settings.planned_rounds else []
    rules = Rules(
        judge.answer, partial(score_of, task.metric), pool.search, settings.planned_rounds, settings.width,
        settings.seed, work.keep, record, clock.allows,
    )  # fmt: skip
    played = play(start, named(others, [start.name], "variant-"), ways, rules)
    return _finish(request, judge, pool, settings, start, played, folder)


@dataclass
class _Work:
    """What a search leaves behind as it goes, so that a resumed one does nothing twice."""

    folder: Path
    rounds: list[Round] = field(default_factory=list)

    def keep(self, name: str, make: Callable[[], list[Variant]]) -> list[Variant]:
        path = self.folder / "proposals" / f"{name}.json"
        if path.exists():
            return [Variant.from_json(one) for one in json.loads(path.read_text(encoding="utf-8"))]
        made = make()
        content = json.dumps([variant.to_json() for variant in made], ensure_ascii=False, indent=1)
        write_atomically(path, [content.encode("utf-8", "backslashreplace")])
        return made

    def record(self, made: Round, spent: float) -> None:
        self.rounds.append(made)
        lines = (json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in self.rounds)
        write_atomically(self.folder / "rounds.jsonl", (line.encode("utf-8", "backslashreplace") for line in lines))
        if spent > self.spent():
            write_atomically(self.folder / "spent.json", [json.dumps({"seconds": round(spent, 3)}).encode()])

    def spent(self) -> float:
        path = self.folder / "spent.json"
        return float(json.loads(path.read_text())["seconds"]) if path.exists() else 0.0


def _path(folder: Path, part: str, name: str) -> Path:
    """Where the predictions of a prompt are, whatever the user called it."""
    return folder / "predictions" / part / (re.sub(r"[^\w.-]+", "-", name).strip(".-") + ".jsonl")


def _finish(
    request: TrainRequest, judge: PromptScorer, pool: Pool, settings: SearchSettings, start: Variant, played: Played,
    folder: Path,
) -> SearchResult:  # fmt: skip
    began, task, winner = time.monotonic(), judge.task, played.champion
    judge.clock.seconds, judge.evaluations = None, 0  # the judgement is not the search's to spend
    answers = {start.name: judge.answer(start, pool.held)}
    found = Gain(task.metric)
    if winner.name != start.name:
        answers[winner.name] = judge.answer(winner, pool.held)
        searched = [judge.answer(one, pool.search) for one in (winner, start)]
        found = gain(task.metric, (answers[winner.name], searched[0]), (answers[start.name], searched[1]))
    for name, predictions in answers.items():
        write_jsonl(_path(folder, "held", name), predictions)
    for place in played.places.values():
        if place.rows:
            rows = judge.answer(place.variant, pool.search[: place.rows])
            write_jsonl(_path(folder, "search", place.variant.name), rows)
    systems = {
        name: evaluate(rows, task.kind, metric_names(task, request.task_options.metrics), task.labels)
        for name, rows in answers.items()
    }
    chosen = start if found.lost else winner
    command = write_winner(folder, request, chosen, judge)
    page = contents(judge, pool, settings, played, found, systems, request)
    result = SearchResult(
        folder=str(folder),
        winner=winner.to_json(),
        chosen=chosen.to_json(),
        gain=found.to_json(),
        verdict=found.sentence(),
        systems=systems,
        prompts=page["prompts"],
        rounds=[made.to_json() for made in played.rounds],
        rows={"search": len(pool.search), "held": len(pool.held), "borrowed from train": pool.borrowed},
        ended=played.ended,
        evaluations=judge.asked,
        seconds=round(judge.clock.spent + time.monotonic() - began, 3),
    )
    result = replace(result, text=text_of(result, page, command))
    write_report(folder, {**page, **{k: v for k, v in result.to_json().items() if k not in page}})
    return result
