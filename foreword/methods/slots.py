"""Prompt tuning at any place of a template: the soft slots that it names are learned, the words between them stay.

With one slot group in front this is Lester et al. 2021 with words behind it; with several it is the template of
P-tuning (Liu et al. 2021), whose network is here an option. The guidance stays in front as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foreword.core.inject import initial_values
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.methods.base import Method, Start, Writer, trainable
from foreword.methods.prompt import Init
from foreword.methods.ptuning import PTuningWriter
from foreword.settings.schema import Count


class SlotsWriter(Writer):
    """S embeddings, trained directly."""

    def __init__(self, start: Tensor, text: str) -> None:
        super().__init__()
        self.text, self.slots = text, trainable(start)

    def write(self) -> Foreword:
        return Foreword(text=self.text, slots=self.slots)


class ReparameterisedSlotsWriter(Writer):
    """S embeddings through P-tuning's network, which is dropped once they are written."""

    def __init__(self, inner: PTuningWriter, text: str) -> None:
        super().__init__()
        self.text, self.inner = text, inner

    def write(self) -> Foreword:
        return Foreword(text=self.text, slots=self.inner.write().prompt)


@dataclass(frozen=True)
class Slots(Method):
    """The soft slots of the template, such as ``{{ soft("The mood is") }}``."""

    # Where the values start: the words that a slot stands for (sampled ones where it stands for none), sampled words'
    # embeddings, N(0, 0.02^2), or another foreword's slots.
    init: Init = "text"
    # P-tuning's network between what is trained and the slots; dropped once written.
    encoder: Literal["none", "mlp", "lstm"] = "none"
    # Its width.
    hidden_size: Count = 128

    name: ClassVar[str] = "slots"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-2, 3e-2, 3e-3, 1e-1)
    choose: ClassVar[str] = (
        "learned words belong inside the row: at its end, between fields, or in place of some words of a prompt "
        "that stays"
    )
    limits: ClassVar[str] = "needs a template with soft slots; they and the guidance take up positions in every row"
    fills_slots: ClassVar[bool] = True
    starts_from: ClassVar[str] = "slots"

    def writer(self, start: Start) -> Writer:
        first = self._first(start)
        if self.encoder == "none":
            return SlotsWriter(first, start.text)
        return ReparameterisedSlotsWriter(PTuningWriter(first, self.encoder, self.hidden_size, start.seed), start.text)

    def _first(self, start: Start) -> Tensor:
        count = len(start.slots)
        if not count:
            raise SettingsError(
                "the template has no soft slots to train",
                where="template",
                hint="write {{ soft(8) }} or {{ soft('some words') }} into it, or use `--method prefix`",
            )
        if self.init == "foreword":
            return _from_foreword(start)
        if self.init == "random":
            return torch.randn(count, start.sites.embedding_size, generator=start.generator()) * 0.02
        first = initial_values.vocabulary(start.model, count, start.generator())
        worded = [place for place, token in enumerate(start.slots) if token is not None]
        if self.init == "text" and worded:
            first[worded] = initial_values.embeddings_of(
                start.model, [token for token in start.slots if token is not None]
            )
        return first


def _from_foreword(start: Start) -> Tensor:
    other = None if start.foreword is None else start.foreword.slots
    if other is None or other.shape[0] != len(start.slots):
        raise SettingsError(
            "init=foreword needs a foreword with as many soft slots",
            where="init",
            expected=Message("{n} slots", n=len(start.slots)),
            received="none" if other is None else f"{other.shape[0]} slots",
            hint="add `--init FILE.foreword`, trained with a template of as many slots",
        )
    return other
