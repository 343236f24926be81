"""The verdict: what it claims, in which words, and how often it is wrong; against statsmodels and by simulation."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import simulated_studies as studies
import simulated_systems
import verdict as simulation

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import METRICS, get_metric
from foreword.evaluation.report.verdict_text import ANSWERS, beside, sentences, state_of
from foreword.evaluation.statistics.intervals import Interval, mcnemar_p, paired_proportion_interval, wilson_interval
from foreword.evaluation.statistics.power import holm
from foreword.evaluation.statistics.repeated_seeds import (
    Spread,
    paired_difference_of_runs,
    score_of_runs,
    spread_of_means,
    spread_of_scores,
)
from foreword.evaluation.statistics.run_spread import Prior, RunVariance
from foreword.evaluation.statistics.verdict import Comparison, compare_family, default_margin, planned_detectable
from foreword.messages import Message

ACCURACY = METRICS["accuracy"]
NAMES = {"prefix": Message("prefix tuning"), "lora": Message("LoRA"), "prompt": Message("your best prompt")}


def runs(rng: np.random.Generator, rows: int, *levels: float) -> list[list[str]]:
    return [["y" if hit else "n" for hit in rng.random(rows) < level] for level in levels]


def family(rows: int = 400, better: float = 0.0, seed: int = 1, **options: Any) -> list[Comparison]:
    """Prefix and LoRA (three seeds) against a prompt, by accuracy."""
    rng = np.random.default_rng(seed)
    systems = {
        "prompt": runs(rng, rows, 0.6),
        "prefix": runs(rng, rows, *[0.6 + better] * 3),
        "lora": runs(rng, rows, *[0.6 + better] * 3),
    }
    pairs = [("prefix", "prompt"), ("lora", "prompt")]
    return compare_family(ACCURACY, systems, pairs, ["y"] * rows, **options)


# --- the simulation in small


def test_the_verdict_keeps_its_promises() -> None:
    """`bench/verdict.py` with few families and conditions, its hardest among them: equal systems, a gap of the stated
    size, coverage."""
    some = [
        simulated_systems.alike(100, 0.7, 3, 0.01, "shared rows"),
        simulated_systems.alike(300, 0.9, 2, 0.03, "own rows"),
        simulated_systems.alike(300, 0.9, 1, 0.0, "mostly own"),
        simulated_systems.alike(300, 0.9, 1, 0.02, "mostly own"),
        simulated_systems.alike(100, 0.98, 5, 0.0, "independent"),
        simulated_systems.alike(1000, 0.95, 3, 0.03, "shared rows"),
        simulated_systems.alike(300, 0.98, 3, 0.03, "nearly alike"),
    ]
    result = simulation.run(0, every=some, count=100)
    assert result["family_error"] <= 0.05
    assert result["worst_family_error"] <= 0.075  # 1,000 families: chance alone adds 2 points to the worst of seven
    assert result["worst_family_error_one_method_apart"] <= 0.1
    assert len(result["table"]) == 7
    assert result["power"] >= 0.8
    assert result["coverage"] >= 0.94
    assert simulation.macro_f1(15, seed=1)["coverage"] >= 0.85


def test_studies_beside_the_comparison_keep_theirs() -> None:
    """A share of `bench/simulated_studies.py`: grouped rows, equality at the edge of the margin, a curve, folds."""
    grouped = studies.grouped_rows(100, 5)
    assert grouped["family_error"] <= 0.1 < grouped["without_groups"]
    for said in (studies.equal(300, 1000, 1, 0.0), studies.equal(300, 3000, 3, 0.01)):
        assert said["claimed"] <= 0.09  # 5%, and what chance adds with 300 families
    assert studies.equal(100, 1000, 1, 0.0)["power"] >= 0.8
    law, most = studies.LAWS[0]
    curve = studies.curve(15, law, most, 300, 0.01)
    assert curve["coverage"] >= 0.85
    assert curve["more_wrong"] <= 0.2
    folds = studies.cross_validated(40, 60, 5, 1.0, 3)
    assert folds["folds_coverage"] >= 0.85
    assert studies.rare_classes(40, *studies.RARE[2], 30)["coverage"] >= 0.88  # the bootstrap alone: 0.67


def test_a_claim_of_one_run_is_of_that_run() -> None:
    """Runs 3 points apart: one run of an equal method often is better itself. Never is that said of the method."""
    condition = simulated_systems.alike(1000, 0.9, 1, 0.03, "nearly alike")
    decided = simulated_systems.families(np.random.default_rng(1), condition, 200)
    assert (decided.claims != 0).any(axis=1).mean() > 0.3
    assert simulated_systems.false_claims(condition, decided) <= 0.02
    assert [c.claim for c in family()] == ["method", "method"]
    same = ["y"] * 40
    single = compare_family(ACCURACY, {"a": [same], "b": [same]}, [("a", "b")], same)[0]
    assert single.claim == single.to_json()["claim"] == "run"


@pytest.mark.parametrize(("seeds", "better"), [(3, 0.2), (1, 0.12), (3, 0.0)])
def test_the_simulation_decides_as_the_product_does(seeds: int, better: float) -> None:
    rng = np.random.default_rng(seeds)
    hits = {
        name: rng.random((1, count, 120)) < level
        for name, count, level in (("a", seeds, 0.6 + better), ("b", seeds, 0.6), ("c", seeds, 0.6), ("p", 1, 0.6))
    }
    trained = [hits[name].astype(float) for name in "abc"]
    low, high, decided = simulated_systems.decide(trained, hits["p"].astype(float))
    outputs = {name: [["y" if x else "n" for x in run] for run in of[0]] for name, of in hits.items()}
    found = compare_family(ACCURACY, outputs, [(name, "p") for name in "abc"], ["y"] * 120)
    assert [int(c.better) - int(c.worse) for c in found] == decided[0].tolist()
    for place, c in enumerate(found):
        interval = c.difference.interval
        assert (interval.low, interval.high) == pytest.approx((low[0, place], high[0, place]), abs=1e-9)


# --- parts against other people's


def test_holm_and_mcnemar_are_statsmodels() -> None:
    rng = np.random.default_rng(2)
    for size in (1, 2, 5, 9):
        values = (rng.random(size) ** 2).tolist()
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())
    for a, b in ((3, 9), (0, 5), (20, 20), (7, 31)):
        half = 0.0 if a == b else stats.binom.pmf(a, a + b, 0.5)
        assert mcnemar_p(a, b) == pytest.approx(mcnemar([[10, a], [b, 10]], exact=True).pvalue - half)


def test_one_run_each_without_pseudo_rows_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.2, 1, 60), rng.normal(0, 1, 60)
    spread = spread_of_means(a[None], b[None], proportions=False)
    theirs = stats.ttest_rel(a, b)
    assert float(spread.p_value()) == pytest.approx(theirs.pvalue, abs=1e-6)
    interval = theirs.confidence_interval(0.9)
    assert float(spread.centre - spread.reach(0.9)) == pytest.approx(interval.low)
    assert float(spread.centre + spread.reach(0.9)) == pytest.approx(interval.high)


def test_seeds_bring_their_variance_and_no_more() -> None:
    """Two-way analysis of variance: what seeds do to single rows is not counted as theirs."""
    rng = np.random.default_rng(4)
    rows, count = 200, 300
    values = rng.normal(0, 1, (count, 1, rows)) + rng.normal(0, 0.3, (count, 4, 1)) + rng.normal(0, 1, (count, 4, rows))
    spread = spread_of_means(values, np.zeros((count, 1, rows)), proportions=False)
    (runs,) = spread.runs
    assert runs.freedom == 3
    assert float((runs.scores - runs.rows).mean()) == pytest.approx(0.3**2, rel=0.15)
    assert float(spread.rows.mean()) == pytest.approx((1 + 1 / 4) / rows, rel=0.05)


def test_scores_that_are_means_have_the_spread_of_means() -> None:
    """The bootstrap and the jackknife of a mean agree with its formulas."""
    rng = np.random.default_rng(5)
    values = rng.random((6, 150)) + rng.normal(0, 0.1, (6, 1))
    table = np.stack([values, np.ones_like(values)], axis=-1)
    ours = spread_of_scores(table, 3, METRICS["rouge_l"].score, 4000, 1)
    plain = spread_of_means(values[:3], values[3:], proportions=False)
    assert float(ours.centre) == pytest.approx(float(plain.centre))
    assert float(ours.rows) == pytest.approx(float(plain.rows), rel=0.06)
    for mine, theirs in zip(ours.runs, plain.runs, strict=True):
        assert float(mine.scores) == pytest.approx(float(theirs.scores))
        assert float(mine.rows) == pytest.approx(float(theirs.rows))


# --- decisions


def test_a_clear_gain_is_claimed_and_noise_is_not() -> None:
    prefix, lora = family(better=0.25)
    assert prefix.better
    assert lora.better
    assert prefix.corrected == pytest.approx(2 * min(c.difference.p_value for c in (prefix, lora))) or lora.corrected
    assert prefix.detectable < 0.25
    assert not any(c.better or c.worse for c in family(rows=80))
    back = compare_family(ACCURACY, {"a": [["n"] * 50], "b": [["y"] * 50]}, [("a", "b")], ["y"] * 50)[0]
    assert back.worse
    assert back.gain == -1


def test_a_lower_perplexity_is_better() -> None:
    rng = np.random.default_rng(6)
    losses = rng.random(80) + 1
    metric = METRICS["perplexity"]
    runs = {"prefix": [list(losses - 0.5 + rng.normal(0, 0.02, 80)) for _ in range(3)], "prompt": [list(losses)]}
    found = compare_family(metric, runs, [("prefix", "prompt")], [1.0] * 80, n=500)[0]
    assert found.better
    assert found.difference.estimate < 0 < found.gain
    assert default_margin(metric) == 1.0


def test_an_interval_never_says_more_than_the_decision() -> None:
    """Five rows against none: McNemar's mid-p is 0.03, which two comparisons do not bear."""
    outputs = {"a": [["y"] * 40], "b": [["n"] * 5 + ["y"] * 35]}
    alone = compare_family(ACCURACY, outputs, [("a", "b")], ["y"] * 40)[0]
    assert alone.better
    alike = {**outputs, "c": outputs["b"]}
    same = compare_family(ACCURACY, alike, [("a", "b"), ("b", "c")], ["y"] * 40)[0]
    assert same.better  # b and c answer alike: nothing can be wrongly said of them, so they share no error
    assert (same.comparisons, same.corrected_for) == (2, 1)
    far = {**outputs, "c": [["y"] * 5 + ["n"] * 5 + ["y"] * 30]}
    several = compare_family(ACCURACY, far, [("a", "b"), ("b", "c")], ["y"] * 40)[0]
    assert several.corrected > 0.05
    assert 0.0 in several.difference.interval
    assert not several.better


def test_systems_that_answer_alike_are_not_told_apart() -> None:
    same = ["y"] * 30 + ["n"] * 10
    found = compare_family(ACCURACY, {"a": [same] * 3, "b": [same]}, [("a", "b")], ["y"] * 40)[0]
    assert found.corrected == 1.0
    low, high = found.bounds
    assert low < 0 < high  # another test set could have told them apart
    with pytest.raises(DataError, match="different rows"):
        compare_family(ACCURACY, {"a": [same], "b": [same[:-1]]}, [("a", "b")], ["y"] * 40)


# --- sizes


def test_rows_needed_would_do() -> None:
    few = family(rows=60, better=0.1, margin=0.15)[0]
    assert family(rows=60)[0].rows_needed is None  # no rows show a point where runs differ by as much
    assert few.rows_needed is not None
    assert few.rows_needed > 60
    far = [RunVariance(np.asarray(0.1**2), np.asarray(0.0), 2)] * 3
    spread = Spread(np.asarray(0.05), np.asarray(0.2 / 100), 99).with_runs(far, Prior(), 1 / 3)
    assert float(spread.with_rows(1000).detectable(0.95)) > 0.15  # rows do not help against seeds


def test_a_plan_shows_less_with_fewer_rows_seeds_or_more_comparisons() -> None:
    plain = planned_detectable(300, (3, 1), 3)
    assert planned_detectable(100, (3, 1), 3) > plain > planned_detectable(300, (3, 1), 1)
    assert planned_detectable(300, (5, 1), 3) < plain
    assert planned_detectable(2, (1, 1), 1) == 1.0
    assert 0.08 < plain < 0.2


# --- sentences


def made(gain: float, low: float, high: float, **more: Any) -> Comparison:
    found = family()[0]
    interval = type(found.difference.interval)(low, high, 0.95, "made")
    difference = type(found.difference)("accuracy", 0.6 + gain, 0.6, gain, interval, 0.01, "made", 50)
    values = {"corrected": 0.02, "comparisons": 1, "seeds": (3, 1), "detectable": 0.14, "rows_needed": 391, **more}
    return Comparison("prefix", "prompt", difference, **values)


def said(found: Comparison, language: str = "en", **options: Any) -> list[str]:
    return [line.render(language) for line in sentences(found, NAMES, **options).lines]


def test_what_is_said_of_a_gain() -> None:
    found = made(0.041, 0.012, 0.07)
    assert sentences(found, NAMES).state == "better"
    assert said(found) == [
        "Prefix tuning is better than your best prompt: Accuracy +4.1 points (95% interval +1.2 to +7.0, paired, 3 "
        "seeds)."
    ]
    assert said(found, "zh") == [
        "前缀微调好于你最好的提示词：准确率 +4.1 个百分点（95% 区间 +1.2 到 +7.0，配对，3 个种子）。"
    ]
    small = said(made(0.004, 0.001, 0.007))
    assert small[1] == "That is less than the 1.0 points that were said to matter."


def test_what_is_said_when_the_prompt_is_better() -> None:
    found = made(-0.05, -0.09, -0.01)
    assert sentences(found, NAMES).state == "worse"
    assert said(found) == [
        "Do not train: prefix tuning is worse than your best prompt: Accuracy -5.0 points (95% interval -9.0 to -1.0, "
        "paired, 3 seeds)."
    ]
    assert said(found, "zh") == [
        "不必训练：前缀微调不如你最好的提示词：准确率 -5.0 个百分点（95% 区间 -9.0 到 -1.0，配对，3 个种子）。"
    ]


def test_what_is_said_when_both_are_equal_within_the_margin() -> None:
    found = made(0.0, -0.005, 0.005)
    assert sentences(found, NAMES).state == "equal"
    assert said(found) == [
        "Do not train: prefix tuning is as good as your best prompt, within 1.0 points: Accuracy +0.0 points (95% "
        "interval -0.5 to +0.5, paired, 3 seeds)."
    ]
    assert said(found, "zh") == [
        "不必训练：前缀微调与你最好的提示词一样好，相差在 1.0 个百分点以内：准确率 +0.0 个百分点（95% 区间 -0.5 到 "
        "+0.5，配对，3 个种子）。"
    ]
    assert sentences(made(0.01, -0.02, 0.04), NAMES, margin=0.05).state == "equal"


def test_as_good_as_is_two_one_sided_tests() -> None:
    """The 90% interval has to lie inside the margin, and that is the interval that is shown."""
    found = made(0.001, -0.012, 0.014)
    assert sentences(found, NAMES).state == "cannot_tell"
    narrow = replace(found.difference, equivalence=Interval(-0.008, 0.0095, 0.9, "made"))
    found = replace(found, difference=narrow)
    assert sentences(found, NAMES).state == "equal"
    assert said(found) == [
        "Do not train: prefix tuning is as good as your best prompt, within 1.0 points: Accuracy +0.1 points (90% "
        "interval -0.8 to +0.9, paired, 3 seeds)."
    ]
    gone = replace(found, difference=replace(narrow, equivalence=Interval(-0.03, 0.009, 0.9, "made")))
    assert sentences(gone, NAMES).state == "not_better"


def test_a_difference_brings_the_interval_of_two_one_sided_tests() -> None:
    """At the level that one comparison alone has, however many there are; that of one run is Tango's at 90%."""
    a, b = ["y"] * 97 + ["n"] * 3, ["n"] * 4 + ["y"] * 96
    (found,) = compare_family(ACCURACY, {"a": [a], "b": [b]}, [("a", "b")], ["y"] * 100)
    several = compare_family(ACCURACY, {"a": [a], "b": [b], "c": [a]}, [("a", "b"), ("c", "b")], ["y"] * 100)
    equal = found.difference.equivalence
    assert equal is not None
    assert (equal.low, equal.high) == ends_of(4, 3, 100, equal.level)
    assert equal.level == pytest.approx(0.9)
    assert all(c.difference.equivalence == equal for c in several)
    assert several[0].difference.interval.level == pytest.approx(0.975)
    runs = compare_family(ACCURACY, {"a": [a, b], "b": [b]}, [("a", "b")], ["y"] * 100)[0].difference
    assert runs.equivalence is not None
    assert runs.interval.low < runs.equivalence.low < runs.equivalence.high < runs.interval.high


def ends_of(only_a: int, only_b: int, count: int, level: float) -> tuple[float, float]:
    interval = paired_proportion_interval(only_a, only_b, count, level)
    return interval.low, interval.high


def test_what_is_said_when_a_gain_is_ruled_out() -> None:
    found = made(-0.02, -0.05, 0.009)
    assert sentences(found, NAMES).state == "not_better"
    assert said(found) == [
        "Do not train: prefix tuning is not better than your best prompt by 1.0 points or more: Accuracy -2.0 points "
        "(95% interval -5.0 to +0.9, paired, 3 seeds)."
    ]
    assert said(found, "zh")[0].startswith("不必训练：前缀微调并不比你最好的提示词高出 1.0 个百分点或更多：")


def test_what_is_said_when_the_rows_cannot_tell() -> None:
    found = made(0.06, -0.03, 0.15)
    assert sentences(found, NAMES).state == "cannot_tell"
    assert said(found) == [
        "Prefix tuning cannot be told from your best prompt: Accuracy +6.0 points (95% interval -3.0 to +15.0, paired, "
        "3 seeds).",
        "50 test rows show differences above 14.0 points; to show 1.0 points, you need about 400 rows.",
    ]
    assert said(found, "zh") == [
        "分辨不出前缀微调与你最好的提示词：准确率 +6.0 个百分点（95% 区间 -3.0 到 +15.0，配对，3 个种子）。",
        "50 行测试数据能分辨 14.0 个百分点以上的差异；要分辨 1.0 个百分点，大约需要 400 行。",
    ]
    assert "train more seeds" in said(made(0.06, -0.03, 0.15, rows_needed=None))[1]


def test_it_is_never_as_good_where_another_metric_says_otherwise() -> None:
    equal, other = made(0.0, -0.005, 0.005), made(0.2, 0.1, 0.3)
    assert state_of(equal, 0.01) == "equal"
    assert state_of(equal, 0.01, [other]) == "cannot_tell"
    lines = said(equal, others=[other])
    assert not any("as good" in line for line in lines)
    assert lines[-1].startswith("By another metric prefix tuning is better than your best prompt: Accuracy +20.0")


def test_every_state_has_an_answer_of_three_words_at_most() -> None:
    for answer in ANSWERS.values():
        assert len(answer.split()) <= 3
        assert answer.render("zh") != answer


def test_how_another_system_stands_beside_the_best() -> None:
    other = made(0.008, -0.01, 0.026, comparisons=2)
    other = type(other)(**{**vars(other), "a": "lora", "b": "prefix"})
    assert beside(other, NAMES) == "LoRA is 0.8 points more; the interval (-1.0 to +2.6) includes 0."
    far = type(other)(**{**vars(made(-0.05, -0.08, -0.02, comparisons=2)), "a": "lora", "b": "prefix"})
    assert "LoRA is 5.0 points less (90% interval" in beside(far, NAMES)
    assert far.to_json()["decision"] == "worse"


@pytest.mark.parametrize("rows", [50, 160])
def test_systems_that_hardly_differ_are_not_said_to_be_equal(rows: int) -> None:
    """A true difference of 3.5 rows' worth is seen on no row, or on one, in one test set of eight."""
    share, rng = 3.5 / rows, np.random.default_rng(3)
    prompt = np.zeros((2000, 1, rows))
    trained = np.repeat((rng.random((2000, 1, rows)) < share).astype(float), 2, axis=1)
    spread = spread_of_means(trained, prompt, proportions=True)
    reach = spread.reach(0.95)
    assert ((spread.centre - reach <= share) & (share <= spread.centre + reach)).mean() > 0.93
    same = spread_of_means(prompt[:1], prompt[:1], proportions=True)
    assert same.reach(0.95) == pytest.approx(-np.log(0.025) / rows)
    assert same.with_rows(4).reach(0.95) == pytest.approx(-np.log(0.025) / (4 * rows))
    assert same.p_value() == 1.0


def test_two_seeds_that_err_on_each_others_rows_are_not_sure() -> None:
    golds = ["no", "yes"] * 12
    runs = [["no"] * 24, ["yes"] * 24]
    metric = get_metric("accuracy")
    value, interval = score_of_runs(metric, runs, golds)
    assert value == 0.5
    alone = wilson_interval(24, 48)
    assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high))
    found = paired_difference_of_runs(metric, [golds], runs, golds)
    assert found.estimate == 0.5
    assert found.interval.high - found.interval.low > 0.2
