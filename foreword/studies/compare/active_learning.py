"""Which rows to label next: those that the model is unsure of, and that are not alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from foreword.core.inject.value import Foreword
from foreword.data.readers.read import read
from foreword.data.row import canonical
from foreword.data.task.template import Template
from foreword.errors import SettingsError
from foreword.runs.prepare.prepare import Prepared, say_nothing
from foreword.storage import write_atomically

NAME = "label_next.jsonl"
# Of so many uncertain rows for each one that is named, the most different are taken.
_CANDIDATES = 5


def check_pool(prepared: Prepared, data: str) -> None:
    """Refuse before any work. Raises SettingsError where answers carry no probabilities of labels."""
    if prepared.task.kind != "classification":
        raise SettingsError(
            "which rows to label next is asked for a classification", where="--pool", received=prepared.task.kind
        )
    read(data, inputs=sorted(Template(prepared.task.template).fields - {"row"}), labelled=False)


def label_next(prepared: Prepared, data: str, value: Foreword, count: int, folder: Path) -> dict[str, Any]:
    """Write ``label_next.jsonl``, the most telling row first.

    Uncertainty is the entropy of the labels' probabilities; from the most uncertain rows those are taken that are
    farthest from each other, and from what was taken, by TF-IDF of characters.
    """
    fields = sorted(Template(prepared.task.template).fields - {"row"})
    table = read(data, inputs=fields, labelled=False)
    asker = prepared.asker
    encoder = asker.encoder(prepared.request.task_options.first_k)
    rows = encoder.encode(table.rows, max_length=prepared.base.context, labelled=False)
    report = prepared.request.progress or say_nothing
    answers = asker.answer(value, rows, lambda done, total: report("ask the pool", done, total))
    unsure = [-sum(math.exp(s) * s for s in one.scores.values()) for one in answers]
    ranked = sorted(range(len(answers)), key=lambda place: (-unsure[place], place))[: _CANDIDATES * count]
    texts = ["\n".join(str(table.rows[place].fields.get(name) or "") for name in fields) for place in ranked]
    chosen = [ranked[place] for place in _spread(texts, count)]
    lines = [
        canonical(
            {
                "id": table.rows[place].id,
                "where": str(table.rows[place].source),
                "fields": dict(table.rows[place].fields),
                "uncertainty": round(unsure[place], 6),
                "guess": answers[place].output,
                "probabilities": {name: round(math.exp(s), 6) for name, s in answers[place].scores.items()},
            }
        )
        for place in chosen
    ]
    write_atomically(folder / NAME, [f"{line}\n".encode("utf-8", "backslashreplace") for line in lines])
    return {"file": NAME, "rows": len(chosen), "pool": len(rows), "mean_uncertainty": sum(unsure) / max(1, len(unsure))}


def _spread(texts: list[str], count: int) -> list[int]:
    """Farthest first, beginning with the first text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(texts) <= 1 or not any(text.strip() for text in texts):
        return list(range(min(count, len(texts))))
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform(texts)
    chosen, near = [0], np.asarray((vectors @ vectors[0].T).todense()).ravel()
    while len(chosen) < min(count, len(texts)):
        near[chosen] = np.inf
        chosen.append(int(near.argmin()))
        near = np.maximum(near, np.asarray((vectors @ vectors[chosen[-1]].T).todense()).ravel())
    return chosen
