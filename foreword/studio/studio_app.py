"""The application: pages, guard, errors; and a server that stays until it is told to stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import foreword.evaluation.report
from foreword.errors import ForewordError, SettingsError
from foreword.messages import languages
from foreword.studio import (
    compare_routes,
    data_routes,
    enter_routes,
    export_routes,
    prompt_routes,
    row_routes,
    run_routes,
    train_routes,
    try_routes,
)
from foreword.studio.guard import Guard
from foreword.studio.model_client import ModelClient
from foreword.studio.pages import THEMES, Forged, page
from foreword.studio.sessions import Sessions
from foreword.studio.settings import StudioSettings
from foreword.studio.workspace import NotThere, Workspace

_HERE = Path(__file__).parent
_SHARED = Path(foreword.evaluation.report.__file__).parent / "templates" / "report.css"
ROUTES = (
    data_routes,
    prompt_routes,
    compare_routes,
    train_routes,
    run_routes,
    row_routes,
    try_routes,
    export_routes,
    enter_routes,
)


def studio_app(settings: StudioSettings) -> FastAPI:
    """An ASGI application over ``settings.workspace``."""
    model = ModelClient()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        model.close()

    app = FastAPI(title="foreword studio", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.model = model
    app.state.settings, app.state.workspace = settings, Workspace(settings.workspace)
    app.state.sessions = Sessions(app.state.workspace.root)
    for routes in ROUTES:
        app.include_router(routes.router)
    app.add_api_route("/static/report.css", _report_css, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    app.add_api_route("/preferences", _preferences, include_in_schema=False)
    app.add_middleware(Guard, settings=settings, sessions=app.state.sessions)
    app.add_exception_handler(ForewordError, _failed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _http)
    app.add_exception_handler(Exception, _broken)
    return app


def _report_css() -> Response:
    """The look that reports and the studio share."""
    return Response(_SHARED.read_text(encoding="utf-8"), media_type="text/css")


def _preferences(request: Request, lang: str = "", theme: str = "") -> Response:
    """Switch the language or the colours, and go back to the page."""
    back = urlsplit(request.headers.get("referer", ""))
    there = back.path if back.netloc == request.headers.get("host") else "/"
    answer = RedirectResponse(f"{there}?{back.query}" if back.query else there, 303)
    if lang in ("en", *languages()):
        answer.set_cookie("lang", lang, max_age=31_536_000, samesite="strict")
    if theme in (*THEMES, "system"):
        answer.set_cookie("theme", theme, max_age=31_536_000, samesite="strict")
    return answer


async def _failed(request: Request, error: Exception) -> Response:
    """An error of ours: as a page, or as a notice on the page that is there."""
    assert isinstance(error, ForewordError)
    status = 404 if isinstance(error, NotThere) else 403 if isinstance(error, Forged) else 422
    return _said(request, error, status)


async def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 422
    problem = "there is no such page" if status in (404, 405) else "the studio cannot read this request"
    return _said(request, ForewordError(problem), status)


async def _broken(request: Request, error: Exception) -> Response:
    return _said(request, ForewordError("an error of the studio's own", hint="the terminal says more"), 500)


def _said(request: Request, error: ForewordError, status: int) -> Response:
    part = request.headers.get("hx-request") == "true"
    answer = page(request, "notice.html" if part else "failed.html", status, error=error)
    if part:
        answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "#notice", "innerHTML"
    return answer


def serve_studio(settings: StudioSettings, **told: Any) -> dict[str, Any]:
    """Serve the page until the process is told to stop; runs go on without it.

    Raises:
        SettingsError: the port is taken.
    """
    app = studio_app(settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}"
    if callable(told.get("ready")):
        told["ready"](url)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run()
    except SystemExit as error:
        raise SettingsError(
            "the studio could not start", where=url, hint="is the port taken? choose another --port"
        ) from error
    except KeyboardInterrupt:
        pass
    return {"url": url, "workspace": str(settings.workspace)}
