"""Contextual calibration: what the model says without any input is taken off its answers (Zhao et al. 2021).

A model prefers some label words to others whatever stands before them. Asked with nothing in the row, or with words
that say nothing, its answer is that preference; the labels' log-probabilities are lowered by it. The paper fits a
matrix that makes the content-free answer uniform; taking off the logarithms is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from foreword.core.value import Foreword
from foreword.data.batch import encode
from foreword.data.example import Row, Source
from foreword.data.template import Template
from foreword.evaluation.answers import Asker
from foreword.evaluation.predictions import Prediction

NOTHING = ("N/A", "[MASK]", "...")
"""Inputs that say nothing; the mean of the probabilities after them counts."""


def content_free(asker: Asker, value: Foreword, inputs: Sequence[str] = NOTHING) -> dict[str, float]:
    """log of the mean probability of each label over inputs that say nothing."""
    fields = Template(asker.task.template).fields - {"row"}
    rows = [Row(f"nothing-{i}", dict.fromkeys(fields, text), Source("", i)) for i, text in enumerate(inputs)]
    examples = encode(
        rows, asker.task, asker.tokenizer, special_tokens=asker.special_tokens, max_length=None, labelled=False
    )
    found = asker.answer(value, examples)
    means = {label: sum(math.exp(one.scores[label]) for one in found) / len(found) for label in asker.task.labels}
    return {label: math.log(max(mean, 1e-12)) for label, mean in means.items()}


def calibrated(one: Prediction, prior: dict[str, float]) -> Prediction:
    """The answer with the labels' preference taken off; scores are log-probabilities again."""
    raw = {label: score - prior[label] for label, score in one.scores.items()}
    top = max(raw.values())
    total = top + math.log(sum(math.exp(score - top) for score in raw.values()))
    scores = {label: score - total for label, score in raw.items()}
    output = max(scores, key=lambda label: scores[label])
    return replace(one, output=output, score=scores[output], scores=scores)
