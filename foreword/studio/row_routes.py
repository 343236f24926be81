"""The rows page: both answers to each test row, filters, search, and mending an answer where it stands."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.values import Given
from foreword.settings.yaml import read_yaml
from foreword.studio import mended_rows, processes
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.row_index import FILTERS, PAGE, RowIndex, own_text, row_index
from foreword.studio.run_folders import RunFolder, find_run, start_run
from foreword.studio.workspace import NotThere

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]


@router.get("/runs/{name}/rows")
def rows_page(request: Request, name: str, kind: str = "", label: str = "", q: str = "", at: int = 0) -> Response:
    """A page of rows."""
    run = find_run(workspace(request), name)
    index = _index_of(run)
    kind = kind if kind in FILTERS else ""
    rows = index.chosen(kind, label, q[:200].strip())
    at = max(0, min(at, max(0, len(rows) - 1)) // PAGE * PAGE)
    job = mended_rows.job(run)
    return page(
        request, "rows.html", run=run, tab="rows", record=run.record, rows=[index.row(i) for i in rows[at : at + PAGE]],
        total=len(rows), at=at, size=PAGE, kind=kind, label=label, q=q, index=index, counts=index.counts(),
        pending=mended_rows.pending(run), working=processes.runs(job), outcome=processes.output(job),
        version=mended_rows.version_folder(run), classes=_classes(run), own_text=own_text, template=_template(run),
    )  # fmt: skip


def _classes(run: RunFolder) -> list[str]:
    """The labels that an answer can be; empty where a text is written."""
    task = run.report.get("task") or {}
    return list(task.get("verbalizer") or task.get("labels") or ()) if task.get("kind") == "classification" else []


def _template(run: RunFolder) -> str:
    return str((run.report.get("task") or {}).get("template") or "")


def _index_of(run: RunFolder) -> RowIndex:
    index = row_index(run.inner)
    if index is None:
        raise NotThere("this run has no test rows", hint="wait until it has finished")
    return index


@router.post("/runs/{name}/rows")
def correct(request: Request, name: str, form: Form) -> Response:
    """Note a row's right answer."""
    run = find_run(workspace(request), name)
    index = _index_of(run)
    ident, gold = text_of(form, "id"), text_of(form, "gold").strip()
    if ident not in index.ids:
        raise NotThere(Message("there is no {name!r} here", name=ident))
    classes = _classes(run)
    if classes and gold not in classes:
        raise SettingsError("this is no label", received=gold, expected=", ".join(classes))
    row = index.row(index.ids[ident])
    mended_rows.correct(run, ident, row.input, gold, row.gold)
    answer = page(
        request, "row.html", run=run, row=row, pending=mended_rows.pending(run), classes=classes, own_text=own_text,
        template=_template(run),
    )  # fmt: skip
    answer.headers["HX-Trigger"] = "corrected"
    return answer


@router.post("/runs/{name}/corrections")
def take_in(request: Request, name: str, form: Form) -> Response:
    """Take the corrections into a new version of the data."""
    mended_rows.take_in(find_run(workspace(request), name))
    return RedirectResponse(f"/runs/{name}/rows", 303)


@router.get("/runs/{name}/corrections")
def taken(request: Request, name: str) -> Response:
    """How far that is."""
    run = find_run(workspace(request), name)
    job = mended_rows.job(run)
    return page(
        request, "corrections.html", run=run, working=processes.runs(job), outcome=processes.output(job),
        version=mended_rows.version_folder(run), pending=mended_rows.pending(run),
    )  # fmt: skip


@router.post("/runs/{name}/again")
def train_again(request: Request, name: str, form: Form) -> Response:
    """Train with the corrected rows: the same settings, the newest version of the data."""
    held = workspace(request)
    run = find_run(held, name)
    folder = mended_rows.version_folder(run)
    if folder is None:
        raise SettingsError("no correction was taken in yet", hint="take them in first")
    settings: dict[str, Any] = {key: _plain(value) for key, value in read_yaml(run.inner / "settings.yaml").items()}
    settings["data"] = str(folder / "train.jsonl")
    for part in ("dev", "test"):
        path = folder / f"{part}.jsonl"
        settings[part] = str(path) if path.exists() else None
    if settings["test"] is None:
        settings["task"] = {**settings["task"], "test_fraction": 0}
    record = run.record
    again = start_run(
        held, f"{name}-{folder.name}", "train", settings, data=f"{record.get('data', '')} {folder.name}",
        base=record.get("base", ""), method=record.get("method", ""), parent=name,
    )  # fmt: skip
    return RedirectResponse(f"/runs/{again.name}", 303)


def _plain(value: object) -> Any:
    """Values without their lines."""
    if isinstance(value, Given):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
