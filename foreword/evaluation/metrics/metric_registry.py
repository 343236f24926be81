"""The registry of metrics, and the per-class report.

A reference is one text or a sequence of texts (any of them counts); labels have one.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

from foreword.errors import DataError, SettingsError
from foreword.evaluation.metrics import label_f1, spans, text_overlap
from foreword.evaluation.statistics.sufficient_statistics import MACRO_F1, PERPLEXITY, Array, SumStatistic, mean_of
from foreword.messages import Message

Kind = Literal["classification", "multilabel", "generation", "tagging"]


@dataclass(frozen=True)
class Metric:
    """One figure for a set of answers.

    Args:
        name: its name in settings and reports.
        title: its name for people.
        better: which direction is better.
        kind: the kind of task that it is for by default.
        top: the best possible value: 1, 100, or 1 for perplexity (its lowest).
        sums: the formula, for metrics whose rows add up (all but distinct-n).
        whole: the formula over all outputs, for the others.
        form: ``proportion`` (mean of 0 and 1 a row), ``mean`` (of a figure a row), or ``corpus``.
    """

    name: str
    title: str
    better: Literal["higher", "lower"]
    kind: Kind
    top: float
    sums: SumStatistic | None = None
    whole: Callable[[Sequence[str]], float] | None = None
    form: Literal["proportion", "mean", "corpus"] = "corpus"

    @property
    def widest(self) -> float:
        """The largest difference that there can be."""
        return math.inf if self.name == "perplexity" else self.top

    def rows(self, outputs: Sequence[Any], references: Sequence[Any]) -> Array:
        """Statistics ``[N, S]`` that add up. Raises DataError for no rows, SettingsError for distinct-n."""
        if len(outputs) != len(references):
            raise DataError("outputs and references differ in number", expected=len(references), received=len(outputs))
        if not len(outputs):
            raise DataError("there are no rows to evaluate", hint="give a file with at least one row")
        if self.sums is None:
            raise SettingsError(
                Message("{name} has no interval and no paired difference", name=self.name), hint="use another metric"
            )
        return self.sums.rows(outputs, references)

    def score(self, sums: Array) -> Array:
        """Sums ``[..., S]`` -> scores ``[...]``."""
        if self.sums is None:
            raise SettingsError(Message("{name} is not a sum over rows", name=self.name), hint="use corpus()")
        return self.sums.score(sums)

    def corpus(self, outputs: Sequence[Any], references: Sequence[Any]) -> float:
        """The figure over all rows. Raises DataError when there are none, or when the numbers of rows differ."""
        if self.whole is not None:
            return self.whole(outputs)
        return float(self.score(self.rows(outputs, references).sum(axis=0)))

    def per_row(self, outputs: Sequence[Any], references: Sequence[Any]) -> Array | None:
        """One figure a row ``[N]`` whose mean is the corpus figure; None for corpus metrics."""
        return None if self.form == "corpus" else self.rows(outputs, references)[:, 0]


def _equal(output: str, references: list[str]) -> float:
    return float(output in references)


def _same_text(output: str, references: list[str]) -> float:
    """Equal but for the white space around and between words, the width of characters (``，`` is ``,``) and how accents
    are written (NFC or NFD)."""
    said = _plain(output)
    return float(any(said == _plain(text) for text in references))


# Full-width forms to the ASCII ones, and the Chinese full stop to a point.
_NARROW = {0xFF01 + place: 0x21 + place for place in range(94)} | {0x3000: 0x20, 0x3002: 0x2E}


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.translate(_NARROW)).split())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy", "higher", "classification", 1, mean_of(_equal), form="proportion"),
        Metric("macro_f1", "Macro F1", "higher", "classification", 1, MACRO_F1),
        # With one label a row, every miss is one false positive and one false negative: micro F1 is accuracy.
        Metric("micro_f1", "Micro F1", "higher", "classification", 1, mean_of(_equal), form="proportion"),
        Metric("labels_micro_f1", "Micro F1 of labels", "higher", "multilabel", 1, label_f1.LABELS_MICRO_F1),
        Metric("labels_macro_f1", "Macro F1 of labels", "higher", "multilabel", 1, label_f1.LABELS_MACRO_F1),
        Metric("labels_exact", "All labels right", "higher", "multilabel", 1, label_f1.LABELS_EXACT, form="proportion"),
        Metric("exact_match", "Exact match", "higher", "generation", 1, mean_of(_same_text), form="proportion"),
        Metric("token_f1", "Token F1", "higher", "generation", 1, text_overlap.rouge_n(1), form="mean"),
        Metric("bleu", "BLEU", "higher", "generation", 100, text_overlap.bleu()),
        Metric("bleu_e2e", "BLEU (E2E)", "higher", "generation", 100, text_overlap.bleu(lowercase=True, smooth="none")),
        Metric("chrf", "chrF", "higher", "generation", 100, text_overlap.chrf()),
        Metric("rouge_1", "ROUGE-1", "higher", "generation", 1, text_overlap.rouge_n(1), form="mean"),
        Metric("rouge_2", "ROUGE-2", "higher", "generation", 1, text_overlap.rouge_n(2), form="mean"),
        Metric("rouge_l", "ROUGE-L", "higher", "generation", 1, text_overlap.rouge_l(), form="mean"),
        Metric("distinct_1", "Distinct-1", "higher", "generation", 1, whole=text_overlap.distinct(1)),
        Metric("distinct_2", "Distinct-2", "higher", "generation", 1, whole=text_overlap.distinct(2)),
        Metric("span_f1", "Span F1", "higher", "tagging", 1, spans.SPAN_F1),
        Metric("span_precision", "Span precision", "higher", "tagging", 1, spans.SPAN_PRECISION),
        Metric("span_recall", "Span recall", "higher", "tagging", 1, spans.SPAN_RECALL),
        Metric("token_accuracy", "Token accuracy", "higher", "tagging", 1, spans.TOKEN_ACCURACY),
        Metric("perplexity", "Perplexity", "lower", "generation", 1, PERPLEXITY),
    )
}
"""Every metric by name. Perplexity takes total nats a row as outputs and token counts as references."""

DEFAULT_METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "multilabel": ("labels_micro_f1", "labels_macro_f1", "labels_exact"),
    "generation": ("exact_match", "token_f1", "bleu", "chrf", "rouge_l", "distinct_2"),
    "tagging": ("span_f1", "span_precision", "span_recall", "token_accuracy"),
}
"""What is reported when nothing else is asked for, by kind of task."""

OTHER = "(other)"
"""The column of answers that are none of the labels."""


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises SettingsError with the nearest name."""
    if name in METRICS:
        return METRICS[name]
    near = get_close_matches(name.lower().replace("-", "_"), METRICS, n=1)
    raise SettingsError(
        Message("no metric is called {name!r}", name=name),
        expected=", ".join(METRICS),
        hint=Message("did you mean {value!r}?", value=near[0]) if near else None,
    )


def moves(metric: Metric, references: Sequence[Any]) -> bool:
    """Whether right answers score above 0: BLEU of references of one to three words is 0 whatever is answered."""
    if metric.sums is None or metric.name == "perplexity" or not len(references):
        return True
    right = [reference if isinstance(reference, str) else reference[0] for reference in references]
    return metric.corpus(right, references) > 0


def classification_report(outputs: Sequence[str], golds: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support a class, and the confusion matrix.

    Args:
        outputs, golds: one label a row.
        labels: the classes in the order to show.

    Returns ``{"labels": [..], "classes": {label: {precision, recall, f1, support}}, "confusion": [[..]]}``:
    rows of the matrix are golds, columns outputs, both in the order of ``labels`` in the result, which ends
    with "(other)" when something else occurs.
    """
    names = list(dict.fromkeys(labels))
    known = set(names)
    if OTHER not in known and any(label not in known for label in (*outputs, *golds)):
        names.append(OTHER)
    place = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    for output, gold in zip(outputs, golds, strict=True):
        matrix[place[gold if gold in known else OTHER], place[output if output in known else OTHER]] += 1
    classes = {}
    for name in dict.fromkeys(labels):
        hit, said, support = (int(matrix[place[name], place[name]]), matrix[:, place[name]], matrix[place[name]])
        classes[name] = {
            "precision": _share(hit, int(said.sum())),
            "recall": _share(hit, int(support.sum())),
            "f1": _share(2 * hit, int(said.sum() + support.sum())),
            "support": int(support.sum()),
        }
    return {"labels": names, "classes": classes, "confusion": matrix.tolist()}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
