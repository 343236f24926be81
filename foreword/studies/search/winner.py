"""The prompt that was found, as files that training takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from foreword.settings.schema import TrainRequest
from foreword.settings.yaml import to_yaml
from foreword.storage import write_atomically
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.variant import Variant


def write_winner(folder: Path, request: TrainRequest, chosen: Variant, judge: PromptScorer) -> str:
    """Write ``guidance.txt`` and ``settings.yaml`` into ``folder``; returns the command that trains from them.

    The settings are the request's, with the prompt's guidance (its examples included), template and label words.
    """
    task = chosen.asked(judge.task, judge.shown)
    write_atomically(folder / "guidance.txt", [task.guidance.encode("utf-8", "backslashreplace")])
    options = replace(
        request.task_options,
        guidance=task.guidance,
        guidance_file=None,
        template=task.template,
        labels=dict(task.verbalizer) or None,
        target=task.target,
        calibrate=chosen.calibrate,
    )
    values = replace(request, task_options=options).to_json()
    # Where the next run goes is not known here; and data in memory has no name.
    kept = {
        key: value
        for key, value in values.items()
        if key != "output_dir" and value is not None and not str(value).startswith("<")
    }
    write_atomically(folder / "settings.yaml", [to_yaml(kept).encode("utf-8", "backslashreplace")])
    return f"foreword train --config {folder / 'settings.yaml'} --output-dir RUN"
