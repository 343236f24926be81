"""``/v1/models``, the forewords that come and go, health and metrics, and what is refused with a reason."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from foreword.serve.app.experiments import Experiment
from foreword.serve.app.service import Service
from foreword.serve.engine.library import BASE, Entry, checked_name
from foreword.serve.wire.api_errors import ApiError
from foreword.storage import write_atomically

router = APIRouter()


@router.get("/healthz")
async def health(request: Request) -> dict[str, Any]:
    """Whether the engine answers."""
    service: Service = request.app.state.service
    if not service.engine.alive:
        raise ApiError(503, "the engine has stopped", "stopping", retry=True)
    return {"status": "ok"}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The bare model and every foreword."""
    service: Service = request.app.state.service
    entries = [service.library.entry(name) for name in service.library.names()]
    splits = [_split(experiment) for experiment in service.experiments.all()]
    return {"object": "list", "data": [_bare(service), *(_listed(service, entry) for entry in entries), *splits]}


@router.get("/v1/models/{name}")
async def model(name: str, request: Request) -> dict[str, Any]:
    """One of them."""
    service: Service = request.app.state.service
    return _bare(service) if name == BASE else _listed(service, service.library.entry(name))


def _listed(service: Service, entry: Entry) -> dict[str, Any]:
    fitted = service.calibration(entry.name)
    return _model(entry) if fitted is None else {**_model(entry), "calibration": fitted.to_json()}


def _bare(service: Service) -> dict[str, Any]:
    return {"id": BASE, "object": "model", "created": 0, "owned_by": "base", "architecture": service.base.architecture}


def _model(entry: Entry) -> dict[str, Any]:
    manifest = entry.peek.manifest
    metrics = {name: record.model_dump(exclude_none=True) for name, record in manifest.metrics.items()}
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.stamp[0] // 10**9,
        "owned_by": "foreword",
        "method": manifest.method,
        "task": manifest.task.get("kind"),
        "virtual_tokens": entry.peek.num_virtual_tokens,
        "digest": entry.peek.digest,
        "metrics": metrics,
    }


def _split(experiment: Experiment) -> dict[str, Any]:
    behind = [experiment.a, experiment.b]
    return {"id": experiment.name, "object": "model", "created": 0, "owned_by": "split", "forewords": behind}


@router.post("/v1/forewords", response_model=None)
async def add(name: str, request: Request) -> Response:
    """Serve the ``.foreword`` file in the body under ``name`` until the server stops. Needs an admin key."""
    _admin(request)
    service: Service = request.app.state.service
    name, data = checked_name(name), await request.body()
    # The file's name on the disk is the server's own, made of the content.
    folder: Path = request.app.state.uploads
    entry = await asyncio.to_thread(_store, service, folder, name, data)
    return JSONResponse(_model(entry), 201)


def _store(service: Service, folder: Path, name: str, data: bytes) -> Entry:
    path = folder / f"{hashlib.sha256(data).hexdigest()}.foreword"
    write_atomically(path, data)
    return service.library.add(path, name)


@router.delete("/v1/forewords/{name}")
async def remove(name: str, request: Request) -> dict[str, Any]:
    """Serve a foreword no more; its file stays where it is. Needs an admin key."""
    _admin(request)
    service: Service = request.app.state.service
    service.library.remove(name)
    return {"id": name, "object": "model", "deleted": True}


def _admin(request: Request) -> None:
    if not request.state.key.admin:
        raise ApiError(403, "this needs an admin key", "admin_key_needed")


@router.post("/v1/embeddings", response_model=None)
async def embeddings() -> Response:
    """Refused: a causal model with a foreword gives no vectors that are worth comparing."""
    raise ApiError(
        400,
        "no embeddings here: forewords are trained to answer, and the base's states were never trained to be compared; "
        "use a model that was trained for embeddings",
        "embeddings_unsupported",
        "model",
    )


def uploads_folder() -> tempfile.TemporaryDirectory[str]:
    """Where uploaded files are while the server runs; only its owner can look into it."""
    folder = tempfile.TemporaryDirectory(prefix="foreword-")
    os.chmod(folder.name, 0o700)
    return folder
