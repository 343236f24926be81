"""The training page: what to learn on which base, what it will take, and the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from foreword.errors import SettingsError
from foreword.settings.schema import TrainSettings
from foreword.studio import data_sets, processes
from foreword.studio.bases import base_spec, list_bases, short_name
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.run_folders import start_run

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]
METHODS = (
    ("prefix", "Keys and values in front of every layer: the default"),
    ("prompt", "Learned tokens in front of the input"),
    ("ptuning", "Learned tokens, written by a small network"),
    ("slots", "Learned tokens inside the prompt"),
    ("lora", "Low-rank changes of the base's weights"),
    ("full", "All weights: the most memory and the largest file"),
)
ESTIMATES = "estimates"


@router.get("/train")
def train_page(request: Request, data: str = "", base: str = "") -> Response:
    """What to learn."""
    held = workspace(request)
    sets = [data_sets.find(held, name) for name in held.names("data")]
    listed = list_bases(request.app.state.settings.bases)
    return page(
        request, "train.html", sets=sets, chosen=data, base=base, bases=listed, methods=METHODS,
        defaults=TrainSettings(), tab="train",
    )  # fmt: skip


def settings_from(request: Request, form: Mapping[str, Any]) -> tuple[dict[str, Any], data_sets.DataSet]:
    """A settings file's content from the form.

    Raises:
        SettingsError: a value that cannot be; says which.
    """
    held = workspace(request)
    if not text_of(form, "data"):
        raise SettingsError("no data were chosen", hint="upload a file on the Data page first")
    data = data_sets.find(held, text_of(form, "data"))
    base = base_spec(text_of(form, "base").strip(), request.app.state.settings.bases)
    method = text_of(form, "method") or "prefix"
    if method not in dict(METHODS):
        raise SettingsError("there is no such method", received=method)
    training: dict[str, Any] = {}
    for name, kind in (
        ("num_train_epochs", float), ("learning_rate", float), ("per_device_train_batch_size", int), ("seed", int),
    ):  # fmt: skip
        text = text_of(form, name).strip()
        if text:
            training[name] = _number(name, text, kind)
    TrainSettings(**training)
    virtual = text_of(form, "num_virtual_tokens").strip()
    options = {"num_virtual_tokens": int(_number("num_virtual_tokens", virtual, int))} if virtual else {}
    settings = {
        "data": str(data_sets.path_of(held, data)),
        "base": base,
        "skip_bad": data.skip_bad,
        "task": task_settings(data),
        "method": {"name": method, **options},
        "training": training,
    }
    parts = {part: str(data_sets.path_of(held, data, part)) for part in ("dev", "test") if getattr(data, part)}
    return {**settings, **parts}, data


def task_settings(data: data_sets.DataSet) -> dict[str, Any]:
    """The task as a settings file names it: what was said of a data set on its pages, and nothing that was not."""
    told = {
        "inputs": list(data.inputs), "target": data.target, "task_kind": data.kind, "guidance": data.guidance,
        "template": data.template, "labels": dict(data.labels),
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}


def _number(name: str, text: str, kind: type[float] | type[int]) -> float:
    try:
        return kind(text)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        raise SettingsError("this is no number", where=name, received=text, expected=expected) from error


@router.post("/runs")
def start(request: Request, form: Form) -> Response:
    """Start a run."""
    settings, data = settings_from(request, form)
    title = text_of(form, "title").strip() or f"{data.name}-{settings['method']['name']}"
    run = start_run(
        workspace(request), title, "train", settings, data=data.name, base=settings["base"],
        method=settings["method"]["name"],
    )  # fmt: skip
    return RedirectResponse(f"/runs/{run.name}", 303)


@router.post("/estimates")
def estimate(request: Request, form: Form) -> Response:
    """Find out what a run would take: a dry run, in a process of its own."""
    settings, _ = settings_from(request, form)
    held = workspace(request)
    (held.root / ESTIMATES).mkdir(exist_ok=True)
    for name in held.names(ESTIMATES):
        processes.stop(held.folder(ESTIMATES, name))
    folder = held.new(ESTIMATES, "estimate")
    from foreword.settings.yaml import to_yaml
    from foreword.storage import write_atomically

    file = folder / "settings.yaml"
    write_atomically(file, [to_yaml({**settings, "output_dir": str(folder / "run")}).encode()])
    processes.start(folder, "foreword", ["train", "--config", str(file), "--dry-run", "--json"])
    return page(request, "estimate.html", name=folder.name, result={}, running=True)


@router.get("/estimates/{name}")
def estimated(request: Request, name: str) -> Response:
    """What came of it so far."""
    folder = workspace(request).folder(ESTIMATES, name)
    running = processes.runs(folder)
    result = {} if running else processes.output(folder)
    return page(request, "estimate.html", name=name, result=result, running=running, short=short_name)
