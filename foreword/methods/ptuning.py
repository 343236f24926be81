"""P-tuning: a soft prompt written by a small network that is dropped afterwards (Liu et al. 2021, "GPT understands,
too").

Ours is residual (Razdaibiedina et al. 2023): start + f(z) - f0(z0), so step 0 is the start and every weight has a
gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from foreword.core.base.device import seeded
from foreword.core.inject.value import Foreword
from foreword.methods.base import Method, Start, Writer, kept
from foreword.methods.prompt import Init, initial_prompt
from foreword.settings.schema import Count


class PTuningWriter(Writer):
    """An MLP or a bidirectional LSTM over P learned codes ``[P, E]``."""

    def __init__(self, start: Tensor, encoder: str, hidden: int, seed: int) -> None:
        super().__init__()
        self.start = kept(start)
        start, size = start.cpu(), start.shape[1]
        # The layers' own initialisers draw from the global generator; what the caller drew before must not matter.
        with seeded(seed):
            self.code = nn.Parameter(torch.randn(start.shape[0], size) * start.std().clamp(min=1e-3))
            self.lstm = nn.LSTM(size, hidden, bidirectional=True) if encoder == "lstm" else None
            width = 2 * hidden if encoder == "lstm" else size
            self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, size, bias=False))
        with torch.no_grad():
            self.first = kept(self._change())

    def _change(self) -> Tensor:
        states = self.code if self.lstm is None else self.lstm(self.code)[0]
        change: Tensor = self.mlp(states)
        return change

    def write(self) -> Foreword:
        return Foreword(prompt=self.start + self._change() - self.first)


@dataclass(frozen=True)
class PTuning(Method):
    """A soft prompt through a small network."""

    # Virtual tokens P; None: as many as the text has (20 where there is none).
    num_virtual_tokens: Count | None = None
    # Where the values start; "text" without a text is "vocabulary".
    init: Init = "text"
    # The network; the LSTM is slower and no better, here because it is the paper's.
    encoder: Literal["mlp", "lstm"] = "mlp"
    # Its width.
    hidden_size: Count = 128

    name: ClassVar[str] = "ptuning"
    title: ClassVar[str] = "P-tuning"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 3e-3, 1e-2)
    starts_from: ClassVar[str] = "prompt"
    choose: ClassVar[str] = (
        "a soft prompt is wanted and does not train well directly: a network couples its tokens and is gone from "
        "the file"
    )
    limits: ClassVar[str] = "trains more values than it keeps; otherwise those of a soft prompt"

    def writer(self, start: Start) -> Writer:
        first = initial_prompt(start, self.init, self.num_virtual_tokens)
        return PTuningWriter(first, self.encoder, self.hidden_size, start.seed)
