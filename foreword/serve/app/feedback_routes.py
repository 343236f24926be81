"""``POST /v1/feedback`` and what experiments have shown."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from foreword.serve.app.service import Service
from foreword.serve.engine.library import UnknownAnswerError

router = APIRouter(prefix="/v1")


class Feedback(BaseModel):
    """How good an answer was: ``score`` from 0 to 1; 1 and 0 for a thumb up or down; and what would have been right."""

    model_config = ConfigDict(extra="forbid")

    id: str
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None


@router.post("/feedback")
async def feedback(body: Feedback, request: Request) -> dict[str, Any]:
    """Count a score for the answer with this id; a correction stands in the log of requests, where there is one."""
    service: Service = request.app.state.service
    log = service.log
    logged = log is not None and await asyncio.to_thread(log.note, body.id, body.score, body.correction)
    if body.score is None or (logged and not service.experiments.gave(body.id)):
        if logged:
            return {"id": body.id, "logged": True}
        raise UnknownAnswerError(
            "feedback for an answer that is not in a log of requests", received=body.id[:80],
            hint="send a score for an answer of a split, or start the server with --request-log",
        )  # fmt: skip
    experiment = await asyncio.to_thread(service.experiments.feedback, body.id, body.score)
    return experiment.to_json()


@router.get("/experiments")
async def experiments(request: Request) -> dict[str, Any]:
    """Every split: scores, difference with its interval, and which is better, if that can be said."""
    service: Service = request.app.state.service
    splits = [experiment.to_json() for experiment in service.experiments.all()]
    return {"object": "list", "data": splits, "shadows": service.shadows.to_json()}
