"""The runs: their list, one as it works, its report, its files; stop, resume, notes, the bin."""

from __future__ import annotations

import signal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.datastructures import FormData

from foreword.errors import ForewordError
from foreword.messages import Message
from foreword.settings.changed_settings import differences
from foreword.studio import processes
from foreword.studio.pages import checked_form, language, page, text_of, workspace
from foreword.studio.report_page import report_html
from foreword.studio.run_feed import events
from foreword.studio.run_folders import RunFolder, all_runs, find_run, resume_run
from foreword.studio.workspace import NotThere, disk_used

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]
FILES = ("model.foreword", "report.html", "report.md", "report.zh-CN.md", "report.json", "settings.yaml")


@router.get("/runs")
def run_list(request: Request, a: str = "", b: str = "") -> Response:
    """Every run; two of them side by side; what is in the bin."""
    held = workspace(request)
    runs = [(run, disk_used(run.folder)) for run in all_runs(held)]
    deleted = [(name, disk_used(held.folder("bin", name))) for name in held.names("bin")]
    pair = (find_run(held, a), find_run(held, b)) if a and b else None
    changed = list(differences(settings_of(pair[0]), settings_of(pair[1]))) if pair else []
    return page(request, "run_list.html", runs=runs, deleted=deleted, pair=pair, changed=changed, a=a, b=b)


def settings_of(run: RunFolder) -> dict[str, Any]:
    """A run's settings as they were recorded; what was asked for where it has not got that far."""
    import json

    for name in ("run.json", "compare.json", "search.json"):
        try:
            record = json.loads((run.inner / name).read_text(encoding="utf-8"))
            return dict(record["request"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


@router.get("/runs/{name}")
def show(request: Request, name: str) -> Response:
    """A run as it works, or what came of it."""
    run = find_run(workspace(request), name)
    report, state = run.report, run.state
    drawn: object = ""
    if report and state != "running":
        drawn = report_html(report, language(request))
    return page(
        request, "run.html", run=run, state=state, report=drawn, record=run.record, notes=run.notes, tab="run",
        files=[file for file in FILES if (run.inner / file).is_file()], log=held_log(request, run),
    )  # fmt: skip


def held_log(request: Request, run: RunFolder) -> str:
    """The end of a run's log, without the workspace's place."""
    return workspace(request).shown(processes.log_end(run.folder))


@router.get("/runs/{name}/events")
async def feed(request: Request, name: str, last_event_id: Annotated[str, Header()] = "") -> Response:
    """What the run tells, from where the browser left off."""
    run = find_run(workspace(request), name)
    return StreamingResponse(events(run, last_event_id, language(request)), media_type="text/event-stream")


@router.get("/runs/{name}/files/{file}")
def download(request: Request, name: str, file: str) -> Response:
    """One of the files that a run writes."""
    run = find_run(workspace(request), name)
    if file not in FILES or not (run.inner / file).is_file():
        raise NotThere(Message("there is no {name!r} here", name=file))
    return FileResponse(run.inner / file, filename=f"{name}-{file}", media_type="application/octet-stream")


@router.post("/runs/{name}/stop")
def stop(request: Request, name: str, form: Form) -> Response:
    """Stop a run; asked for the second time, at once."""
    run = find_run(workspace(request), name)
    processes.stop(run.folder, signal.SIGTERM if text_of(form, "how") == "now" else signal.SIGINT)
    return RedirectResponse(f"/runs/{name}", 303)


@router.post("/runs/{name}/resume")
def go_on(request: Request, name: str, form: Form) -> Response:
    """Go on with a run."""
    resume_run(find_run(workspace(request), name))
    return RedirectResponse(f"/runs/{name}", 303)


@router.post("/runs/{name}/notes")
def write_notes(request: Request, name: str, form: Form) -> Response:
    """Keep tags and a note with a run."""
    find_run(workspace(request), name).write_notes(text_of(form, "tags"), text_of(form, "note"))
    return RedirectResponse(f"/runs/{name}", 303)


@router.post("/runs/{name}/delete")
def delete(request: Request, name: str, form: Form) -> Response:
    """Move a run to the bin, unless it works."""
    run = find_run(workspace(request), name)
    if run.state == "running":
        raise ForewordError("the run is at work", where=name, hint="stop it first")
    workspace(request).delete("runs", name)
    return RedirectResponse("/runs", 303)


@router.post("/bin/{name}/restore")
def restore(request: Request, name: str, form: Form) -> Response:
    """Bring something back from the bin."""
    workspace(request).restore(name)
    return RedirectResponse("/runs", 303)


@router.post("/bin/empty")
def empty_bin(request: Request, form: Form) -> Response:
    """Remove what is in the bin for good."""
    workspace(request).empty_bin()
    return RedirectResponse("/runs", 303)
