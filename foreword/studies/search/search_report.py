"""What the report of a search says: the prompts, the rounds, the matrix of rows by prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from foreword.core.base.load import Base
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import figure_text, heading, named, render
from foreword.evaluation.statistics.power import minimum_detectable_difference
from foreword.messages import Message, say, say_if_known
from foreword.runs.prepare.prepare import plain_settings
from foreword.runs.train.result import versions
from foreword.settings.schema import TrainRequest
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.successive_halving import Standing, UnfitError
from foreword.studies.search.held_out import Gain, Pool
from foreword.studies.search.rounds import Played
from foreword.studies.search.search_result import SearchResult
from foreword.studies.search.settings import SearchSettings

START = "your prompt"
"""What the user's own prompt is called."""
COLUMNS = 8
"""Prompts side by side in the matrix, at most."""


def contents(
    judge: PromptScorer,
    pool: Pool,
    settings: SearchSettings,
    played: Played,
    found: Gain,
    systems: Mapping[str, Any],
    request: TrainRequest,
) -> dict[str, Any]:
    """The report as a dictionary (see evaluation/report/sections.py), with ``prompts`` and ``matrix`` beside."""
    base, task = judge.prepared.base, judge.task
    prompts = [_prompt(judge, place) for place in _ordered(played)]
    side = [place for place in played.finalists if place.score is not None][:COLUMNS]
    start = played.places.get(START)
    if start is not None and start.whole and start not in side:
        side = [*side[: COLUMNS - 1], start]
    answers = {place.variant.name: judge.answer(place.variant, pool.search) for place in side}
    lock = judge.prepared.lock.to_json(ids=False)
    return {
        "title": Message("Prompts on {b}", b=base.id.rsplit("/", 1)[-1]),
        "verdict": found.sentence(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "warnings": _warnings(pool, played, task.metric),
        "systems": dict(systems),
        "tables": [
            _best(prompts, played.champion.name, found),
            _rounds(played, task.metric),
            _prompt_table(prompts, task.metric, len(pool.search)),
            _texts(prompts),
            *_classes(answers, task.labels),
        ],
        "rows": _matrix(answers),
        "prompts": prompts,
        "matrix": _matrix(answers),
        "search": settings.to_json(),
        "data": {
            name: {"rows": len(table), "file": table.name, "digest": lock[name]["ids_digest"]}
            for name, table in judge.prepared.tables.items()
        }
        | {
            "search rows": len(pool.search),
            "held rows": len(pool.held),
            "held rows' ids": [pool.rows[i].id for i in pool.held],
        },
        "base": _base(base),
        "task": plain_settings(replace(task, guidance="").to_json()),
        "settings": plain_settings(request.settings.to_json()),
        "versions": versions(),
    }


def _base(base: Base) -> dict[str, Any]:
    facts = {"id": base.id, "architecture": base.architecture, "kind": base.kind}
    return {**facts, **base.precision(), **base.fingerprint}


def _ordered(played: Played) -> list[Standing]:
    rest = [place for place in played.places.values() if not (place.whole and place.score is not None)]
    return [*played.finalists, *sorted(rest, key=lambda place: -place.rows)]


def _prompt(judge: PromptScorer, place: Standing) -> dict[str, Any]:
    variant, score = place.variant, place.score
    try:
        tokens: int | None = judge.tokens(variant)
        task = variant.asked(judge.task, judge.shown)
    except UnfitError:
        tokens, task = None, variant.asked(judge.task, judge.shown)
    return {
        **variant.to_json(),
        "text": task.guidance,
        "rows": place.rows,
        "whole": place.whole,
        "metric": None if score is None else plain(judge.task.metric, score.metric),
        "loss": None if score is None else score.loss,
        "tokens": tokens,
        "refused": place.refused,
    }


def plain(metric: str, score: float) -> float:
    """A score, in which higher is better, as the metric's own figure."""
    return score if get_metric(metric).better == "higher" else -score


def _warnings(pool: Pool, played: Played, metric: str) -> list[str]:
    out: list[str] = []
    if played.ended != "every round was played":
        out.append(Message("The search ended early: {why}.", why=played.ended))
    if get_metric(metric).form == "proportion":
        least = minimum_detectable_difference(len(pool.held))
        if least > 0.08:
            out.append(
                Message(
                    "{n} held rows can only show differences above about {m} points (when the two prompts disagree on "
                    "a fifth of the rows); a larger --rows shows smaller ones.",
                    n=len(pool.held),
                    m=f"{100 * least:.0f}",
                )
            )
    if pool.borrowed:
        out.append(Message("dev is small: {n} training rows were scored on as well.", n=pool.borrowed))
    return out


def _prompt_table(prompts: Sequence[Mapping[str, Any]], metric: str, rows: int) -> dict[str, Any]:
    def state(one: Mapping[str, Any]) -> str:
        if one["refused"]:
            return Message("refused: {why}", why=one["refused"])
        return "" if one["whole"] else Message("stopped after {n} of {m} rows", n=one["rows"], m=rows)

    lines = [
        [
            one["name"],
            figure_text(metric, one["metric"]),
            Message("{what} (of {name})", what=one["change"], name=one["parent"]) if one["parent"] else one["change"],
            one["origin"],
            one["rows"],
            one["tokens"],
            state(one),
        ]
        for one in prompts
    ]
    note = Message(
        "These figures are from the rows that chose among the prompts: the best of many is flattered by them. "
        "The results above are from rows that the search never saw."
    )
    head = [
        "prompt",
        Message("{metric}, search rows", metric=heading(metric)),
        "what changed",
        "made by",
        "rows",
        "tokens in front",
        "",
    ]
    return {"title": "Prompts", "notes": [note], "head": head, "lines": lines, "own": [0, 2, 3, 6]}


def _best(prompts: Sequence[Mapping[str, Any]], winner: str, found: Gain) -> dict[str, Any]:
    """What the best prompt says, and whether training starts from it."""
    (one,) = (one for one in prompts if one["name"] == winner)
    note = "settings.yaml holds it: foreword train --config settings.yaml starts from it."
    if found.honest is not None and not found.found:
        note = "settings.yaml holds it, though the held rows do not show that it is better than yours."
    if found.lost:
        note = "settings.yaml holds your prompt: this one is worse on the held rows."
    lines = [["guidance", one["text"].strip()], ["template", one["template"]]]
    lines += [["label words", _words(one)]] if one["labels"] else []
    return {"title": "The best prompt", "notes": [note], "head": ["part", "text"], "lines": lines, "own": [0]}


def _words(one: Mapping[str, Any]) -> str:
    words = ", ".join(f"{label} -> {text!r}" for label, text in one["labels"].items())
    return Message("{text}, calibrated", text=words) if one["calibrate"] else words


def _texts(prompts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lines = [[one["name"], one["text"].strip(), one["template"], _words(one)] for one in prompts[: 2 * COLUMNS]]
    head = ["prompt", "guidance", "template", "label words"]
    return {"title": "What each says", "head": head, "lines": lines, "own": [0, 3]}


def _classes(answers: Mapping[str, Sequence[Prediction]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Which labels each prompt gets right; only where there are labels."""
    if not labels or not answers:
        return []
    golds: dict[str, int] = defaultdict(int)
    right: dict[tuple[str, str], int] = defaultdict(int)
    said: dict[tuple[str, str], int] = defaultdict(int)
    for name, found in answers.items():
        for one in found:
            right[name, one.gold] += one.output == one.gold
            said[name, one.output] += 1
    for one in next(iter(answers.values())):
        golds[one.gold] += 1
    lines = [
        [label, golds[label], *(_class(right[name, label], golds[label], said[name, label]) for name in answers)]
        for label in labels
    ]
    note = "Rows of each label answered right, and how often the prompt says the label at all."
    return [{"title": "By label", "notes": [note], "head": ["label", "rows", *answers], "lines": lines}]


def _class(right: int, rows: int, said: int) -> str:
    return f"{100 * right / rows:.0f}% (said {said})" if rows else f"- (said {said})"


def _rounds(played: Played, metric: str) -> dict[str, Any]:
    lines, points = [], []
    for made in played.rounds:
        before, after = (plain(metric, score) for score in (made.metric_before, made.metric_after))
        whole = sum(entrant["whole"] for entrant in made.entrants)
        lines.append(
            [made.number, made.change, made.after, figure_text(metric, before), figure_text(metric, after),
             len(made.entrants), whole]
        )  # fmt: skip
        points.append({"name": str(made.number), "value": after})
    chart = None
    if len(points) > 1:
        chart = {
            "title": Message("Best {metric} by round, search rows", metric=heading(metric)),
            "metric": metric,
            "points": points,
        }
    head = ["round", "what changed", "best", "before", "after", "new prompts", "asked every row"]
    notes = ["Each round makes new prompts from the best so far and races them on the search rows."]
    return {"title": "Rounds", "notes": notes, "chart": chart, "head": head, "lines": lines, "own": [1, 2]}


def _matrix(answers: Mapping[str, Sequence[Prediction]]) -> list[dict[str, Any]]:
    """Rows by prompts, those on which the prompts differ first, the most divided of them in front."""
    names = list(answers)
    rows: list[dict[str, Any]] = []
    for together in zip(*answers.values(), strict=True):
        first = together[0]
        outputs = {name: one.output for name, one in zip(names, together, strict=True)}
        rows.append({"id": first.id, "input": first.input, "gold": first.gold, "outputs": outputs})

    def divided(row: Mapping[str, Any]) -> tuple[int, float]:
        outputs = list(row["outputs"].values())
        right = sum(output == row["gold"] for output in outputs) / len(outputs)
        return -len(set(outputs)), abs(right - 0.5)

    return sorted(rows, key=divided)


def text_of(result: SearchResult, page: Mapping[str, Any], command: str) -> str:
    """The result on a terminal."""
    metric = result.gain["metric"]
    lines = [result.verdict, *(Message("note: {text}", text=named(text)) for text in page["warnings"]), ""]
    width = max(len(one["name"]) for one in result.prompts[:COLUMNS])
    for one in result.prompts[:COLUMNS]:
        figure = figure_text(metric, one["metric"]) if one["whole"] else say("stopped")
        lines.append(
            f"  {one['name']:<{width}}  {figure:>8}  {one['tokens'] or 0:>5} {say('tokens')}  {_short(one['text'])}"
        )
    if len(result.prompts) > COLUMNS:
        lines.append(
            Message(
                "  and {value} more in {folder}/report.html", value=len(result.prompts) - COLUMNS, folder=result.folder
            )
        )
    lines += [
        "",
        Message(
            "{heading} above: on the search rows. On {value} held rows:",
            heading=heading(metric),
            value=result.rows["held"],
        ),
    ]
    lines.append(render(result.systems).rstrip())
    lines.append(Message("train from it: {command}", command=command))
    return "\n".join(map(say_if_known, lines))


def _short(text: str, length: int = 70) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
