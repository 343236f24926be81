"""Intervals and p-values against scipy, statsmodels' formulas, sacrebleu and simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scipy import stats
from sklearn.metrics import f1_score

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.statistics.differences import paired_difference, permutation_p
from foreword.evaluation.statistics.intervals import (
    Sampling,
    bootstrap_interval,
    mcnemar_p,
    paired_proportion_interval,
    resamples,
    score_interval,
    wilson_interval,
)
from foreword.evaluation.statistics.power import holm, minimum_detectable_difference, rows_needed
from foreword.evaluation.statistics.repeated_seeds import paired_difference_of_runs, spread_of_runs
from foreword.evaluation.statistics.run_spread import GRID, Prior, RunVariance, posterior

ACCURACY, MACRO, ROUGE, BLEU_METRIC = METRICS["accuracy"], METRICS["macro_f1"], METRICS["rouge_l"], METRICS["bleu"]


def answers(rng: np.random.Generator, right: np.ndarray, classes: int = 3) -> tuple[list[str], list[str]]:
    """Golds at random, and outputs that are right where ``right`` says so."""
    golds = rng.integers(classes, size=len(right))
    outputs = np.where(right, golds, (golds + rng.integers(1, classes, size=len(right))) % classes)
    return [str(x) for x in outputs], [str(x) for x in golds]


def sentences(rng: np.random.Generator, n: int, noise: float) -> tuple[list[str], list[str]]:
    vocabulary = np.array("the a cat dog sat on mat near house river runs home now".split())
    golds = [list(rng.choice(vocabulary, size=rng.integers(6, 14))) for _ in range(n)]
    outputs = [[w if rng.random() > noise else str(rng.choice(vocabulary)) for w in gold] for gold in golds]
    return [" ".join(words) for words in outputs], [" ".join(words) for words in golds]


def test_a_resample_draws_as_many_rows_as_there_are() -> None:
    chunks = list(resamples(1500, 3000, seed=1))
    counts = np.concatenate(chunks)
    assert len(chunks) > 1
    assert counts.shape == (3000, 1500)
    assert (counts.sum(axis=1) == 1500).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.1)
    assert np.array_equal(counts, np.concatenate(list(resamples(1500, 3000, seed=1))))


def test_the_bootstrap_of_a_mean_is_scipys() -> None:
    outputs, golds = sentences(np.random.default_rng(2), 80, 0.3)
    values = ROUGE.per_row(outputs, golds)
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        ours = bootstrap_interval(outputs, golds, ROUGE, n=20_000, seed=3, method=method)  # type: ignore[arg-type]
        theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method=name, rng=4).confidence_interval
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=2e-3)
        assert ours.method == f"bootstrap-{method}"
        assert ours.level == 0.95


def test_the_bootstrap_of_macro_f1_is_scipys_over_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    outputs, golds = answers(rng, rng.random(60) < 0.8)

    def score(rows: np.ndarray) -> float:
        return f1_score(np.array(golds)[rows], np.array(outputs)[rows], average="macro", zero_division=0)

    ours = bootstrap_interval(outputs, golds, MACRO, n=4000, seed=3, method="percentile")
    draws = [score(rng.integers(60, size=60)) for _ in range(400)]
    assert (ours.low, ours.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.025)


def test_bleu_agrees_with_sacrebleus_paired_tests() -> None:
    rng = np.random.default_rng(4)
    good, golds = sentences(rng, 60, 0.25)
    bad = [" ".join(w for w in text.split() if rng.random() > 0.06) for text in good]
    difference = paired_difference(BLEU_METRIC, good, bad, golds, n=4000, sampling=Sampling(seed=1))
    metric = BLEU(references=[golds], force=True)
    _, scores = PairedTest(
        [("bad", bad), ("good", good)], {"BLEU": metric}, references=None, test_type="ar", n_samples=4000
    )()
    bad_result, good_result = scores["BLEU"]
    assert difference.a == pytest.approx(good_result.score)
    assert difference.b == pytest.approx(bad_result.score)
    assert difference.p_value == pytest.approx(good_result.p_value, abs=0.02)
    assert difference.estimate == pytest.approx(difference.a - difference.b)
    _, boots = PairedTest(
        [("bad", bad), ("good", good)], {"BLEU": metric}, references=None, test_type="bs", n_samples=4000
    )()
    single = bootstrap_interval(good, golds, BLEU_METRIC, n=4000, method="percentile")
    assert (single.high - single.low) / 2 == pytest.approx(boots["BLEU"][1].ci, rel=0.1)


def test_mcnemars_mid_p_is_the_binomial_test_less_half_of_what_was_seen() -> None:
    for a, b in itertools.product(range(0, 30, 3), range(0, 30, 4)):
        exact = stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
        expected = exact if a == b else exact - stats.binom.pmf(a, a + b, 0.5)
        assert mcnemar_p(a, b) == pytest.approx(expected)
    expected = stats.binomtest(900, 2000).pvalue - stats.binom.pmf(900, 2000, 0.5)
    assert mcnemar_p(900, 1100) == pytest.approx(expected)


def test_the_permutation_p_value_is_scipys() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.2, 1, 40), rng.normal(0, 1, 40)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=rng
    ).pvalue
    ones = np.ones(40)
    rows = [np.column_stack([values, ones]) for values in (a, b)]
    assert permutation_p(*rows, ROUGE.score, n=20_000) == pytest.approx(theirs, abs=0.015)  # type: ignore[arg-type, call-arg, misc]
    assert permutation_p(rows[0], rows[0], ROUGE.score, n=100) == 1.0


def test_wilson_is_scipys() -> None:
    for right, rows, level in ((0, 10, 0.95), (10, 10, 0.95), (33, 50, 0.9), (1, 2000, 0.99)):
        theirs = stats.binomtest(right, rows).proportion_ci(level, method="wilson")
        ours = wilson_interval(right, rows, level)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson_interval(1, 2, 95)


def test_score_interval_has_a_width_when_every_row_is_right() -> None:
    interval = score_interval(["a"] * 20, ["a"] * 20, ACCURACY)
    assert interval.method == "wilson"
    assert interval.high == 1.0
    assert 0.8 < interval.low < 0.9
    assert score_interval(["a", "b"] * 9, ["a"] * 18, MACRO).method == "bootstrap-wider-dirichlet"
    assert score_interval(["a", "b"] * 10, ["b", "a"] * 10, MACRO).method == "bootstrap-wider"


def test_the_paired_proportion_interval_is_the_published_formula() -> None:
    # Fagerland, Lydersen and Laake (2014), airway reactivity before and after: 1, 1, 7, 12 of 21 rows.
    interval = paired_proportion_interval(1, 7, 21)
    assert (interval.low, interval.high) == pytest.approx((-0.517, -0.026), abs=1e-3)
    mirrored = paired_proportion_interval(7, 1, 21)
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))


def test_the_paired_proportion_interval_ends_where_the_score_test_rejects() -> None:
    """At a difference of 0, Tango's test is McNemar's without correction: both end at the same level."""
    for a, b in ((5, 15), (3, 11), (20, 41)):
        p_value = 2 * stats.norm.sf(abs(a - b) / math.sqrt(a + b))
        interval = paired_proportion_interval(a, b, 100, 1 - p_value)
        assert interval.high == pytest.approx(0, abs=1e-9)
    nothing = paired_proportion_interval(0, 0, 50)
    z = stats.norm.ppf(0.975)
    assert (nothing.low, nothing.high) == pytest.approx((-(z**2) / (50 + z**2), z**2 / (50 + z**2)), abs=1e-3)
    for level in (0.9, 0.99):
        exact = stats.binomtest(3, 200).proportion_ci(level).high
        assert paired_proportion_interval(3, 0, 200, level).high >= exact - 1e-9


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "bleu"])
def test_paired_intervals_are_narrower_than_unpaired(name: str) -> None:
    rng = np.random.default_rng(6)
    metric = METRICS[name]
    if name == "bleu":
        a, golds = sentences(rng, 150, 0.3)
        b = [" ".join(text.split()[:-1]) if rng.random() < 0.2 else text for text in a]
    else:
        right = rng.random(150) < 0.75
        a, golds = answers(rng, right)
        b = [other if rng.random() < 0.1 else same for same, other in zip(a, rng.permutation(golds), strict=True)]
    paired = paired_difference(metric, a, b, golds, n=2000).interval
    alone = [bootstrap_interval(outputs, golds, metric) for outputs in (a, b)]
    unpaired = np.sqrt(sum((interval.high - interval.low) ** 2 for interval in alone))
    assert paired.high - paired.low < 0.8 * unpaired


def test_bootstrap_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(7)
    hits, trials = {"accuracy": 0, "rouge": 0, "difference": 0}, 300
    for trial in range(trials):
        right = rng.random(120) < 0.7
        outputs, golds = answers(rng, right)
        hits["accuracy"] += 0.7 in bootstrap_interval(outputs, golds, ACCURACY, n=600, seed=trial)
        # The second system loses a tenth of the right rows: the true difference is 0.07.
        others = [out if rng.random() > 0.1 else ("x" if ok else out) for out, ok in zip(outputs, right, strict=True)]
        found = paired_difference(ACCURACY, outputs, others, golds, n=600, sampling=Sampling(seed=trial), method="bca")
        hits["difference"] += 0.07 in found.interval
        # ROUGE-1 of one word against k: 2 / (k + 1) for k in 1..4, mean 0.6417.
        lengths = rng.integers(1, 5, size=120)
        references = ["a" + " b" * (k - 1) for k in lengths]
        truth = float(np.mean([2 / (k + 1) for k in range(1, 5)]))
        hits["rouge"] += truth in bootstrap_interval(["a"] * 120, references, METRICS["rouge_1"], n=600, seed=trial)
    for name, count in hits.items():
        assert 0.915 <= count / trials <= 0.985, (name, count / trials)


def test_automatic_paired_intervals_cover_and_rarely_err_without_a_difference() -> None:
    rng = np.random.default_rng(8)
    trials, covered, claimed = 1500, 0, 0
    for _ in range(trials):
        kinds = rng.random(50)
        only_a, only_b = int((kinds < 0.1).sum()), int((kinds > 0.9).sum())
        covered += 0.0 in paired_proportion_interval(only_a, only_b, 50)
        claimed += mcnemar_p(only_a, only_b) < 0.05
    assert 0.93 <= covered / trials <= 0.98
    assert claimed / trials <= 0.05


def test_equal_systems_differ_by_nothing() -> None:
    outputs, golds = sentences(np.random.default_rng(9), 30, 0.3)
    for metric in (BLEU_METRIC, ROUGE, METRICS["exact_match"], METRICS["chrf"]):
        difference = paired_difference(metric, outputs, outputs, golds, n=500)
        assert difference.estimate == 0
        assert difference.p_value == 1.0
        assert not difference.decided


def test_a_clear_difference_is_decided_and_signed() -> None:
    golds = ["yes", "no"] * 40
    difference = paired_difference(ACCURACY, golds, ["no"] * 80, golds)
    assert difference.decided
    assert difference.estimate == 0.5
    assert difference.test == "mcnemar-mid-p"
    other = paired_difference(ACCURACY, ["no"] * 80, golds, golds)
    assert other.interval.high == pytest.approx(-difference.interval.low)
    assert difference.to_json()["interval"]["method"] == "tango"
    perplexity = paired_difference(METRICS["perplexity"], [1.0, 2.0, 1.5], [2.0, 3.0, 3.5], [1, 2, 1], n=500)
    assert perplexity.estimate < 0


def test_the_same_seed_gives_the_same_figures() -> None:
    outputs, golds = sentences(np.random.default_rng(10), 30, 0.3)
    shorter = [text[: len(text) // 2] for text in outputs]
    runs = [
        paired_difference(ROUGE, outputs, shorter, golds, n=300, sampling=Sampling(seed=seed), method="bca")
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_two_rows_are_needed_and_the_rows_must_be_the_same() -> None:
    with pytest.raises(DataError, match="at least two rows"):
        bootstrap_interval(["a"], ["a"], MACRO)
    with pytest.raises(DataError, match="different rows"):
        paired_difference(ACCURACY, ["a", "b"], ["a"], ["a", "b"])


def test_the_power_formulas_invert_each_other_and_simulate() -> None:
    for rows in (30, 50, 400, 5000):
        least = minimum_detectable_difference(rows, discordance=0.2)
        assert rows_needed(least, discordance=0.2) == pytest.approx(rows, abs=1)
    assert minimum_detectable_difference(2) == 1.0
    assert minimum_detectable_difference(100, deviation=0.5) == pytest.approx(2.8016 * 0.05, abs=1e-4)
    least, rng = minimum_detectable_difference(400, discordance=0.2), np.random.default_rng(11)
    found = 0
    for _ in range(1000):
        only_a, only_b, _ = rng.multinomial(400, [0.1 + least / 2, 0.1 - least / 2, 0.8])
        found += 0.0 not in paired_proportion_interval(only_a, only_b, 400)
    assert 0.76 <= found / 1000 <= 0.86


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_runs_with_several_seeds_cover_the_truth() -> None:
    """Also where they differ by more than 4 points and only six tell of it."""
    rng = np.random.default_rng(12)
    trials, covered, rows = 200, 0, 100
    golds = ["a"] * rows
    for trial in range(trials):
        hard = rng.random(rows)

        def run(skill: float, hard: np.ndarray = hard) -> list[str]:
            level = skill + rng.normal(0, 0.03)
            return ["a" if ok else "b" for ok in 0.7 * hard + 0.3 * rng.random(rows) < level]

        difference = paired_difference_of_runs(
            ACCURACY,
            [run(0.7) for _ in range(3)],
            [run(0.7) for _ in range(3)],
            golds,
            n=300,
            sampling=Sampling(seed=trial),
        )
        covered += 0.0 in difference.interval
        assert (difference.p_value < 0.05) == difference.decided
    assert covered / trials >= 0.91


def test_the_interval_of_runs_is_a_mixture_over_what_seeds_leave_open() -> None:
    """Drawn at random instead of summed on the grid: a spread from its posterior, then a normal difference."""
    rng = np.random.default_rng(14)
    hits = rng.random((5, 400)) < np.array([0.6, 0.7, 0.8, 0.5, 0.6])[:, None]
    table = np.stack([hits, np.ones_like(hits)], axis=-1).astype(float)
    spread = spread_of_runs(ACCURACY, table, 3, 100, 1)
    assert spread.weights is not None
    assert spread.seeds is not None
    drawn = rng.choice(len(GRID), 200_000, p=spread.weights)
    differences = rng.standard_normal(200_000) * np.sqrt(spread.rows + spread.seeds[drawn])
    assert float(spread.reach(0.9)) == pytest.approx(np.quantile(np.abs(differences), 0.9), rel=0.02)
    assert float(spread.p_value()) == pytest.approx(np.mean(np.abs(differences) >= abs(spread.centre)), abs=0.01)
    assert spread.seeds[5] == pytest.approx((1 / 3 + 1 / 2) * (0.02 * GRID[5]) ** 2)


def test_runs_that_agree_leave_room_and_many_runs_are_believed() -> None:
    same = RunVariance(np.asarray(0.0), np.asarray(1e-6), 1)
    prior = Prior()
    mean = [float(posterior(seen, prior) @ prior.deviations) for seen in ([], [same], [same] * 6)]
    assert mean[0] > mean[1] > mean[2] > 0.0005  # two that agree are not sure, six pairs hardly are
    wide = [RunVariance(np.asarray(0.05**2), np.asarray(1e-6), 4)] * 6
    assert float(posterior(wide, prior) @ prior.deviations) == pytest.approx(0.05, rel=0.1)


def test_runs_that_agree_near_the_top_say_less_of_others() -> None:
    """There most runs agree and one falls far, so that three agree is what is to be seen of unstable ones, too."""
    same = [RunVariance(np.asarray(1e-6), np.asarray(1e-6), 2)] * 3
    middle, top, none = (Prior(share=np.asarray(share)) for share in (0.5, 0.98, 0.999))
    wide = [float(posterior(same, prior)[prior.deviations > 0.02].sum()) for prior in (middle, top)]
    assert wide[1] > 3 * wide[0]
    assert float(posterior(same, Prior()) @ GRID) == pytest.approx(float(posterior(same, middle) @ GRID), rel=0.02)
    # No share of 0.999 varies by more than the square root of 0.001 * 0.999.
    assert posterior([], none)[none.deviations > 0.0316].sum() == 0


def test_an_interval_of_seeds_ends_where_differences_end() -> None:
    runs = [["a"] * right + ["b"] * (8 - right) for right in (8, 0, 8, 0)]
    found = paired_difference_of_runs(ACCURACY, runs[:2], runs[2:], ["a"] * 8, sampling=Sampling(level=0.99999))
    assert (found.interval.low, found.interval.high) == (-1.0, 1.0)


def test_one_run_each_is_the_plain_paired_bootstrap() -> None:
    rng = np.random.default_rng(13)
    a, golds = answers(rng, rng.random(300) < 0.8)
    b = [out if rng.random() > 0.1 else "x" for out in a]
    runs = paired_difference_of_runs(ACCURACY, [a], [b], golds, n=5000).interval
    plain = paired_difference(ACCURACY, a, b, golds, method="percentile").interval
    assert (runs.low, runs.high) == pytest.approx((plain.low, plain.high), abs=0.01)
    same = paired_difference_of_runs(ACCURACY, [a], [a], golds, n=100)
    assert same.p_value == 1.0
    # 300 rows that all agree leave room for 1.2% that do not.
    assert (same.interval.low, same.interval.high) == pytest.approx((math.log(0.025) / 300, -math.log(0.025) / 300))
    with pytest.raises(DataError, match="different rows"):
        paired_difference_of_runs(ACCURACY, [a], [b[:-1]], golds)


# --- rows that belong together


def clustered(rng: np.random.Generator, groups: int, size: int, level: float = 0.75) -> tuple[list[str], list[str]]:
    """Answers of one system whose rows of a group are right or wrong together, and the groups."""
    right = np.repeat(rng.random(groups) < level, size)
    return ["y" if hit else "n" for hit in right], [f"g{number // size}" for number in range(groups * size)]


@pytest.mark.parametrize("size", [2, 5, 10])
def test_grouped_rows_are_as_many_as_their_groups(size: int) -> None:
    rng = np.random.default_rng(size)
    golds, trials = ["y"] * (30 * size), 200
    claims = plain = inside = 0
    for trial in range(trials):
        (a, groups), (b, _) = clustered(rng, 30, size), clustered(rng, 30, size)
        claims += paired_difference(ACCURACY, a, b, golds, n=400, sampling=Sampling(seed=trial, groups=groups)).decided
        plain += paired_difference(ACCURACY, a, b, golds).decided
        interval = score_interval(a, golds, ACCURACY, groups=groups)
        inside += 0.75 in interval
        assert interval.groups == 30
    assert claims / trials <= 0.08
    assert plain / trials > 0.1
    assert inside / trials >= 0.91


def test_groups_of_one_row_are_rows() -> None:
    rng = np.random.default_rng(20)
    a, golds = answers(rng, rng.random(80) < 0.8)
    b = [out if rng.random() > 0.2 else "x" for out in a]
    alone = [str(number) for number in range(80)]
    runs = [
        paired_difference_of_runs(MACRO, [a, b], [b], golds, n=300, sampling=Sampling(groups=groups))
        for groups in (None, alone)
    ]
    assert runs[0].interval.low == pytest.approx(runs[1].interval.low)
    assert (runs[0].interval.groups, runs[1].interval.groups) == (None, 80)
    wilson, grouped_interval = score_interval(a, golds, ACCURACY), score_interval(a, golds, ACCURACY, groups=alone)
    assert (wilson.low, wilson.high) == pytest.approx((grouped_interval.low, grouped_interval.high), abs=5e-3)
    with pytest.raises(DataError, match="each row needs its group"):
        paired_difference(ACCURACY, a, b, golds, sampling=Sampling(groups=alone[:-1]))
    with pytest.raises(DataError, match="two groups"):
        score_interval(a, golds, ACCURACY, groups=["same"] * 80)


def test_runs_on_grouped_rows_cover_the_truth() -> None:
    rng = np.random.default_rng(21)
    covered = 0
    for trial in range(150):
        hard = np.repeat(rng.random(40), 5)
        systems = [[["a" if ok else "b" for ok in hard + 0.1 * rng.random(200) < 0.75] for _ in range(3)] for _ in "ab"]
        sampling = Sampling(groups=[number // 5 for number in range(200)], seed=trial)
        found = paired_difference_of_runs(ACCURACY, systems[0], systems[1], ["a"] * 200, n=100, sampling=sampling)
        covered += 0.0 in found.interval
    assert covered / 150 >= 0.93


def test_three_rows_are_no_proof() -> None:
    """Every row went from 0 to 100 BLEU: three rows cannot say more than that."""
    golds = ["the cat sat on the mat"] * 3
    found = paired_difference(BLEU_METRIC, golds, ["no"] * 3, golds, n=200)
    assert found.estimate == pytest.approx(100)
    assert not found.decided
    assert found.interval.low < 0
    eight = paired_difference_of_runs(BLEU_METRIC, [["a b c d"] * 8] * 3, [["a b c d"] * 8], ["a b c d"] * 8, n=100)
    assert eight.interval.high > 20
