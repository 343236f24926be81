"""The prompt page: what the base answers while the prompt is written, and a row as it reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from foreword.data.task.task import Task
from foreword.errors import ForewordError, SettingsError
from foreword.messages import Message
from foreword.studio import data_sets
from foreword.studio.bases import base_spec, list_bases
from foreword.studio.model_client import ModelClient
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.row_index import own_text
from foreword.studio.run_folders import start_run
from foreword.studio.train_routes import task_settings

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]


def client_of(request: Request) -> ModelClient:
    """The studio's model process."""
    held: ModelClient = request.app.state.model
    return held


def _settings(request: Request, data: data_sets.DataSet, base: str) -> dict[str, Any]:
    """What the model process is started with; the prompt itself is asked, not set."""
    plain = replace(data, guidance="", template="", labels={})
    held = workspace(request)
    parts = {part: str(data_sets.path_of(held, data, part)) for part in ("dev", "test") if getattr(data, part)}
    spec = base_spec(base, request.app.state.settings.bases)
    return {
        "data": str(data_sets.path_of(held, data)), "base": spec, "output_dir": "none", "task": task_settings(plain),
        **parts,
    }  # fmt: skip


@router.get("/data/{name}/prompt")
def prompt_page(request: Request, name: str, base: str = "", part: bool = False) -> Response:
    """The editor; the answers where a base is loaded."""
    held = workspace(request)
    data = data_sets.find(held, name)
    try:
        task = data_sets.look(held, data).task
    except ForewordError as error:
        return page(request, "data_failed.html", error=error, columns=(), data=data, tab="prompt", kinds=())
    bases = list_bases(request.app.state.settings.bases)
    state = client_of(request).state(_settings(request, data, base)) if base else "off"
    return page(
        request, "prompt_inner.html" if part else "prompt.html", data=data, task=task, tab="prompt", bases=bases,
        base=base, state=state, opened=client_of(request).opened, words=words_of(task),
    )  # fmt: skip


def words_of(task: Task) -> dict[str, str]:
    """Label -> its words; empty where labels have none."""
    return {} if task.head else dict(task.verbalizer)


@router.post("/data/{name}/model")
def load_model(request: Request, name: str, form: Form) -> Response:
    """Load a base to ask."""
    data = data_sets.find(workspace(request), name)
    base = text_of(form, "base").strip()
    client_of(request).open(_settings(request, data, base))
    from urllib.parse import quote

    return RedirectResponse(f"/data/{name}/prompt?base={quote(base)}", 303)


def _asked(form: FormData, task: Task) -> dict[str, Any]:
    """The prompt that stands in the form."""
    labels = {label: text_of(form, f"word-{number}", 200) for number, label in enumerate(words_of(task))}
    guidance = text_of(form, "guidance", 20_000)
    return {"guidance": guidance, "template": text_of(form, "template", 20_000), "labels": labels}


@router.post("/data/{name}/answers")
def prompt_answers(request: Request, name: str, form: Form) -> Response:
    """The answers to some dev rows with the prompt as it is written, beside those with the one that is kept."""
    task = data_sets.look(workspace(request), data_sets.find(workspace(request), name)).task
    kept = {"guidance": task.guidance, "template": task.template, "labels": words_of(task)}
    asked = _asked(form, task)
    before = client_of(request).ask({"op": "answers", **kept})
    now = before if asked == kept else client_of(request).ask({"op": "answers", **asked})
    if "cancelled" in before or "cancelled" in now:
        return Response(status_code=204)
    for answer in (before, now):
        if "problem" in answer:
            return page(request, "prompt_refused.html", answer=answer)
    pairs = list(zip(before["rows"], now["rows"], strict=True))
    pairs.sort(key=lambda pair: pair[0]["output"] == pair[1]["output"])
    texts = {"before": str(kept["template"]), "now": str(asked["template"])}
    return page(
        request, "prompt_answers.html", pairs=pairs, before=before, now=now, same=asked == kept, task=task,
        own_text=own_text, texts=texts, changed=sum(a["output"] != b["output"] for a, b in pairs),
    )  # fmt: skip


@router.post("/data/{name}/tokens")
def prompt_tokens(request: Request, name: str, form: Form) -> Response:
    """A random row as the model reads it."""
    task = data_sets.look(workspace(request), data_sets.find(workspace(request), name)).task
    row = text_of(form, "row")
    found = client_of(request).ask({"op": "tokens", "row": int(row) if row.isdigit() else 0, **_asked(form, task)})
    if "cancelled" in found:
        return Response(status_code=204)
    if "problem" in found:
        return page(request, "prompt_refused.html", answer=found)
    return page(request, "tokens.html", found=found, row=(int(row) if row.isdigit() else 0) + 1)


@router.post("/data/{name}/prompt")
def keep_prompt(request: Request, name: str, form: Form) -> Response:
    """Keep the prompt for training; an empty form brings back what is made from the data."""
    held = workspace(request)
    data = data_sets.find(held, name)
    if text_of(form, "again") == "yes":
        data_sets.keep(held, replace(data, guidance="", template="", labels={}))
        return RedirectResponse(f"/data/{name}/prompt", 303)
    task = data_sets.look(held, data).task
    asked = _asked(form, task)
    changed = replace(data, guidance=asked["guidance"], template=asked["template"], labels=asked["labels"])
    if not asked["template"].strip():
        raise SettingsError(
            "the template is empty", hint=Message("name the columns, such as {text}", text="{{ text }}")
        )
    data_sets.look(held, changed)  # refuses what cannot be
    data_sets.keep(held, changed)
    return RedirectResponse(f"/data/{name}/prompt?base={text_of(form, 'base')}", 303)


@router.post("/data/{name}/search")
def search(request: Request, name: str, form: Form) -> Response:
    """Search for a better prompt: a run of its own."""
    held = workspace(request)
    data = data_sets.find(held, name)
    base = base_spec(text_of(form, "base").strip(), request.app.state.settings.bases)
    settings = {
        "data": str(data_sets.path_of(held, data)), "base": base, "skip_bad": data.skip_bad,
        "task": task_settings(data),
    }  # fmt: skip
    run = start_run(held, f"{name}-search", "search", settings, data=name, base=base, method="search")
    return RedirectResponse(f"/runs/{run.name}", 303)
