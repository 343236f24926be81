"""``/v1/classify`` and ``/v1/tag``: labels with their probabilities, all of a row's in one pass."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from foreword.data.task.label_sets import joined
from foreword.data.task.tagging import words_of
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.errors import SettingsError
from foreword.serve.app.service import Service, unless_gone
from foreword.serve.engine.jobs import Scored
from foreword.serve.engine.prompting import fields_of_text, row_of
from foreword.serve.engine.served import Served
from foreword.serve.wire.requests import ClassifyRequest, TagRequest
from foreword.serve.wire.responses import read_usage

router = APIRouter(prefix="/v1")


@router.post("/classify", response_model=None)
async def classify(body: ClassifyRequest, request: Request) -> Response:
    """The label of each row (its labels, where it may have several), and the probability of every label."""
    service: Service = request.app.state.service
    answer_id = f"labels-{secrets.token_hex(12)}"
    served = await _asked(request, body.model, answer_id, "classification", "multilabel")
    items = body.input if isinstance(body.input, list) else [body.input]
    fields = [fields_of_text(served.task, item) if isinstance(item, str) else item for item in items]
    examples, answers = await _scored(request, served, fields)
    data, fitted = [], service.calibration(served.name)
    for index, answer in enumerate(answers):
        if served.task.kind == "multilabel":
            data.append({"index": index, **_several(served.task, answer.probabilities)})
            continue
        shares = answer.probabilities if fitted is None else fitted.of(answer.probabilities)
        label = max(shares, key=shares.__getitem__)
        data.append({"index": index, "label": label, "probability": shares[label], "probabilities": shares})
    for number, (row, entry) in enumerate(zip(fields, data, strict=True)):
        # An id for each row: that of the request for its first.
        name = f"{answer_id}-{number}" if number else answer_id
        await service.answered(name, served, row, str(entry["label"]))
    return JSONResponse(_body(answer_id, served, examples, data))


@router.post("/tag", response_model=None)
async def tag(body: TagRequest, request: Request) -> Response:
    """A tag for each word of each row."""
    answer_id = f"tags-{secrets.token_hex(12)}"
    served = await _asked(request, body.model, answer_id, "tagging")
    items = body.input if isinstance(body.input, list) else [body.input]
    name = served.task.words
    fields = [item if isinstance(item, dict) else {name: item} for item in items]
    examples, answers = await _scored(request, served, fields)
    data = [
        {
            "index": index,
            "words": words_of(row[name]),
            "tags": [label for label, _ in answer.tags],
            "probabilities": [share for _, share in answer.tags],
        }
        for index, (row, answer) in enumerate(zip(fields, answers, strict=True))
    ]
    return JSONResponse(_body(answer_id, served, examples, data))


def _several(task: Task, probabilities: Mapping[str, float]) -> dict[str, Any]:
    """The labels above their thresholds, where a row may have several: ``label`` has them in one text."""
    labels = [label for label in task.labels if probabilities[label] > task.threshold(label)]
    return {"label": joined(labels), "labels": labels, "probabilities": probabilities}


async def _asked(request: Request, model: str, answer_id: str, *kinds: str) -> Served:
    service: Service = request.app.state.service
    served = await service.foreword(model, answer_id)
    if served.task.kind not in kinds:
        routes = {"classification": "/v1/classify", "multilabel": "/v1/classify", "tagging": "/v1/tag"}
        hint = f"POST {routes.get(served.task.kind, '/v1/chat/completions')}"
        raise SettingsError(
            f"{model} is no foreword for {kinds[0]}", where="model", received=served.task.kind, hint=hint
        )
    return served


async def _scored(
    request: Request, served: Served, fields: Sequence[dict[str, Any]]
) -> tuple[list[Example], list[Scored]]:
    service: Service = request.app.state.service
    first_k = service.library.entry(served.name).first_k
    examples = await asyncio.to_thread(lambda: [row_of(served, row, first_k) for row in fields])
    answers = await unless_gone(request, service.scored(served, examples), service.settings.request_seconds)
    return examples, answers


def _body(answer_id: str, served: Served, examples: Sequence[Example], data: list[dict[str, Any]]) -> dict[str, Any]:
    lead = len(served.head.lead)
    read = sum(len(example.input_ids) + lead for example in examples)
    cached = served.value.num_virtual_tokens * len(examples)
    return {"id": answer_id, "object": "list", "model": served.name, "data": data, "usage": read_usage(read, cached)}
