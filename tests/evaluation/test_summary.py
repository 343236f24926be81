"""From predictions to figures, a table and a sentence."""

from __future__ import annotations

import math
import random

import pytest

from foreword.errors import DataError, SettingsError
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.evaluation.report.summary import (
    compare,
    evaluate,
    figure_text,
    heading,
    manifest_metrics,
    render,
    sentence,
)


def rows(share: float, n: int = 100, seed: int = 1) -> list[Prediction]:
    rng = random.Random(seed)
    made = []
    for number in range(n):
        gold = ["bad", "good"][number % 2]
        wrong = {"bad": "good", "good": "bad"}[gold]
        made.append(Prediction(f"r{number}", "text", gold if rng.random() < share else wrong, gold, -0.1, 5, 1.0))
    return made


def test_classification_figures() -> None:
    summary = evaluate(rows(0.8), "classification", labels=("good", "bad"))
    accuracy = summary["metrics"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert accuracy["rows"] == 100
    assert accuracy["level"] == 0.95
    assert accuracy["better"] == "higher"
    assert list(summary["metrics"]) == ["accuracy", "macro_f1"]
    assert summary["report"]["labels"] == ["good", "bad"]
    always = {"accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}
    assert summary["baseline"] == {"output": "bad", "share": 0.5, "metrics": always}
    assert summary["tokens"] == 500
    assert summary["ms"] == 100
    assert not summary["constant"]
    assert manifest_metrics(summary)["accuracy"].keys() == {"value", "low", "high", "level", "rows"}


def test_generation_figures_with_several_references_and_likelihood() -> None:
    scores = {GOLD_NLL: 6.0, GOLD_TOKENS: 3.0}
    made = [
        Prediction(
            f"r{n}", "", "the cat sat on a mat", "x", scores=scores, references=("a dog", "the cat sat on a mat")
        )
        for n in range(5)
    ]
    summary = evaluate(made, "generation")
    values = {name: figure["value"] for name, figure in summary["metrics"].items()}
    assert values["exact_match"] == 1
    assert values["bleu"] == pytest.approx(100)
    assert values["perplexity"] == pytest.approx(math.exp(2))
    assert summary["metrics"]["distinct_2"]["low"] is None
    assert summary["constant"]
    assert "report" not in summary


def test_one_row_has_values_but_no_bootstrap() -> None:
    summary = evaluate(rows(1.0, n=1), "classification")
    assert summary["metrics"]["macro_f1"]["low"] is None
    assert summary["metrics"]["accuracy"]["low"] < 1
    assert not summary["constant"]


def test_refusals() -> None:
    with pytest.raises(DataError, match="no rows"):
        evaluate([], "classification")
    with pytest.raises(DataError, match="no gold label"):
        evaluate([Prediction("a", "", "x", "")], "classification")
    with pytest.raises(SettingsError, match="likelihood"):
        evaluate(rows(0.5), "classification", ["perplexity"])
    with pytest.raises(SettingsError, match="did you mean"):
        evaluate(rows(0.5), "classification", ["acuracy"])


def test_compare_matches_rows_by_id() -> None:
    a, b = rows(0.95), rows(0.6, seed=2)
    difference = compare(a, list(reversed(b)), "accuracy")
    assert difference == compare(a, b, "accuracy")
    assert difference.decided
    with pytest.raises(DataError, match="different rows"):
        compare(a, b[1:], "accuracy")
    with pytest.raises(DataError, match="right answers"):
        compare(a, [*b[:-1], Prediction(b[-1].id, "", "bad", "bad")], "accuracy")


def test_the_table_and_the_sentence() -> None:
    a, b = rows(0.95), rows(0.6, seed=2)
    systems = {"prompt": evaluate(b, "classification"), "foreword": evaluate(a, "classification")}
    text = render(systems, compare(a, b, "accuracy"))
    lines = text.splitlines()
    assert lines[0].split() == ["prompt", "foreword", "always", "bad"]
    assert [line.rsplit(maxsplit=1)[1] for line in lines[1:3]] == ["50.0", "33.3"]
    assert lines[1].startswith("Accuracy (%)  ")
    assert "[" in lines[1]
    assert lines[-2].startswith("the foreword is better than the prompt: Accuracy +")
    assert lines[-2].endswith(", paired, 100 rows)")  # how it was tested stands below
    assert lines[-1].startswith("Paired difference in Accuracy (%): +")
    assert lines[-1].endswith("; McNemar's test, mid-p, p < 0.001; 100 rows).")
    assert text.endswith("\n")
    assert all(line == line.rstrip() for line in lines)
    assert " points (95% interval +" in lines[-2]
    assert "cannot be told from" in sentence(compare(a, a, "accuracy"))
    assert "is worse than" in sentence(compare(b, a, "accuracy"))
    constant = evaluate([Prediction(str(n), "", "bad", "good") for n in range(3)], "classification")
    assert "warning: prompt gives the same answer" in render({"prompt": constant})


def test_figures_for_people() -> None:
    assert figure_text("accuracy", 0.8767) == "87.7"
    assert figure_text("bleu", 12.345, signed=True) == "+12.35"
    assert figure_text("perplexity", 7.0) == "7.00"
    assert figure_text("distinct_1", None) == "-"
    assert figure_text("perplexity", math.inf) == "inf"
    assert [heading(name) for name in ("accuracy", "bleu", "perplexity")] == ["Accuracy (%)", "BLEU", "Perplexity"]


def test_a_hopeless_perplexity_has_no_interval_and_a_broken_one_is_refused() -> None:
    def made(nll: float) -> list[Prediction]:
        return [Prediction(str(n), "", "a", "a", scores={GOLD_NLL: nll, GOLD_TOKENS: 1.0}) for n in range(3)]

    figure = evaluate(made(1e6), "generation", ["perplexity"])["metrics"]["perplexity"]
    assert figure["value"] == math.inf
    assert figure["low"] is None
    with pytest.raises(DataError, match="row 1: the likelihood"):
        evaluate(made(math.nan), "generation", ["perplexity"])
