"""``python -m foreword.studio.model_process SETTINGS``: a base that is asked with prompts while they are written.

Reads requests as JSON lines on standard input, writes JSON lines on standard output, and ends with its input. A request
that is not answered yet gives way to a newer one: somebody who types waits for the last version only.
"""

from __future__ import annotations

import json
import queue
import random
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.data.row import Row
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import label_ids
from foreword.errors import ForewordError
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import evaluate
from foreword.runs.prepare.base import find_base
from foreword.runs.prepare.ready_data import ready_data
from foreword.settings.layers import from_json
from foreword.studies.prompts.prompt_scorer import standing
from foreword.studies.prompts.variant import Variant

ROWS, AT_ONCE = 20, 4


@dataclass(frozen=True)
class Asked:
    """A base with the rows that it is asked about."""

    base: Base
    task: Task
    asker: Asker
    rows: tuple[Row, ...]
    train: tuple[Row, ...]


def open_base(settings: Mapping[str, Any]) -> Asked:
    """Load the base, and the first dev rows of the data."""
    request = from_json(settings).request()
    ready = ready_data(replace(request, skip_bad=True))
    base = find_base(str(request.base), dtype=request.settings.dtype, task_head=ready.task.masked)
    asker = Asker(base.model, base.tokenizer, ready.task, base.kind != "decoder")
    rows = ready.tables["dev"].rows if "dev" in ready.tables else ready.tables["train"].rows
    return Asked(base, ready.task, asker, tuple(rows[:ROWS]), tuple(ready.tables["train"].rows[:1000]))


def prompt_of(asked: Asked, request: Mapping[str, Any]) -> tuple[Asker, Foreword, int | None]:
    """The asker with the request's words, what stands in front, and the room for a row."""
    task = asked.task
    labels = request.get("labels") or dict(task.verbalizer)
    variant = Variant(request["guidance"], request["template"], {label: labels[label] for label in task.verbalizer})
    asker = replace(asked.asker, task=variant.asked(task, {}))
    if task.verbalizer:
        label_ids(asker.task, asker.tokenizer)
    lead = asker.lead(Foreword(text=asker.task.guidance))
    return (
        asker,
        standing(asker, asker.task.guidance),
        None if asked.base.context is None else asked.base.context - len(lead),
    )


def answers(asked: Asked, request: Mapping[str, Any], newer: Callable[[], bool]) -> dict[str, Any]:
    """Answers to the rows, some at a time; stops where a newer request has come."""
    asker, value, room = prompt_of(asked, request)
    examples = asker.encoder(None).encode(asked.rows, max_length=room)
    found: list[Prediction] = []
    for start in range(0, len(examples), AT_ONCE):
        if newer():
            return {"cancelled": True}
        found += asker.answer(value, examples[start : start + AT_ONCE])
    figures = evaluate(found, asker.task.kind, [asker.task.metric], asker.task.labels)
    metric = asker.task.metric
    return {"rows": [_shown(one) for one in found], "metric": metric, "figure": figures["metrics"].get(metric)}


def _shown(prediction: Prediction) -> dict[str, Any]:
    right = prediction.output in (prediction.references or (prediction.gold,))
    return {"input": prediction.input, "gold": prediction.gold, "output": prediction.output, "right": right}


def tokens(asked: Asked, request: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the model reads it, token by token: the prompt's, the row's own, and those of the answer."""
    asker, _, room = prompt_of(asked, request)
    row = asked.train[random.Random(int(request.get("row", 0))).randrange(len(asked.train))]
    example = next(iter(asker.encoder(None).encode([row], max_length=room)))
    lead = asker.lead(Foreword(text=asker.task.guidance))
    parts = {"prompt": lead, "row": example.input_ids, "answer": _answer_ids(asker, example)}
    pieces = [{"kind": kind, "text": text} for kind, ids in parts.items() for text in _pieces(asker.tokenizer, ids)]
    return {"pieces": pieces, "counts": {kind: len(ids) for kind, ids in parts.items()}}


def _answer_ids(asker: Asker, example: Example) -> tuple[int, ...]:
    if example.target_ids or example.gold < 0 or asker.task.head:
        return tuple(example.target_ids)
    return tuple(label_ids(asker.task, asker.tokenizer)[example.gold][0])


def _pieces(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    """The text of each token; those that are a part of a character show as its bytes."""
    return ["▢" if token < 0 else tokenizer.decode([token]) for token in ids]


def serve_lines() -> int:
    """Answer requests until the input ends."""
    out, sys.stdout = sys.stdout, sys.stderr
    waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            waiting.put(json.loads(line))
        waiting.put(None)

    def tell(value: Mapping[str, Any]) -> None:
        out.write(json.dumps(value, ensure_ascii=True, default=str) + "\n")
        out.flush()

    try:
        asked = open_base(json.loads(sys.argv[1]))
    except ForewordError as error:
        tell({"id": 0, **error.to_json()})
        return error.exit_code
    tell({"id": 0, "ready": True, "task": asked.task.to_json()})
    threading.Thread(target=read, daemon=True).start()
    known: dict[str, dict[str, Any]] = {}
    while (request := waiting.get()) is not None:
        key = json.dumps({name: request.get(name) for name in ("guidance", "template", "labels")}, sort_keys=True)
        try:
            if request["op"] == "tokens":
                result = tokens(asked, request)
            else:
                result = known.get(key) or answers(asked, request, lambda: not waiting.empty())
                if "cancelled" not in result:
                    known[key] = result
        except ForewordError as error:
            result = error.to_json()
        tell({"id": request["id"], **result})
    return 0


if __name__ == "__main__":
    sys.exit(serve_lines())
