"""Prompt tuning: a soft prompt at the embedding (Lester et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foreword.core.inject import initial_values
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.methods.base import Method, Start, Writer, trainable
from foreword.settings.schema import Count

Init = Literal["text", "vocabulary", "random", "foreword"]


class PromptWriter(Writer):
    """P embeddings, trained directly."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.prompt = trainable(start)

    def write(self) -> Foreword:
        return Foreword(prompt=self.prompt)


def initial_prompt(start: Start, init: Init, length: int | None) -> Tensor:
    """The first soft prompt ``[P, E]``: the text's embeddings, sampled words', another foreword's, or N(0, 0.02^2)."""
    if init == "foreword":
        if start.foreword is None or start.foreword.prompt is None:
            raise SettingsError(
                "init=foreword needs a foreword with a soft prompt", where="init", hint="add `--init FILE.foreword`"
            )
        return start.foreword.prompt
    if init == "text" and start.ids:
        return initial_values.embeddings_of(start.model, initial_values.fit_length(start.ids, length))
    if init == "random":
        return torch.randn(length or 20, start.sites.embedding_size, generator=start.generator()) * 0.02
    return initial_values.vocabulary(start.model, length or 20, start.generator())


@dataclass(frozen=True)
class Prompt(Method):
    """A soft prompt in front of the embeddings."""

    # Virtual tokens P; None: as many as the text has (20 where there is none).
    num_virtual_tokens: Count | None = None
    # Where the values start; "text" without a text is "vocabulary".
    init: Init = "text"

    name: ClassVar[str] = "prompt"
    title: ClassVar[str] = "prompt tuning"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-2, 3e-2, 3e-3, 1e-1)
    starts_from: ClassVar[str] = "prompt"
    choose: ClassVar[str] = "the file must be as small as can be, or an engine takes embeddings only"
    limits: ClassVar[str] = (
        "only the first layer's input is learned; no way through the recurrent layers of hybrid models; where "
        "the base reads both ways it takes up input length"
    )

    def writer(self, start: Start) -> Writer:
        return PromptWriter(initial_prompt(start, self.init, self.num_virtual_tokens))
