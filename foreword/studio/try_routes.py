"""Trying a foreword beside the prompt and the bare template, and serving it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.datastructures import FormData

from foreword.data.task.template import parsed
from foreword.errors import SettingsError
from foreword.studio import mended_rows, processes, serving
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.run_folders import RunFolder, find_run

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]


@router.get("/runs/{name}/try")
def try_page(request: Request, name: str, part: bool = False) -> Response:
    """The form, once the server answers."""
    run = find_run(workspace(request), name)
    state, task = serving.state(run), run.report.get("task") or {}
    names = fields_of(task)
    return page(
        request, "try_inner.html" if part else "try.html", run=run, record=run.record, tab="try", state=state,
        names=names, kind=task.get("kind", ""), systems=serving.systems(run) if state == "on" else [],
        lines=lines(run, task, names) if state == "on" else {}, command=command(run),
        log=workspace(request).shown(processes.log_end(serving.job(run), 1500)),
    )  # fmt: skip


def fields_of(task: dict[str, Any]) -> list[str]:
    """The fields of a row that the model reads, in the template's order."""
    template = str(task.get("template") or "")
    names = {*parsed(template).fields, str(task.get("guidance_column") or "")} - {"", "row"}
    return sorted(names, key=lambda name: (template.find(name), name))


def command(run: RunFolder) -> str:
    """The same on the command line."""
    return f"foreword serve {run.name}-model.foreword"


def lines(run: RunFolder, task: dict[str, Any], names: list[str]) -> dict[str, str]:
    """What to paste into a shell or a program."""
    fields = dict.fromkeys(names, "...")
    if task.get("kind") == "generation":
        path, body = "/v1/chat/completions", {"model": "foreword", "fields": fields}
        read = '["choices"][0]["message"]["content"]'
    else:
        path, body = ("/v1/tag" if task.get("kind") == "tagging" else "/v1/classify"), {
            "model": "foreword", "input": fields,
        }  # fmt: skip
        read = '["data"][0]'
    url = serving.address(run) + path
    spelled = json.dumps(body, ensure_ascii=False)
    return {
        "curl": f"curl {url} -H 'Content-Type: application/json' -d '{spelled}'",
        "Python": f'import requests\n\nanswer = requests.post("{url}", json={spelled})\nprint(answer.json(){read})',
    }


@router.post("/runs/{name}/serve")
def switch(request: Request, name: str, form: Form) -> Response:
    """Switch the server on or off."""
    run = find_run(workspace(request), name)
    (serving.switch_on if text_of(form, "on") == "yes" else serving.switch_off)(run)
    return RedirectResponse(f"/runs/{name}/try", 303)


def _fields(run: RunFolder, form: FormData) -> dict[str, str]:
    return {name: text_of(form, f"field-{name}", 20_000) for name in fields_of(run.report.get("task") or {})}


@router.post("/runs/{name}/answers")
def answers(request: Request, name: str, form: Form) -> Response:
    """Labels and their probabilities from every system, side by side."""
    run = find_run(workspace(request), name)
    fields, kind = _fields(run, form), (run.report.get("task") or {}).get("kind")
    found: dict[str, Any] = {}
    for system in serving.systems(run):
        if kind == "tagging":
            found[system] = serving.tag(run, system, fields)
        else:
            shares = serving.classify(run, system, fields)
            found[system] = sorted(shares.items(), key=lambda pair: -pair[1])
    labels = sorted(label for label, _ in found["foreword"]) if kind == "classification" else []
    return page(request, "answers.html", run=run, found=found, kind=kind, labels=labels, fields=fields)


@router.post("/runs/{name}/write")
def write(request: Request, name: str, form: Form) -> Response:
    """One system's answer as it is written."""
    run = find_run(workspace(request), name)
    system = text_of(form, "system")
    if system not in serving.systems(run):
        raise SettingsError("there is no such system", received=system)
    return StreamingResponse(serving.write(run, system, _fields(run, form)), media_type="text/plain; charset=utf-8")


@router.post("/runs/{name}/trials")
def keep_trial(request: Request, name: str, form: Form) -> Response:
    """Keep what was tried, with its right answer, among the corrections."""
    run = find_run(workspace(request), name)
    gold = text_of(form, "gold").strip()
    if not gold:
        raise SettingsError("the right answer is missing", hint="say what the answer should have been")
    mended_rows.add_row(run, _fields(run, form), gold)
    return page(request, "kept.html", run=run, count=len(mended_rows.pending(run)))
