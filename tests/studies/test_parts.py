"""The parts of a comparison that need no model: gates, plans, learning curves, what is worth its work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from foreword.data.task.task import Task
from foreword.errors import SettingsError
from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.translator import Translator
from foreword.evaluation.statistics.run_spread import RunVariance
from foreword.messages import said_in
from foreword.settings.schema import TrainSettings
from foreword.studies.compare.active_learning import _spread
from foreword.studies.compare.costs import pareto, price
from foreword.studies.compare.decisions import Runs, decide
from foreword.studies.compare.gate import parse
from foreword.studies.compare.learning_curve import at, fit, learning_curve
from foreword.studies.compare.plan import Cost, Plan, Size, estimate, make_plan
from foreword.studies.compare.retention import LANGUAGES, passages
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.compare.system_names import system_of, title

SYSTEMS = ("tfidf", "prompt", "prefix", "prompt_tuning")


# --- gates


@pytest.mark.parametrize(
    ("text", "left", "right", "offset", "met", "missed"),
    [
        ("prefix > prompt + 2", "prefix", "prompt", 2.0, 2.1, 2.0),
        ("prefix>=prompt+2.5", "prefix", "prompt", 2.5, 2.5, 2.4),
        (" prefix > prompt - 1 ", "prefix", "prompt", -1.0, 0.0, -1.0),
        ("prefix > tfidf", "prefix", "tfidf", 0.0, 0.1, 0.0),
        ("prompt_tuning > 80", "prompt_tuning", None, 80.0, 80.1, 80.0),
    ],
)
def test_a_requirement_is_read(
    text: str, left: str, right: str | None, offset: float, met: float, missed: float
) -> None:
    gate = parse(text, SYSTEMS)
    assert (gate.left, gate.right, gate.offset) == (left, right, offset)
    assert gate.met(met)
    assert not gate.met(missed)


@pytest.mark.parametrize(
    "text",
    ["prefix < prompt", "prefix > prompt + 2; import os", "prefx > prompt", "> 3", "prefix > __import__('os')", ""],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse(text, SYSTEMS)


def test_systems_have_names_of_their_own() -> None:
    assert system_of("prompt") == "prompt_tuning"
    assert title("prompt_tuning") == "prompt tuning"
    assert title("prompt") == "your prompt"
    assert title("prefix") == "prefix tuning"


# --- plans

RATES = {"prefix": (2e-2, 5e-2, 5e-3, 1e-1), "lora": (1e-3, 3e-4)}
COSTS = {"prefix": Cost(1.0, 0.01), "lora": Cost(2.0, 0.01)}
SIZE = Size(train=2000, dev=100, test=1500, prompts=5)


def plan(budget: float, seeds: int | None = None, size: Size = SIZE) -> Plan:
    return make_plan(RATES, COSTS, TrainSettings(), size, budget, seeds)


def test_with_time_enough_nothing_is_cut() -> None:
    found = plan(1e9)
    assert found.rates == RATES
    assert found.seeds == (13, 14, 15)
    assert found.rows == {"train": 2000, "dev": 100, "test": 1500}
    assert not found.notes
    assert Plan.from_json(found.to_json()) == found


def test_less_time_is_a_smaller_plan_that_fits_and_says_what_was_cut() -> None:
    before = plan(1e9)
    for budget in (4500, 3000, 900, 600, 400, 200):
        found = plan(budget)
        assert found.seconds <= budget
        assert found.seconds == pytest.approx(estimate(found, COSTS, TrainSettings(), SIZE), abs=0.1)
        assert found.seconds <= before.seconds
        assert found.notes
        before = found
    assert len({note.split(" ", 1)[1] for note in before.notes}) == len(before.notes)  # each kind once, as it is


def test_a_plan_has_three_seeds_or_one_and_cuts_rows_and_rates_first() -> None:
    size = replace(SIZE, dev=900)
    plans = [plan(budget, size=size) for budget in range(100, 6000, 100)[::-1]]
    seeds = [len(found.seeds) for found in plans]
    assert set(seeds) == {3, 1}
    last = plans[seeds.index(1) - 1]
    assert last.rows["train"] < 500
    assert last.rows["dev"] <= 200
    assert {len(rates) for rates in last.rates.values()} <= {1, 2}
    assert any("1 seed to fit" in note for note in plans[-1].notes)
    assert not any("seed" in note for note in last.notes)
    assert all(Translator().known(note) for found in plans for note in found.notes)


def test_what_one_cut_leaves_over_is_given_back() -> None:
    costs = {"prefix": Cost(1.0, 10.0), "lora": Cost(1.0, 10.0)}
    size = Size(train=600, dev=1000, test=100, prompts=0)
    dear = make_plan(RATES, costs, TrainSettings(), size, 60_000, None)
    assert dear.rows["dev"] < 1000
    assert dear.rows["train"] == 600  # only the answers on dev were dear


def test_seeds_side_by_side_where_that_was_faster() -> None:
    costs = {"prefix": Cost(1.0, 0.01, 1.5), "lora": Cost(2.0, 0.01, 1.02)}
    found = make_plan(RATES, costs, TrainSettings(), SIZE, 1e9, None)
    assert found.abreast == ("prefix",)
    assert found.waves == [(13,), (14, 15)]
    assert found.seconds < plan(1e9).seconds
    assert Plan.from_json(found.to_json()) == found
    for told, wanted in (("off", ()), ("on", ("prefix", "lora"))):
        settings = TrainSettings(side_by_side=told)  # type: ignore[arg-type]
        assert make_plan(RATES, costs, settings, SIZE, 1e9, None).abreast == wanted


def test_machines_of_a_cluster_share_the_trainings() -> None:
    one, four = (make_plan(RATES, COSTS, TrainSettings(), SIZE, 1e9, None, count).seconds for count in (1, 4))
    assert 0.3 * one < four < 0.6 * one  # the dearest training of each wave is still one


def test_seeds_that_the_user_said_are_kept() -> None:
    assert len(plan(900, seeds=5).seeds) == 5
    assert plan(900, seeds=5).rows["train"] < plan(900, seeds=1).rows["train"] or plan(900, seeds=5).epochs <= 3


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    with pytest.raises(SettingsError) as caught:
        plan(30)
    assert caught.value.exit_code == 2
    assert "budget" in str(caught.value)
    needed = int(str(caught.value.hint).split("min")[0].split()[-1])
    assert plan(60 * needed).notes
    # Where only some methods fit, the dearest is left out and named.
    smaller = plan(0.8 * estimate(plan(60 * needed), COSTS, TrainSettings(), SIZE))
    assert smaller.methods == ("prefix",)
    assert smaller.notes[0] == "lora was left out to fit the budget"


def test_a_curve_costs_more() -> None:
    chosen = plan(1e9)
    plain = estimate(chosen, COSTS, TrainSettings(), SIZE)
    assert estimate(chosen, COSTS, TrainSettings(), replace(SIZE, curve=True)) > 1.1 * plain


# --- learning curves


def test_a_power_law_is_found_again() -> None:
    rows = [50, 100, 200, 400]
    true = np.array([[0.1, 1.2, 0.5], [0.0, 2.0, 0.8], [0.3, 0.0, 0.1]])
    scores = np.stack([at(true, count, 1.0) for count in rows], axis=1)
    found = fit(rows, scores, 1.0)
    for count in (*rows, 800, 1600):
        assert at(found, count, 1.0) == pytest.approx(at(true, count, 1.0), abs=2e-3)


def test_a_curve_says_how_many_labels_are_worth_while() -> None:
    rng = np.random.default_rng(1)
    golds, hard = ["y"] * 1000, rng.random(1000)

    def runs(law: Any) -> dict[int, list[str]]:
        return {n: ["y" if h < law(n) else "n" for h in hard] for n in (50, 100, 200, 400)}

    # Many trainings that hardly differ are known.
    alike = [RunVariance(np.asarray(0.001**2), np.asarray(1e-7), 4)] * 20
    steep = learning_curve(METRICS["accuracy"], runs(lambda n: 1 - 2 / n**0.5), golds, 0.01, seen=alike)
    assert [point["rows"] for point in steep["points"]] == [50, 100, 200, 400]
    assert 150 <= steep["more"] <= 300  # 2 / 20 - 0.02 = 2 / 25: 625 rows
    assert steep["more_low"] <= steep["more"] <= steep["more_high"]
    assert " more labels for +2.0 points (95% interval, by 4 sizes up to 400 rows)" in steep["sentence"]
    flat = learning_curve(METRICS["accuracy"], runs(lambda n: 0.8), golds, 0.01, seen=alike, level=0.9)
    assert flat["more"] is None
    assert flat["sentence"].startswith("More labels are not expected to give +2.0 points (90% interval, by 4 sizes")
    assert flat["enough"] is not None
    for curve in (steep, flat):
        assert Translator().known(curve["sentence"])


def test_a_curve_that_may_go_either_way_names_no_number() -> None:
    """One training at each size: it may be a lucky one, and the number of labels is open."""
    rng = np.random.default_rng(2)
    golds, hard = ["y"] * 200, rng.random(200)
    outputs = {n: ["y" if h < 1 - 1 / n**0.4 else "n" for h in hard] for n in (50, 100, 200, 400)}
    curve = learning_curve(METRICS["accuracy"], outputs, golds, 0.01)
    assert curve["more"] is None
    assert curve["more_low"] is not None
    assert curve["sentence"].startswith("How many more labels would give +2.0 points cannot be told:")
    assert Translator().known(curve["sentence"])
    last = curve["expected"][-1]
    assert last["rows"] == 1600
    assert last["low"] < 1 - 1 / 1600**0.4 < last["high"]


# --- verdicts over systems


def answered(*levels: float, dev: float, seed: int, rows: int = 300) -> Runs:
    rng = np.random.default_rng(seed)
    runs = [
        tuple(
            Prediction(str(i), "", "y" if hit else "n", "y", scores={"y": -0.1, "n": -2.0})
            for i, hit in enumerate(rng.random(rows) < level)
        )
        for level in levels
    ]
    return Runs(dev, tuple(runs), 0.5)


TASK = Task("classification", "{{ text }}", "", "label", {"y": " y", "n": " n"})


def test_dev_chooses_and_test_judges() -> None:
    systems = {
        "prompt": answered(0.6, dev=0.7, seed=1),
        "few_shot": answered(0.65, dev=0.6, seed=2),
        "prefix": answered(0.9, 0.9, 0.9, dev=0.9, seed=3),
        "lora": answered(0.92, 0.92, 0.92, dev=0.8, seed=4),
    }
    found = decide(TASK, systems, CompareOptions())
    assert (found.prompt, found.trained) == ("prompt", "prefix")
    assert "3 seeds" in found.lines[0]
    assert "one training" not in found.lines[0]
    assert found.lines[0].startswith("Prefix tuning is better than your prompt: Accuracy +")
    assert {(c.a, c.b) for c in found.which} == {("lora", "prefix")}
    tied = decide(TASK, {**systems, "lora": replace(systems["lora"], dev=0.9, loss=0.1)}, CompareOptions())
    assert tied.trained == "lora"


def test_what_needs_no_model_is_said_first_where_it_is_better() -> None:
    systems = {
        "tfidf": answered(0.99, dev=0.9, seed=1),
        "prompt": answered(0.6, dev=0.6, seed=2),
        "prefix": answered(0.8, dev=0.8, seed=3),
    }
    found = decide(TASK, systems, CompareOptions())
    assert found.lines[0].startswith("Do not train: TF-IDF with logistic regression is better than this run of prefix")
    assert found.lines[0].endswith("). This rests on one training each: another seed may say otherwise.")
    alone = decide(TASK, {"prompt": systems["prompt"]}, CompareOptions())
    assert "nothing to compare" in alone.lines[0]


def test_without_a_prompt_the_baseline_that_knows_most_is_to_be_beaten() -> None:
    systems = {"majority": answered(0.5, dev=0.5, seed=1), "tfidf": answered(0.5, dev=0.5, seed=2)}
    found = decide(TASK, {**systems, "prefix": answered(0.9, dev=0.9, seed=3)}, CompareOptions())
    assert found.prompt == "tfidf"


@pytest.mark.parametrize("level", [0.2, 0.6, 0.64, 0.9])
def test_whatever_is_said_first_says_that_it_rests_on_one_seed(level: float) -> None:
    systems = {"prompt": answered(0.6, dev=0.6, seed=1), "prefix": answered(level, dev=0.6, seed=5)}
    first = decide(TASK, systems, CompareOptions()).lines[0]
    assert "one training each" in first
    assert "换个种子" in said_in(first, "zh")
    assert "prompt" not in said_in(first, "zh")


# --- costs


def test_what_is_worth_its_work() -> None:
    points = {"cheap": (1.0, 0.6), "good": (5.0, 0.9), "dear": (9.0, 0.9), "bad": (2.0, 0.5), "same": (1.0, 0.6)}
    assert pareto(points) == ["cheap", "good", "same"]
    options = CompareOptions(price_input=2.0, price_output=10.0)
    assert price(100, 1, 0.5, options) == pytest.approx(2 * (200 + 10) / 1e6)
    assert price(100, 1, 0.0, options) is None
    assert price(100, 1, 0.5, CompareOptions()) is None


def test_rows_to_label_are_unlike() -> None:
    texts = ["alpha beta", "alpha beta", "gamma delta", "gamma delta", "一二三四"]
    assert set(_spread(texts, 3)) in ({0, 2, 4}, {0, 3, 4})
    assert _spread(["a"], 3) == [0]


def test_neutral_text_comes_along() -> None:
    for language in LANGUAGES:
        found = passages(language)
        assert len(found) >= 5
        assert all(len(passage) > 80 for passage in found)
