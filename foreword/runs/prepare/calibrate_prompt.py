"""Contextual calibration: what a prompt says when it is asked about nothing (Zhao et al. 2021, "Calibrate before use").

A prompt leans towards some labels whatever the row says. Rows without content show how much; that is taken off every
score, in training too, so that learning starts from the calibrated prompt and the file carries the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace

from foreword.core.inject.value import Foreword
from foreword.data.row import Row, Source
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.errors import SettingsError
from foreword.evaluation.predict import Asker

CONTENT_FREE = ("N/A", "", "[MASK]")
"""What stands in every field of a row without content, one row each; the paper's three."""


def calibrated(asker: Asker) -> Task:
    """The asker's task with what the untrained prompt says without content, averaged over ``CONTENT_FREE``.

    Raises:
        SettingsError: the task is no classification by words.
    """
    task = replace(asker.task, calibration={})
    if task.kind != "classification" or task.head:
        raise SettingsError(
            "calibrate is for labels that are said in words",
            where="calibrate",
            hint="leave it out for generation, and for a trained head",
        )
    names = parsed(task.template).fields
    rows = [Row(str(i), dict.fromkeys(names, text), Source("no content", i + 1)) for i, text in enumerate(CONTENT_FREE)]
    examples = asker.encoder().encode(rows, labelled=False)
    found = replace(asker, task=task).answer(Foreword(text=task.guidance), [one for one in examples if one.input_ids])
    mean = {label: math.log(sum(math.exp(one.scores[label]) for one in found) / len(found)) for label in task.labels}
    return replace(task, calibration=mean)
