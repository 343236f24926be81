"""Calibrated answers from those that were given: no row is asked a second time.

What a prompt says without content comes from runs/prepare/calibrate_prompt.py, as in training; here it is taken off the
scores of predictions that are there already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from foreword.evaluation.predictions import Prediction


def taken_off(one: Prediction, prior: Mapping[str, float]) -> Prediction:
    """The answer with each label's ``prior`` (log p without content) taken off; scores are log-probabilities again."""
    raw = {label: score - prior[label] for label, score in one.scores.items()}
    top = max(raw.values())
    total = top + math.log(sum(math.exp(score - top) for score in raw.values()))
    scores = {label: score - total for label, score in raw.items()}
    output = max(scores, key=lambda label: scores[label])
    return replace(one, output=output, score=scores[output], scores=scores)
