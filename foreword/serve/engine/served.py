"""A foreword as the engine runs it: what stands in front as keys and values, and what its rows carry as tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from foreword.core.inject import initial_values
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import EMPTY, Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.tokenize import end_id
from foreword.errors import SettingsError
from foreword.evaluation.predict import Asker
from foreword.training.heads.base import Head

# A text of fewer tokens is read with each row: storing it saves nothing.
_STORED_FROM = 2


@dataclass(frozen=True, eq=False)
class Served:
    """One foreword on the base.

    Args:
        name: what a request calls it.
        asker: its task on the base.
        value: as it was loaded; what scoring puts in force.
        front: keys and values, low-rank changes and soft slots of its rows, in the base's precision.
        lead: tokens that begin every row; their keys and values are not stored.
        ends: tokens that end an answer.
    """

    name: str
    asker: Asker
    value: Foreword
    front: Foreword
    lead: tuple[int, ...]
    ends: frozenset[int]

    @property
    def task(self) -> Task:
        """What is asked."""
        return self.asker.task

    @cached_property
    def head(self) -> Head:
        """How the task's labels are read."""
        return self.asker.objective(self.value)

    @property
    def prefix(self) -> int:
        """P: positions in front of a row's own tokens that cost nothing."""
        return self.front.num_virtual_tokens

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        tensors = {t.data_ptr(): t.nbytes for f in (self.value, self.front) for t in f.tensors().values()}
        return sum(tensors.values())


def refuse_unserved(value: Foreword, task: Task, where: str) -> None:
    """Refuse what rows of a shared base cannot have.

    Raises:
        SettingsError: weights in the place of the base's own, or beams.
    """
    if value.weights:
        raise SettingsError(
            "a fully fine-tuned model is no foreword on a shared base: it brings weights in the place of the base's",
            where=where,
            hint="train it as LoRA or as a prefix to serve it here; `foreword predict` answers with it",
        )
    if task.kind == "generation" and task.decoding.num_beams > 1:
        raise SettingsError(
            "the file's task asks for beam search, which does not run row by row",
            where=where,
            expected="num_beams 1",
            received=task.decoding.num_beams,
            hint="`foreword generate` answers with beams",
        )


def served(name: str, asker: Asker, value: Foreword, writes: bool, where: str = "") -> Served:
    """Make a foreword ready to run; runs the model for a soft prompt's or a text's keys and values.

    Args:
        writes: whether the base writes in this server (a causal decoder); else it is only scored.

    Raises:
        SettingsError: it cannot be served, or does not fit the base.
    """
    refuse_unserved(value, asker.task, where or name)
    lead = asker.lead(value)
    with injected(asker.model, [value]):
        pass  # Shapes, sites and layers are checked.
    front = EMPTY
    if writes:
        model = asker.model
        front = replace(value, text="", head={}).to(model.device, model.dtype)
        if front.prompt is not None:
            front = replace(front, prompt=None, sites=initial_values.from_embeddings(model, front.prompt))
        elif len(lead) >= _STORED_FROM and not front.adapters and find_sites(model).moves_positions:
            # In a causal model a text in front is its own keys and values.
            front, lead = replace(front, sites=initial_values.from_ids(model, lead)), ()
        front = front.detach()
    end = end_id(asker.task, asker.tokenizer)
    return Served(name, asker, value, front, lead, frozenset() if end is None else frozenset({end}))


def end_tokens(model: Any) -> frozenset[int]:
    """The tokens that the checkpoint itself says end a text."""
    token = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return frozenset() if token is None else frozenset(token if isinstance(token, list | tuple) else [token])
