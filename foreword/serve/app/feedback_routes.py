"""``POST /v1/feedback`` and what experiments have shown."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from foreword.serve.app.service import Service

router = APIRouter(prefix="/v1")


class Feedback(BaseModel):
    """How good an answer was: ``score`` from 0 to 1; 1 and 0 for a thumb up or down."""

    model_config = ConfigDict(extra="forbid")

    id: str
    score: Annotated[float, Field(ge=0, le=1)]


@router.post("/feedback")
async def feedback(body: Feedback, request: Request) -> dict[str, Any]:
    """Count a score for the answer with this id."""
    service: Service = request.app.state.service
    experiment = await asyncio.to_thread(service.experiments.feedback, body.id, body.score)
    return experiment.to_json()


@router.get("/experiments")
async def experiments(request: Request) -> dict[str, Any]:
    """Every split: scores, difference with its interval, and which is better, if that can be said."""
    service: Service = request.app.state.service
    return {"object": "list", "data": [experiment.to_json() for experiment in service.experiments.all()]}
