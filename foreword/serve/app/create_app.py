"""The application: routes, gate, errors, and what starts and stops with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from foreword.core.base.load import Base
from foreword.errors import ForewordError
from foreword.serve.app import feedback_routes, label_routes, model_routes, write_routes
from foreword.serve.app.docs_page import docs_page
from foreword.serve.app.keys import KeyRing, read_keys
from foreword.serve.app.request_gate import Gate
from foreword.serve.app.service import Service
from foreword.serve.app.settings import ServeSettings
from foreword.serve.wire.api_errors import ApiError, api_error

log = logging.getLogger("foreword.serve")
FINISH_SECONDS = 30.0


def create_app(base: Base, settings: ServeSettings) -> FastAPI:
    """An ASGI application that serves ``settings.files`` on ``base``.

    Raises:
        ForewordError: a file, a key file or a setting that cannot be.
    """
    ring = KeyRing(None if settings.keys is None else read_keys(settings.keys), settings.requests_a_minute)
    service = Service(base, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.watch())
        with model_routes.uploads_folder() as folder:
            app.state.uploads = Path(folder)
            try:
                yield
            finally:
                watching.cancel()
                # Rows that run finish: their clients still wait.
                await asyncio.to_thread(service.engine.stop, True, FINISH_SECONDS)

    app = FastAPI(
        title="foreword", summary="One base, many forewords.", lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    for routes in (write_routes, label_routes, feedback_routes, model_routes):
        app.include_router(routes.router)
    app.add_api_route("/docs", lambda: HTMLResponse(docs_page(app.openapi())), include_in_schema=False)
    app.add_middleware(Gate, settings=settings, ring=ring)
    for kind in (ForewordError, ApiError, Exception):
        app.add_exception_handler(kind, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


def _answer(request: Request, error: ApiError) -> JSONResponse:
    request.app.state.service.metrics.errors.labels(str(error.status)).inc()
    return JSONResponse(error.body(), error.status, error.headers())


async def _failed(request: Request, error: Exception) -> JSONResponse:
    refusal = api_error(error)
    if refusal.code == "internal_error":
        log.error("failed", exc_info=error)
    return _answer(request, refusal)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    """A body that is not what it should be: the first field that is wrong."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "this server has no such option"
    if first["type"] == "json_invalid":
        return _answer(request, ApiError(400, "the body is not JSON", "invalid_json"))
    return _answer(request, ApiError(400, f"{place[:200]}: {message[:500]}", "invalid_value", place[:200]))


async def _http(request: Request, error: Any) -> JSONResponse:
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    return _answer(request, ApiError(error.status_code, str(error.detail), codes.get(error.status_code, "http")))
