"""The data pages: upload, what was recognised, problems, balance, lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData, UploadFile

from foreword.data.readers.registry import suffixes
from foreword.errors import DataError, ForewordError, SettingsError
from foreword.settings.schema import TaskOptions
from foreword.studio import data_sets
from foreword.studio.bases import list_bases
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.workspace import disk_used

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]
_FIRST = 8
KINDS = ("classification", "generation", "tagging")


@router.get("/")
def home() -> Response:
    """The studio begins with data."""
    return RedirectResponse("/data", 303)


@router.get("/data")
def data_list(request: Request) -> Response:
    """Every upload, and where to drop another one."""
    held = workspace(request)
    sets = [(data_sets.find(held, name), disk_used(held.folder("data", name))) for name in held.names("data")]
    return page(request, "data_list.html", sets=sets, suffixes=suffixes())


@router.post("/data")
def upload(request: Request, form: Form) -> Response:
    """Keep an uploaded file."""
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise SettingsError("no file was chosen", hint="choose one, or drop it onto the page")
    made = data_sets.add(workspace(request), file.filename, file.file)
    return RedirectResponse(f"/data/{made.name}", 303)


@router.get("/data/{name}")
def show(request: Request, name: str, kind: str = "", row: int = 0) -> Response:
    """What was found in a data set."""
    held = workspace(request)
    data = data_sets.find(held, name)
    shared: dict[str, Any] = {"data": data, "tab": "data", "kinds": KINDS, "kind": kind}
    try:
        found = data_sets.look(held, data)
    except ForewordError as error:
        return page(request, "data_failed.html", error=error, columns=_columns(request, data), **shared)
    path = data_sets.path_of(held, data)
    problems = [
        (problem, fields, "" if fields else data_sets.raw_line(path, problem.where))
        for problem, fields in found.problems(kind, 100)
    ]
    return page(
        request, "data.html", found=found, task=found.task, layout=found.table.layout, columns=found.table.columns,
        first=found.table.rows[:_FIRST], lengths=data_sets.lengths(found.table, found.table.layout.inputs),
        problems=problems, bases=list_bases(request.app.state.settings.bases), **shared,
    )  # fmt: skip


def _columns(request: Request, data: data_sets.DataSet) -> tuple[str, ...]:
    """The columns of data whose mapping does not fit them; () where they cannot be read in any way."""
    try:
        return data_sets.look(workspace(request), data_sets.DataSet(data.name, data.file)).table.columns
    except DataError as error:
        received = str(error.received or "")
        return tuple(name.strip(" '") for name in received.split(",")) if "," in received else ()


@router.post("/data/{name}/mapping")
def mapping(request: Request, name: str, form: Form) -> Response:
    """Say which columns are what."""
    held = workspace(request)
    data = data_sets.find(held, name)
    inputs = tuple(str(value) for value in form.getlist("inputs") if isinstance(value, str))
    kind = text_of(form, "kind")
    if kind not in ("", *KINDS):
        raise SettingsError("there is no such kind of task", received=kind, expected=", ".join(KINDS))
    changed = replace(data, inputs=inputs, target=text_of(form, "target"), kind=kind)
    TaskOptions(inputs=inputs)
    data_sets.keep(held, changed)
    return RedirectResponse(f"/data/{name}", 303)


@router.post("/data/{name}/bad-rows")
def bad_rows(request: Request, name: str, form: Form) -> Response:
    """Leave the rows with errors out, or no longer."""
    held = workspace(request)
    data = data_sets.find(held, name)
    data_sets.keep(held, replace(data, skip_bad=text_of(form, "skip") == "yes"))
    return RedirectResponse(f"/data/{name}", 303)


@router.get("/data/{name}/bad-rows.csv")
def save_bad_rows(request: Request, name: str) -> Response:
    """The rows with errors as a file, to be mended and uploaded again."""
    held = workspace(request)
    data = data_sets.find(held, name)
    text = data_sets.bad_rows_csv(data_sets.look(held, data), data_sets.path_of(held, data))
    headers = {"Content-Disposition": 'attachment; filename="bad-rows.csv"'}
    return Response(text.encode("utf-8", "replace"), media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/data/{name}/delete")
def delete(request: Request, name: str, form: Form) -> Response:
    """Move a data set to the bin."""
    workspace(request).delete("data", name)
    return RedirectResponse("/data", 303)
