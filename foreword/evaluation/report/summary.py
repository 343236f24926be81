"""A run's predictions as figures with intervals: a plain dict for report.json, and a table for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foreword.errors import DataError, SettingsError
from foreword.evaluation.metrics.label_f1 import label_report
from foreword.evaluation.metrics.metric_registry import DEFAULT_METRICS, Metric, classification_report, get_metric
from foreword.evaluation.metrics.spans import all_alike, span_report
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction, groups_of
from foreword.evaluation.report.text_table import text_table
from foreword.evaluation.statistics.differences import Difference, paired_difference
from foreword.evaluation.statistics.intervals import Sampling, score_interval
from foreword.messages import Message, known_ids, say, say_if_known


def evaluate(
    predictions: Sequence[Prediction],
    kind: str,
    metrics: Sequence[str] = (),
    labels: Sequence[str] = (),
    *,
    level: float = 0.95,
    n: int = 2000,
    seed: int = 13,
) -> dict[str, Any]:
    """Every figure of one system on one set of rows.

    Args:
        predictions: answers with their golds.
        kind: ``classification``, ``multilabel``, ``generation`` or ``tagging``.
        metrics: names; empty means the defaults of the kind (and perplexity when the rows carry it).
        labels: the task's classes in order (classification); more classes may occur.
        level, n, seed: of the intervals.

    Returns ``{"kind", "rows", "metrics": {name: {value, low, high, level, rows, method, better}},
    "baseline": {output, share, metrics} (the most frequent gold label, and what always saying it reaches),
    "constant": whether all outputs are equal,
    "tokens": .., "ms": .., "report": per class or label, or type of span (tagging)}``. ``low`` and ``high`` are None
    where there is no interval (distinct-n, a single row).

    Raises DataError when there is no row or a row has no gold, SettingsError for an unknown metric.
    """
    _require_golds(predictions, kind)
    written = kind == "generation" and _has_likelihood(predictions)
    names = list(metrics) or [*DEFAULT_METRICS[kind], *(["perplexity"] if written else [])]
    figures = {name: _figure(get_metric(name), predictions, level, n, seed) for name in names}
    outputs = [prediction.output for prediction in predictions]
    result: dict[str, Any] = {
        "kind": kind,
        "rows": len(predictions),
        "metrics": figures,
        "constant": len(predictions) > 1 and list(figures) != ["perplexity"] and same_answers(outputs, kind),
        "tokens": sum(prediction.tokens for prediction in predictions),
        "ms": round(sum(p.ms for p in predictions if math.isfinite(p.ms)), 3),
    }
    golds = [prediction.gold for prediction in predictions]
    if kind == "multilabel":
        result["baseline"] = _baseline(predictions, names)
        result["report"] = label_report(outputs, golds, labels)
    if kind == "classification":
        result["baseline"] = _baseline(predictions, names)
        result["report"] = classification_report(outputs, golds, labels or sorted(set(golds)))
    if kind == "tagging":
        result["report"] = span_report(outputs, golds)
    return result


def _require_golds(predictions: Sequence[Prediction], kind: str) -> None:
    if not predictions:
        raise DataError("there are no rows to evaluate", hint="give a file with at least one row")
    for prediction in predictions:
        if kind != "generation" and not prediction.gold:
            raise DataError(
                "a row has no gold label, so nothing can be measured",
                where=prediction.id,
                hint="use `foreword predict` for rows without labels",
            )


def _baseline(predictions: Sequence[Prediction], metrics: Sequence[str]) -> dict[str, Any]:
    """What always giving the most frequent gold label reaches."""
    label, count = Counter(prediction.gold for prediction in predictions).most_common(1)[0]
    alike = [replace(prediction, output=label) for prediction in predictions]
    values = {name: get_metric(name).corpus(*_columns(get_metric(name), alike)) for name in metrics}
    return {"output": label, "share": count / len(predictions), "metrics": values}


def same_answers(outputs: Sequence[str], kind: str) -> bool:
    """Whether every answer is the same: the one label, the one text, or the one tag for every word."""
    return all_alike(outputs) if kind == "tagging" else len(set(outputs)) == 1


def _has_likelihood(predictions: Sequence[Prediction]) -> bool:
    return all(GOLD_NLL in p.scores and GOLD_TOKENS in p.scores for p in predictions)


def _columns(metric: Metric, predictions: Sequence[Prediction]) -> tuple[list[Any], list[Any]]:
    """What the metric takes as outputs and references."""
    if metric.name != "perplexity":
        return [p.output for p in predictions], [p.accepted for p in predictions]
    if not _has_likelihood(predictions):
        raise SettingsError(
            "perplexity needs the likelihood of the gold texts",
            expected=Message(
                "{GOLD_NLL} and {GOLD_TOKENS} in each prediction's scores", GOLD_NLL=GOLD_NLL, GOLD_TOKENS=GOLD_TOKENS
            ),
        )
    return [p.scores[GOLD_NLL] for p in predictions], [p.scores[GOLD_TOKENS] for p in predictions]


def _figure(metric: Metric, predictions: Sequence[Prediction], level: float, n: int, seed: int) -> dict[str, Any]:
    outputs, references = _columns(metric, predictions)
    value = metric.corpus(outputs, references)
    low = high = method = None
    enough = len(predictions) > 1 or metric.form == "proportion"
    if metric.sums is not None and enough and math.isfinite(value):
        interval = score_interval(outputs, references, metric, n, seed, level, _groups_if_several(predictions))
        low, high, method = interval.low, interval.high, interval.method
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": level,
        "rows": len(predictions),
        "method": method,
        "better": metric.better,
    }


def manifest_metrics(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures as a foreword file's manifest holds them: name -> value, low, high, level, rows."""
    keep = ("value", "low", "high", "level", "rows")
    return {name: {key: figure[key] for key in keep} for name, figure in summary["metrics"].items()}


def compare(
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    metric: str,
    *,
    n: int = 10_000,
    seed: int = 13,
    level: float = 0.95,
) -> Difference:
    """System a minus system b, rows matched by id. Raises DataError when the ids are not the same."""
    other = {prediction.id: prediction for prediction in b}
    ids = [prediction.id for prediction in a]
    if len(other) != len(b) or len(set(ids)) != len(ids) or set(ids) != other.keys():
        missing = len(set(ids) ^ other.keys())
        raise DataError(
            "the two files hold answers to different rows",
            expected=Message("{n} rows with the same ids", n=len(a)),
            received=f"{len(b)} rows, {missing} ids in only one of them",
            hint="predict both on the same data file",
        )
    chosen = get_metric(metric)
    outputs, references = _columns(chosen, a)
    others, same = _columns(chosen, [other[name] for name in ids])
    if references != same:
        raise DataError("the two files disagree about the right answers", hint="predict both on the same data file")
    sampling = Sampling(level, _groups_if_several(a), seed)
    return paired_difference(chosen, outputs, others, references, n, sampling)


def _groups_if_several(predictions: Sequence[Prediction]) -> list[str] | None:
    """The groups of rows; None where there are none, or too few to say what chance does."""
    groups = groups_of(predictions)
    return groups if groups is not None and len(set(groups)) > 1 else None


def figure_text(metric: str, value: float | None, signed: bool = False) -> str:
    """A figure for people: percent for metrics up to 1, two decimals otherwise, a dash for None."""
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    sign = "+" if signed else ""
    if metric != "perplexity" and get_metric(metric).top == 1:
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.2f}"


def heading(metric: str) -> Message:
    """The metric's title with the unit that :func:`figure_text` shows it in: ``Accuracy (%)``, ``BLEU``."""
    found = get_metric(metric)
    return Message(f"{found.title} (%)" if found.top == 1 and metric != "perplexity" else found.title)


def amount(metric: str, value: float, signed: bool = True) -> Message:
    """A difference for people: ``+4.1 points``, ``+1.25 BLEU``."""
    text = figure_text(metric, value, signed)
    if heading(metric).endswith("(%)"):
        return Message("{n} points", n=text)
    return Message("{n} {metric}", n=text, metric=Message(get_metric(metric).title))


def interval_text(metric: str, low: float, high: float, level: float | None = None, signed: bool = True) -> Message:
    """The ends of an interval in words: ``95% interval +1.2 to +7.0``; without a level ``+1.2 to +7.0``."""
    ends = {"low": figure_text(metric, low, signed), "high": figure_text(metric, high, signed)}
    if level is None:
        return Message("{low} to {high}", **ends)
    return Message("{level} interval {low} to {high}", level=f"{100 * level:g}%", **ends)


def figure_cell(metric: str, figure: Mapping[str, Any] | None, signed: bool = False) -> str:
    """A figure (``value``, ``low``, ``high``) in a cell of a table: ``81.5 [76.0, 86.2]``."""
    if figure is None:
        return "-"
    text = figure_text(metric, figure["value"], signed)
    if figure.get("low") is None or figure.get("high") is None:
        return text
    return f"{text} [{figure_text(metric, figure['low'], signed)}, {figure_text(metric, figure['high'], signed)}]"


def chance(p_value: float) -> str:
    """A p-value for people."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def render(summaries: Mapping[str, Mapping[str, Any]], difference: Difference | None = None) -> str:
    """A plain table: one line a metric, one column a system (name -> :func:`evaluate`'s result), and one for the answer
    that is right most often; the difference in a sentence and how it was tested in a footnote."""
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary["metrics"]))
    constant = constant_answer(summaries)
    lines = [["", *map(say_if_known, summaries), *([say(always(constant["output"]))] if constant else [])]]
    for name in names:
        cells = [figure_cell(name, summary["metrics"].get(name)) for summary in summaries.values()]
        cells += [figure_text(name, constant["metrics"].get(name))] if constant else []
        lines.append([say(heading(name)), *cells])
    text = "".join(f"{line}\n" for line in text_table(lines))
    text += "".join(f"{say(note)}\n" for name, summary in summaries.items() for note in _notes(name, summary))
    return text + (f"{say(sentence(difference))}\n{say(footnote(difference.to_json()))}\n" if difference else "")


def constant_answer(summaries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """``{output, share, metrics}`` of the answer that is right most often, where all systems answered the same rows."""
    found = [summary.get("baseline") for summary in summaries.values()]
    same = len(found) > 0 and all(one is not None and one == found[0] for one in found)
    return found[0] if same and found[0] is not None and "metrics" in found[0] else None


def always(label: str) -> Message:
    """What a table calls the system that gives one answer to every row."""
    return Message("always {label}", label=label)


def _notes(name: str, summary: Mapping[str, Any]) -> list[str]:
    if not summary.get("constant"):
        return []
    return [Message("warning: {name} gives the same answer to every row", name=named(name))]


def sentence(difference: Difference, a: str = "the foreword", b: str = "the prompt") -> Message:
    """The difference in one sentence, without judging more than the interval allows."""
    return difference_sentence(difference, named(a), named(b), facts_of_rows(difference))


def facts_of_rows(difference: Difference) -> Message:
    """What stands in brackets behind a difference: its interval, and how many rows it rests on."""
    name, interval = difference.metric, difference.interval
    ends = interval_text(name, interval.low, interval.high, interval.level)
    return Message("{interval}, paired, {n} rows", interval=ends, n=difference.rows)


TESTS = {
    "mcnemar-mid-p": Message("McNemar's test, mid-p"),
    "approximate-randomisation": Message("approximate randomisation"),
    "rows-and-seeds": Message("rows and seeds as chance"),
}


def footnote(difference: Mapping[str, Any]) -> Message:
    """How a difference was tested: below the figures, because the interval says all that its sentence needs.

    Args:
        difference: as :meth:`Difference.to_json` gives it.
    """
    name, interval, test = difference["metric"], difference["interval"], difference["test"]
    return Message(
        "Paired difference in {metric}: {n} ({interval}, {way}; {test}, {chance}; {m} rows).",
        metric=heading(name),
        n=figure_text(name, difference["estimate"], True),
        interval=interval_text(name, interval["low"], interval["high"], interval["level"]),
        way=interval["method"],
        test=TESTS.get(test, test),
        chance=chance(difference["p_value"]) if difference["p_value"] is not None else "-",
        m=difference["rows"],
    )


def named(text: str) -> str:
    """A system's name as a message where the catalogues have it."""
    return Message(text) if not isinstance(text, Message) and text in known_ids() else text


def difference_sentence(difference: Difference, a: str, b: str, facts: str) -> Message:
    """What a paired difference shows, in the words that every verdict uses: better, worse, or cannot be told."""
    name = difference.metric
    title = Message(get_metric(name).title)
    parts = {"a": a, "b": b, "metric": title, "gain": signed_points(name, difference.estimate), "facts": facts}
    if not difference.decided:
        return Message("{a} cannot be told from {b}: {metric} {gain} ({facts})", **parts)
    if (difference.estimate > 0) == (get_metric(name).better == "higher"):
        return Message("{a} is better than {b}: {metric} {gain} ({facts})", **parts)
    return Message("{a} is worse than {b}: {metric} {gain} ({facts})", **parts)


def signed_points(metric: str, value: float) -> str:
    """A difference behind its metric's name: ``+4.1 points``, ``+1.25``."""
    text = figure_text(metric, value, True)
    return Message("{n} points", n=text) if heading(metric).endswith("(%)") else text
