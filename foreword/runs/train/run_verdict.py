"""What a run came to, for its first line: whether this file is better than the prompt, or whether it learned nothing.

A foreword that is better than the prompt has not yet learned anything: where the prompt is bad, saying one label always
is better, too. So the verdict asks for no alarm in training, answers that are not all the same, and more than always
saying the label that most test rows have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from foreword.data.quality.near_duplicates import near_pairs
from foreword.data.quality.unicode import normalise
from foreword.data.task.columns import target_texts
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction, groups_of
from foreword.evaluation.report.summary import (
    amount,
    compare,
    difference_sentence,
    facts_of_rows,
    figure_text,
    interval_text,
    same_answers,
    sentence,
)
from foreword.evaluation.report.verdict_text import State, Verdict
from foreword.evaluation.statistics.differences import Difference
from foreword.evaluation.statistics.verdict import default_margin
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.train.alarms import is_grave
from foreword.runs.train.outcome import Evaluation, Outcome

SKEWED = 0.7
"""Share of the test rows with one label above which saying it always looks good by accuracy."""
FEW_ROWS = 30
"""Test rows below which a verdict says how few they are."""
THE_FOREWORD = Message("the foreword")
THE_PROMPT = Message("the prompt")


def judge(prepared: Prepared, outcome: Outcome, evaluation: Evaluation) -> Verdict:
    """The verdict on a run's outcome, by its answers on test."""
    task, answers = prepared.task, evaluation.answers
    if not prepared.method.learning_rates:
        return Verdict("measured", (Message("The text prompt was measured and saved; nothing was trained."),))
    if not outcome.learned:
        said = Message("Nothing learned beat the prompt on dev: the prompt itself was saved.")
        return Verdict("prompt_kept", (said,))
    alarms = [alarm for alarm in outcome.alarms if is_grave(alarm)]
    rows = answers.get("foreword")
    if rows is None:
        said = Message("A foreword was learned; there was no test split to compare it with the prompt on.")
        return nothing_learned(alarms[0]) if alarms else Verdict("measured", (said,))
    better = evaluation.difference is not None and gains(evaluation.difference)
    reason = alarms[0] if alarms else useless(rows, task.kind, task.metric, strict=better)
    others = other_metrics(answers, evaluation.systems, task.metric)
    if reason is not None:
        verdict = nothing_learned(reason)
        if evaluation.difference is not None:
            beside = Message("Beside the prompt alone: {said}.", said=sentence(evaluation.difference))
            verdict = replace(verdict, lines=(*verdict.lines, beside))
    elif evaluation.difference is None:
        verdict = Verdict("measured", (Message("A foreword was learned; its figures stand alone here."),))
    else:
        verdict = compared(evaluation.difference, others)
    lines = [*skew(rows, task.metric), *(fallen(others) if skewed(rows) else ())]
    lines += about_rows(prepared, rows, partial(_without, answers, task.metric))
    return replace(verdict, lines=(*verdict.lines, *lines))


def gains(difference: Difference) -> bool:
    """Whether the paired difference shows a gain, whichever direction of the metric is better."""
    return difference.decided and (difference.estimate > 0) == (get_metric(difference.metric).better == "higher")


def nothing_learned(reason: str) -> Verdict:
    """The verdict on a run that taught the model nothing."""
    return Verdict("nothing_learned", (Message("Nothing useful was learned: {reason}.", reason=reason),))


def useless(rows: Sequence[Prediction], kind: str, metric: str, strict: bool = True) -> Message | None:
    """Why answers are worth no more than one answer for all rows; None where they are.

    Args:
        strict: whether being better than the most frequent label has to be shown, not only seen.
    """
    golds = {row.gold for row in rows}
    if metric == "perplexity" and not any(row.output for row in rows):
        return None  # texts that were read and not written
    if len(rows) > 1 and len(golds) > 1 and same_answers([row.output for row in rows], kind):
        return Message("the foreword gives the same answer to every test row")
    if kind not in ("classification", "multilabel") or len(golds) < 2:
        return None
    label = Counter(row.gold for row in rows).most_common(1)[0][0]
    difference = compare(rows, [replace(row, output=label) for row in rows], metric)
    gain = difference.estimate if get_metric(metric).better == "higher" else -difference.estimate
    if gain > 0 and (gains(difference) or not strict):
        return None
    return Message(
        "the foreword is not better than always answering {label}: {metric} {a} against {b} ({facts})",
        label=label,
        metric=Message(get_metric(metric).title),
        a=figure_text(metric, difference.a),
        b=figure_text(metric, difference.b),
        facts=facts_of_rows(difference),
    )


def compared(difference: Difference, others: Sequence[Difference] = ()) -> Verdict:
    """Better, worse, equal within the margin, or not to be told: this file against the prompt on these rows."""
    metric = difference.metric
    least = default_margin(get_metric(metric))
    disagree = [other for other in others if other.decided]
    equal = difference.equivalence or difference.interval
    state: State = "better" if gains(difference) else "worse" if difference.decided else "cannot_tell"
    said = Message("{said!c}.", said=sentence(difference))
    if state == "cannot_tell" and -least < equal.low and equal.high < least and not disagree:
        state = "equal"
        facts = {"interval": interval_text(metric, equal.low, equal.high, equal.level), "n": difference.rows}
        margin = amount(metric, least, False)
        said = Message("The foreword is as good as the prompt, within {margin} ({interval}, paired, {n} rows).",
                       margin=margin, **facts)  # fmt: skip
    lines = [said]
    if state in ("better", "worse"):
        lines.append(
            Message(
                "That was shown of this foreword, on rows like these: another training of the same method may come out "
                "otherwise."
            )
        )
    lines += [_by_another(other) for other in disagree if state == "cannot_tell" or gains(other) != gains(difference)]
    return Verdict(state, tuple(lines))


def _by_another(difference: Difference) -> Message:
    said = difference_sentence(difference, THE_FOREWORD, THE_PROMPT, facts_of_rows(difference))
    return Message("By another metric {said}.", said=said)


def other_metrics(
    answers: Mapping[str, Sequence[Prediction]], systems: Mapping[str, Mapping[str, Any]], metric: str
) -> list[Difference]:
    """The foreword minus the prompt by every reported metric but the one that decides. Distinct-n and perplexity
    are left out: the one has no interval, the other is not in every answer."""
    if "prompt" not in answers or "foreword" not in answers:
        return []
    names = [name for name in systems["foreword"]["metrics"] if name not in (metric, "perplexity")]
    names = [name for name in names if get_metric(name).sums is not None and name in systems["prompt"]["metrics"]]
    return [compare(answers["foreword"], answers["prompt"], name, n=2000) for name in names]


def skewed(rows: Sequence[Prediction]) -> bool:
    """Whether one label is more than seven rows in ten."""
    return Counter(row.gold for row in rows).most_common(1)[0][1] > SKEWED * len(rows)


def skew(rows: Sequence[Prediction], metric: str, name: str = THE_FOREWORD) -> Iterator[Message]:
    """Says it where one label is most of the rows, what that makes of the answers, and what decides."""
    if get_metric(metric).kind != "classification" or not skewed(rows):
        return
    label, count = Counter(row.gold for row in rows).most_common(1)[0]
    yield Message(
        "{share} of the test rows are {label}; {name} answers it to {n} of {m}. {metric} decides.",
        name=name,
        share=f"{100 * count / len(rows):.0f}%",
        label=label,
        n=sum(row.output == label for row in rows),
        m=len(rows),
        metric=Message(get_metric(metric).title),
    )


def fallen(others: Sequence[Difference]) -> Iterator[Message]:
    """Figures that fell, whatever the one that decides did."""
    for one in others:
        if one.metric == "macro_f1" and one.estimate < 0:
            yield Message(
                "{metric} fell from {b} to {a}.",
                metric=Message(get_metric(one.metric).title),
                a=figure_text(one.metric, one.a),
                b=figure_text(one.metric, one.b),
            )


def about_rows(
    prepared: Prepared, rows: Sequence[Prediction], without: Callable[[Collection[str]], Message | None]
) -> Iterator[Message]:
    """What the rows themselves leave open: too few of them, classes that dev lacks, test rows that were learned.

    Args:
        rows: the answers of what was learned on test.
        without: ids of test rows -> what is to be said without them; None where too few are left.
    """
    if len(rows) < FEW_ROWS and prepared.task.metric == "perplexity":
        yield Message("There are only {n} test rows.", n=len(rows))
    elif len(rows) < FEW_ROWS:
        yield Message("There are only {n} test rows: one more or less right is {gain}.", n=len(rows),
                      gain=amount("accuracy", 1 / len(rows), False))  # fmt: skip
    groups = groups_of(rows)
    if groups is not None:
        yield Message("The {n} test rows make {m} groups of rows that belong together; intervals draw whole groups.",
                      n=len(rows), m=len(set(groups)))  # fmt: skip
    if prepared.task.kind == "classification":
        unasked = sorted(set(prepared.task.labels) - {row.gold for row in rows})
        if unasked:
            yield Message("No test row has the label {names}: no figure here says anything of it.", names=unasked)
        seen = {example.reference for example in prepared.examples["dev"]}
        missing = sorted({row.gold for row in rows} - seen)
        if missing:
            said = without({row.id for row in rows if row.gold in missing})
            form = "No dev row has the label {names}, so nothing was chosen for it."
            if said is not None:
                form = "No dev row has the label {names}, so nothing was chosen for it. Without its rows {said}."
            yield Message(form, names=missing, said=said)
    copies = near_copies(prepared)
    if copies:
        said = without(copies)
        form = "{n} of {m} test rows nearly repeat a row that was learned from."
        if said is not None:
            form = "{n} of {m} test rows nearly repeat a row that was learned from. Without them {said}."
        yield Message(form, n=len(copies), m=len(rows), said=said)


def _without(answers: Mapping[str, Sequence[Prediction]], metric: str, ids: Collection[str]) -> Message | None:
    """The verdict's figure without some test rows."""
    rest = {name: [row for row in rows if row.id not in ids] for name, rows in answers.items()}
    if len(rest["foreword"]) < 2:
        return None
    if "prompt" in rest:
        return sentence(compare(rest["foreword"], rest["prompt"], metric))
    chosen = get_metric(metric)
    value = chosen.corpus([row.output for row in rest["foreword"]], [row.accepted for row in rest["foreword"]])
    figures = {"value": figure_text(metric, value), "metric": Message(chosen.title)}
    return Message("the foreword reaches {value} ({metric})", **figures)


def near_copies(prepared: Prepared) -> set[str]:
    """Ids of test rows whose text is, or nearly is, that of a training row with the same answer."""
    if "test" not in prepared.tables:
        return set()
    entries: list[tuple[str, str, str, str]] = []
    for split in ("train", "test"):
        table = prepared.tables[split]
        for row in table.rows:
            text = normalise("\n".join(str(row.fields.get(name) or "").strip() for name in table.layout.inputs))
            entries.append((split, row.id, text, "\n".join(target_texts(row, prepared.task.target))))
    learned = {(text, answer) for split, _, text, answer in entries if split == "train"}
    copies = {name for split, name, text, answer in entries if split == "test" and (text, answer) in learned}
    for pair in near_pairs([entry[2] for entry in entries], [entry[0] for entry in entries]):
        first, second = entries[pair.first], entries[pair.second]
        if (first[0], second[0]) == ("train", "test") and first[3] == second[3]:
            copies.add(second[1])
    return copies & {example.id for example in prepared.examples["test"]}
