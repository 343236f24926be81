"""Comparisons: is training worth it, and which method; the table fills while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from foreword.errors import SettingsError
from foreword.settings.budget import budget_seconds
from foreword.studio import data_sets, processes
from foreword.studio.bases import list_bases
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.run_folders import RunFolder, all_runs, find_run, start_run
from foreword.studio.train_routes import METHODS, settings_from

router = APIRouter()
Form = Annotated[FormData, Depends(checked_form)]
BUDGETS = ("light", "medium", "heavy")


@router.get("/compare")
def compare_page(request: Request, data: str = "") -> Response:
    """What to compare, and the comparisons that there are."""
    held = workspace(request)
    sets = [data_sets.find(held, name) for name in held.names("data")]
    runs = [run for run in all_runs(held) if run.command == "compare"]
    bases = list_bases(request.app.state.settings.bases)
    return page(request, "compare.html", sets=sets, runs=runs, bases=bases, methods=METHODS, chosen=data)


@router.post("/comparisons")
def start_comparison(request: Request, form: Form) -> Response:
    """Start a comparison."""
    settings, data = settings_from(request, form)
    settings.pop("method")
    budget = text_of(form, "budget").strip() or "medium"
    budget_seconds(budget)
    chosen = [str(name) for name in form.getlist("methods")]
    if not set(chosen) <= set(dict(METHODS)):
        raise SettingsError("there is no such method", received=", ".join(chosen))
    more = [f"--budget={budget}", *([f"--methods={','.join(chosen)}"] if chosen else [])]
    if text_of(form, "curve"):
        more.append("--curve")
    run = start_run(
        workspace(request), f"{data.name}-compare", "compare", settings, tuple(more), data=data.name,
        base=settings["base"], method=", ".join(chosen) or "compare",
    )  # fmt: skip
    return RedirectResponse(f"/runs/{run.name}", 303)


@router.get("/runs/{name}/so-far")
def so_far(request: Request, name: str) -> Response:
    """What a comparison has found by now."""
    run = find_run(workspace(request), name)
    return page(request, "so_far.html", run=run, state=run.state, systems=systems_so_far(run), plan=planned(run))


def systems_so_far(run: RunFolder) -> list[tuple[str, int, float]]:
    """Name, trainings that are done, and the mean of what they reached on dev."""
    found = []
    for folder in sorted((run.inner / "systems").glob("*")):
        files = [*folder.glob("done.json"), *folder.glob("seed-*/done.json")]
        reached = [value for file in files if isinstance(value := _json(file).get("dev"), (int, float))]
        if reached:
            found.append((folder.name, len(reached), sum(reached) / len(reached)))
    return sorted(found, key=lambda system: -system[2])


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def planned(run: RunFolder) -> str:
    """What the comparison said of its plan and its power."""
    lines = processes.log_end(run.folder, 100_000).splitlines()
    return next((line.removeprefix("plan: ") for line in lines if line.startswith("plan: ")), "")
