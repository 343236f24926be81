"""Scoring: rows with different forewords, all labels of each, in one pass of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from foreword.core.inject.injection import injected
from foreword.core.passes.memory import in_halves
from foreword.data.task.tagging import OUTSIDE
from foreword.data.tokens.examples import Example
from foreword.serve.engine.jobs import Scored, ScoreJob
from foreword.training.heads.base import Chooser, Head, Outputs
from foreword.training.objective import Tag, joined


def groups(jobs: Sequence[ScoreJob]) -> list[list[ScoreJob]]:
    """The jobs in groups that can share a pass."""
    result: list[tuple[list[Head], list[ScoreJob]]] = []
    for job in jobs:
        head = job.served.head
        for heads, group in result:
            if joined([*heads, head]) is not None:
                heads.append(head)
                group.append(job)
                break
        else:
            result.append(([head], [job]))
    return [group for _, group in result]


def score(jobs: Sequence[ScoreJob]) -> list[Scored]:
    """The answers to jobs that can share a pass, in their order."""
    return in_halves(_score, list(jobs), jobs[0].served.asker.model.device)


def _score(jobs: Sequence[ScoreJob]) -> list[Scored]:
    heads = [job.served.head for job in jobs]
    shared = joined(heads)
    assert shared is not None
    served = list(dict.fromkeys(job.served for job in jobs))
    rows = [served.index(job.served) for job in jobs]
    examples = [job.example.behind(head.lead) for job, head in zip(jobs, heads, strict=True)]
    model = jobs[0].served.asker.model
    values = [one.value for one in served]
    with torch.no_grad(), injected(model, values, rows if len(values) > 1 else None):
        outputs = shared.outputs(model, examples)
        return [_of_row(job, head, outputs.of(i, i + 1)) for i, (job, head) in enumerate(zip(jobs, heads, strict=True))]


def _of_row(job: ScoreJob, head: Head, outputs: Outputs) -> Scored:
    assert isinstance(head, Chooser)
    task = job.served.task
    shares = head.logp(outputs, job.served.value).exp()
    if not isinstance(head, Tag):
        return Scored(dict(zip(task.labels, shares[0].tolist(), strict=True)))
    return Scored({}, _tags(job.example, shares, task.labels))


def _tags(example: Example, shares: torch.Tensor, labels: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """A tag for every word; one that was cut off is outside of everything (or has the first tag)."""
    default = (OUTSIDE if OUTSIDE in labels else labels[0], 0.0)
    best = iter(zip(*(part.tolist() for part in shares.max(-1)), strict=True))
    tags = []
    for place in example.places:
        if place < 0:
            tags.append(default)
        else:
            share, index = next(best)
            tags.append((labels[index], share))
    return tuple(tags)
