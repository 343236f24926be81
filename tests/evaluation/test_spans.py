"""Spans of tags and their metrics, against examples worked out by hand."""

from __future__ import annotations

import random

import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score  # type: ignore[import-untyped]

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.metrics.spans import all_alike, span_report, spans
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import compare, evaluate


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-a I-a O B-b", [("a", 0, 2), ("b", 3, 4)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("B-a I-b I-b", [("a", 0, 1), ("b", 1, 3)]),  # another type begins a span
        ("I-a I-a O I-a", [("a", 0, 2), ("a", 3, 4)]),  # so does an I- behind nothing
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
        ("NOUN NOUN VERB", [("NOUN", 0, 2), ("VERB", 2, 3)]),
    ],
)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == expected


# seqeval's own example: one of two spans found, with the wrong end of the other.
GOLDS = ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"]
SAID = ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"]


def test_figures_by_hand() -> None:
    figures = {name: get_metric(name).corpus(SAID, GOLDS) for name in ("span_f1", "span_precision", "span_recall")}
    assert figures == {"span_f1": 0.5, "span_precision": 0.5, "span_recall": 0.5}
    assert get_metric("token_accuracy").corpus(SAID, GOLDS) == pytest.approx(8 / 10)
    # 3 said, 1 right, 2 gold: precision 1/3, recall 1/2, F1 2/5.
    assert get_metric("span_f1").corpus(["B-a O B-b B-b"], ["B-a O B-b I-b"]) == pytest.approx(2 / 5)
    assert get_metric("span_f1").corpus(["O"], ["O"]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_random_tags_score_as_seqeval_says(seed: int) -> None:
    """Broken sequences among them: an I- behind nothing, behind another type, rows without a span, rows of one word."""
    rng = random.Random(seed)
    tags = ["O", "B-a", "I-a", "B-b", "I-b"]
    golds = [rng.choices(tags, k=rng.randint(1, 12)) for _ in range(60)]
    outputs = [[tag if rng.random() < 0.7 else rng.choice(tags) for tag in row] for row in golds]
    columns = [" ".join(row) for row in outputs], [" ".join(row) for row in golds]
    theirs = {"span_f1": f1_score, "span_precision": precision_score, "span_recall": recall_score}
    for name, score in theirs.items():
        assert get_metric(name).corpus(*columns) == pytest.approx(score(golds, outputs)), name
    by_type = classification_report(golds, outputs, output_dict=True)
    for kind, figures in span_report(*columns)["classes"].items():
        assert figures["f1"] == pytest.approx(by_type[kind]["f1-score"])
        assert figures["support"] == by_type[kind]["support"]


def test_rows_without_words_or_spans() -> None:
    assert get_metric("span_f1").corpus(["", "O"], ["", "O"]) == 0
    assert get_metric("token_accuracy").corpus(["", "O"], ["", "O"]) == 1
    assert get_metric("token_accuracy").corpus([""], [""]) == 0
    assert get_metric("span_recall").corpus(["O O"], ["B-a I-a"]) == 0
    assert get_metric("span_precision").corpus(["B-a O"], ["O O"]) == 0


def test_report_by_type() -> None:
    report = span_report(SAID, GOLDS)
    assert report["labels"] == ["MISC", "PER"]
    assert report["classes"]["MISC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert report["classes"]["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}


def predictions(outputs: list[str]) -> list[Prediction]:
    return [Prediction(str(i), "", o, g) for i, (o, g) in enumerate(zip(outputs, GOLDS * 10, strict=True))]


def test_a_summary_has_intervals_and_types() -> None:
    summary = evaluate(predictions(SAID * 10), "tagging")
    figure = summary["metrics"]["span_f1"]
    assert figure["low"] < 0.5 < figure["high"]
    assert list(summary["report"]["classes"]) == ["MISC", "PER"]
    assert not summary["constant"]
    assert evaluate(predictions([" ".join("O" for _ in g.split()) for g in GOLDS * 10]), "tagging")["constant"]
    difference = compare(predictions(GOLDS * 10), predictions(SAID * 10), "span_f1")
    assert difference.estimate == pytest.approx(0.5)
    assert difference.decided


def test_other_numbers_of_tags_are_refused() -> None:
    with pytest.raises(DataError, match="number of tags"):
        get_metric("span_f1").corpus(["O"], ["O O"])
    assert all_alike(["O O", "O"])
    assert not all_alike(["O O", "B-x"])
