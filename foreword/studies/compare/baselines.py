"""What needs no language model: whoever cannot beat these should not deploy one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from foreword.data.quality.split import input_text
from foreword.data.row import references
from foreword.data.table import Table
from foreword.data.task.label_sets import joined
from foreword.data.task.tagging import words_of
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.runs.prepare.prepare import Prepared

# Strengths of the regularisation that dev chooses from; weak ones suit few rows and many words.
_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def baselines(prepared: Prepared) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> how to get its predictions on dev and test, its dev score, and what was chosen on dev."""
    kind, metric = prepared.task.kind, prepared.task.metric
    if kind == "classification":
        return {"majority": lambda: majority(prepared), "tfidf": lambda: tfidf(prepared)}
    if kind == "multilabel":
        return {"majority": lambda: majority(prepared), "nearest": lambda: nearest(prepared)}
    if kind == "tagging":
        return {"one_tag": lambda: one_tag(prepared), "word_tags": lambda: word_tags(prepared)}
    # A copied answer has no likelihood.
    if metric == "perplexity":
        return {}
    return {"nearest": lambda: nearest(prepared)}


def _texts(table: Table) -> list[str]:
    return [input_text(table, index) for index in range(len(table.rows))]


def _golds(table: Table) -> list[str]:
    if table.layout.kind == "multilabel":
        return [joined(references(row.fields.get(table.layout.target))) for row in table.rows]
    return [(references(row.fields.get(table.layout.target)) or ("",))[0] for row in table.rows]


def _predictions(prepared: Prepared, split: str, outputs: Sequence[str], seconds: float) -> list[Prediction]:
    rows = prepared.examples.get(split, [])
    texts = _texts(prepared.tables[split])
    each = 1000 * seconds / max(1, len(rows))
    return [
        Prediction(row.id, text, output, row.reference, ms=each, references=row.references)
        for row, text, output in zip(rows, texts, outputs, strict=True)
    ]


def _found(prepared: Prepared, say: Callable[[Table], Sequence[str]], values: int, **chosen: Any) -> dict[str, Any]:
    """Predictions on both splits, and the score on dev."""
    out: dict[str, Any] = {"predictions": {}, "values": values, "chosen": chosen}
    for split in ("dev", "test"):
        if split in prepared.tables:
            began = time.perf_counter()
            outputs = say(prepared.tables[split])
            out["predictions"][split] = _predictions(prepared, split, outputs, time.perf_counter() - began)
    metric, dev = get_metric(prepared.task.metric), out["predictions"]["dev"]
    figure = metric.corpus([p.output for p in dev], [p.accepted for p in dev])
    return {**out, "dev": figure if metric.better == "higher" else -figure}


def majority(prepared: Prepared) -> dict[str, Any]:
    """Always the label that is most frequent in training."""
    label = Counter(_golds(prepared.tables["train"])).most_common(1)[0][0]
    return _found(prepared, lambda table: [label] * len(table), 0, label=label)


def _tagged(prepared: Prepared) -> list[tuple[str, str]]:
    """Every word of the training rows with its tag."""
    table, words = prepared.tables["train"], prepared.task.words
    return [
        pair
        for row in table.rows
        for pair in zip(words_of(row.fields[words]), words_of(row.fields[prepared.task.target]), strict=True)
    ]


def _commonest(tags: Iterable[str]) -> str:
    return Counter(tags).most_common(1)[0][0]


def one_tag(prepared: Prepared) -> dict[str, Any]:
    """Every word the tag that is most frequent in training."""
    tag, words = _commonest(tag for _, tag in _tagged(prepared)), prepared.task.words

    def say(table: Table) -> list[str]:
        return [" ".join([tag] * len(words_of(row.fields[words]))) for row in table.rows]

    return _found(prepared, say, 0, tag=tag)


def word_tags(prepared: Prepared) -> dict[str, Any]:
    """Every word the tag that it had most often in training; one that was not there as it is in lower case, and else
    the most frequent tag."""
    seen, words = _tagged(prepared), prepared.task.words
    other = _commonest(tag for _, tag in seen)
    known: dict[str, list[str]] = {}
    for word, tag in seen:
        for form in dict.fromkeys((word, word.lower())):
            known.setdefault(form, []).append(tag)
    tags = {word: _commonest(found) for word, found in known.items()}

    def say(table: Table) -> list[str]:
        rows = [words_of(row.fields[words]) for row in table.rows]
        return [" ".join(tags.get(word, tags.get(word.lower(), other)) for word in row) for row in rows]

    return _found(prepared, say, len(tags), other=other)


def tfidf(prepared: Prepared) -> dict[str, Any]:
    """Logistic regression on TF-IDF of words or of characters; dev chooses which, and how strongly to regularise."""
    from sklearn.linear_model import LogisticRegression

    train, dev = prepared.tables["train"], prepared.tables["dev"]
    best: tuple[float, Any, Any, dict[str, Any]] | None = None
    metric = get_metric(prepared.task.metric)
    for analyzer in ("word", "char_wb"):
        vectors = _vectoriser(analyzer)
        table = vectors.fit_transform(_texts(train))
        shown = vectors.transform(_texts(dev))
        for strength in _STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=1000, random_state=0).fit(table, _golds(train))
            score = metric.corpus(model.predict(shown).tolist(), _golds(dev))
            if best is None or score > best[0]:
                best = score, vectors, model, {"analyzer": analyzer, "C": strength}
    assert best is not None
    _, vectors, model, chosen = best
    return _found(
        prepared,
        lambda table: model.predict(vectors.transform(_texts(table))).tolist(),
        int(model.coef_.size),
        **chosen,
    )


def _vectoriser(analyzer: str) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Single characters are words, too: without this pattern Chinese text has none.
    pattern = r"(?u)\w+"
    if analyzer == "word":
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern)
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)


def nearest(prepared: Prepared) -> dict[str, Any]:
    """The answer of the training row whose input is most alike, by TF-IDF of characters."""
    train = prepared.tables["train"]
    vectors, answers = _vectoriser("char_wb"), _golds(train)
    table = vectors.fit_transform(_texts(train))

    def say(other: Table) -> list[str]:
        alike = vectors.transform(_texts(other)) @ table.T
        return [answers[int(place)] for place in alike.argmax(axis=1).A1] if len(other) else []

    return _found(prepared, say, 0)
