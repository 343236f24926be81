"""Exports: a foreword in another engine's format, verified where that engine is installed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.studio import processes
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.run_folders import RunFolder, find_run
from foreword.studio.workspace import NotThere

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]
FORMATS = (("peft", "PEFT"), ("llamacpp", "llama.cpp"), ("vllm", "vLLM"), ("mlx", "MLX-LM"))
VERIFY = "verify"
_JOBS, _FILES = "exports", "files"


def job(run: RunFolder, kind: str) -> Path:
    """The folder of an export's process. Raises SettingsError for an unknown format."""
    if kind not in (*dict(FORMATS), VERIFY):
        raise SettingsError("there is no such format", received=kind)
    return run.folder / _JOBS / kind


@router.get("/runs/{name}/export")
def export_page(request: Request, name: str, part: bool = False) -> Response:
    """What was exported, and how far the rest is."""
    run = find_run(workspace(request), name)
    found = [_state(run, kind, title) for kind, title in (*FORMATS, (VERIFY, ""))]
    return page(
        request, "export_inner.html" if part else "export.html", run=run, record=run.record, tab="export", found=found,
        busy=any(one["running"] for one in found),
    )  # fmt: skip


def _state(run: RunFolder, kind: str, title: str) -> dict[str, Any]:
    folder = job(run, kind)
    running = processes.runs(folder)
    result = {} if running else processes.output(folder)
    return {
        "kind": kind, "title": title, "running": running, "result": result, "begun": bool(processes.record(folder)),
        "log": "" if running or result else processes.log_end(folder, 1000),
    }  # fmt: skip


@router.post("/runs/{name}/export")
def start(request: Request, name: str, form: Form) -> Response:
    """Export, or replay the file's golden rows."""
    run = find_run(workspace(request), name)
    kind = text_of(form, "format")
    folder = job(run, kind)
    if run.file is None:
        raise SettingsError("this run has no foreword", hint="wait until it has finished")
    folder.mkdir(parents=True, exist_ok=True)
    base = ["--base", str(run.record["base"])] if run.record.get("base") else []
    arguments = ["verify", str(run.file), *base, "--json"]
    if kind != VERIFY:
        check = ["--verify"] if text_of(form, "verify") else []
        arguments = [
            "export",
            str(run.file),
            "--output-dir",
            str(folder / _FILES),
            "--to",
            kind,
            *base,
            *check,
            "--json",
        ]
    processes.start(folder, "foreword", arguments)
    return RedirectResponse(f"/runs/{name}/export", 303)


@router.get("/runs/{name}/exports/{kind}.zip")
def download(request: Request, name: str, kind: str) -> Response:
    """The files of an export in one archive."""
    folder = job(find_run(workspace(request), name), kind) / _FILES
    if not folder.is_dir():
        raise NotThere(Message("there is no {name!r} here", name=f"{kind}.zip"))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(folder))
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{json.dumps(kind)[1:-1]}.zip"}
    return Response(content.getvalue(), media_type="application/zip", headers=headers)
