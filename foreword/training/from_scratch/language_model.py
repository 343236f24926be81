"""Train an LSTM or GRU from scratch as a language model of rows and of the answers behind them.

What stands in front of every row (the guidance) is read and not learned: no loss is taken on it, and as it is the same
for every row it is read once a step. Text and answers weigh the same, however few tokens the answers have.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from foreword.core.base.device import seeded
from foreword.core.base.lstm import Memory, RecurrentForCausalLM
from foreword.core.passes.scoring import pad
from foreword.errors import ResumeError, TrainingError
from foreword.settings.schema import BaseSettings
from foreword.storage import explained

_SAVE_EVERY = 20.0
_WARMUP = 0.05


@dataclass(frozen=True)
class Line:
    """What the base learns to write: a row's ids and its answer's, behind ``lead``, on which no loss is taken."""

    lead: tuple[int, ...]
    text: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass
class _State:
    step: int = 0
    best: float = math.inf
    best_step: int = 0
    without_gain: int = 0
    stopped: bool = False
    losses: list[float] = field(default_factory=list)
    dev: list[float] = field(default_factory=list)


class BaseTraining:
    """The training of one base; it can stop after any step and go on later, bit for bit on CPU.

    Args:
        model: with its first weights.
        lines: what is learned; ``dev`` is what early stopping looks at.
        settings: of the base.
        fill: the padding id.
    """

    def __init__(
        self, model: RecurrentForCausalLM, lines: Sequence[Line], dev: Sequence[Line], settings: BaseSettings, fill: int
    ) -> None:
        self.model, self.lines, self.dev, self.settings, self.fill = model, lines, dev, settings, fill
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.steps_per_epoch = math.ceil(len(lines) / settings.batch_size)
        planned = max(1, math.ceil(self.steps_per_epoch * settings.num_train_epochs))
        self.total = planned if settings.max_steps < 0 else min(planned, max(1, settings.max_steps))
        self.state = _State()
        self.best: dict[str, Tensor] = {}

    def run(self, path: Path) -> Iterator[dict[str, float]]:
        """Train to the end and leave the best weights in the model; yields the loss of each step and each dev loss.

        Args:
            path: the checkpoint, written after every evaluation and every 20 seconds.

        Raises:
            TrainingError: the loss is not a number.
        """
        saved = time.monotonic()
        while self.state.step < self.total and not self.state.stopped:
            loss = self._step()
            due = self.state.step % self.steps_per_epoch == 0 or self.state.step == self.total
            if due:
                self._evaluate()
            if due or time.monotonic() - saved > _SAVE_EVERY:
                self.save(path)
                saved = time.monotonic()
            yield {"loss": loss, **({"dev loss": self.state.dev[-1]} if due else {})}
        self.model.load_state_dict(self.best)
        cast(Any, self.model).eval()

    def _step(self) -> float:
        number = self.state.step
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _rate(number, self.total)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        # Dropout of a step depends on its number alone, so that a resumed training is the same one.
        with seeded(self.settings.seed * 1_000_003 + number, self.model.device):
            text, answer = self._losses([self.lines[i] for i in self._batch(number)])
            loss = text.mean() + (answer.mean() if answer.numel() else 0.0)
            loss.backward()
        value = float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        if not math.isfinite(value) or not math.isfinite(norm):
            raise TrainingError(
                f"step {number + 1} of the base's training is not finite",
                received=f"loss {value:g}, gradient norm {norm:g}",
                hint="lower base.learning_rate",
            )
        self.optimizer.step()
        self.state.step += 1
        self.state.losses.append(value)
        return value

    def _batch(self, step: int) -> list[int]:
        """The rows of a step: batches of like length in an order that depends on seed and epoch alone."""
        epoch, place = divmod(step, self.steps_per_epoch)
        dice = random.Random(f"{self.settings.seed}/{epoch}")
        keys = [_length(line) * (1 + 0.1 * dice.random()) + dice.random() for line in self.lines]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        size = self.settings.batch_size
        starts = list(range(0, len(order), size))
        dice.shuffle(starts)
        return order[starts[place] : starts[place] + size]

    def _losses(self, batch: Sequence[Line]) -> tuple[Tensor, Tensor]:
        """-log p of the tokens of the texts ``[N]`` and of the answers ``[M]``."""
        leads = list(dict.fromkeys(line.lead for line in batch))
        texts, answers = [], []
        for lead in leads:
            text, answer = self._behind(lead, [line for line in batch if line.lead == lead])
            texts.append(text)
            answers.append(answer)
        return torch.cat(texts), torch.cat(answers)

    def _behind(self, lead: tuple[int, ...], batch: Sequence[Line]) -> tuple[Tensor, Tensor]:
        device = self.model.device
        rows = pad([(*line.text, *line.answer) for line in batch], self.fill, device)
        before, memory = None, None
        if lead:
            found = self.model(torch.tensor([lead], device=device), logits_to_keep=1)
            states = [(k.expand(len(batch), -1), v.expand(len(batch), -1)) for k, v in found.past_key_values.states]
            memory, before = Memory(states, len(lead)), found.logits.expand(len(batch), -1, -1)
        logits = self.model(rows.ids, rows.mask, memory, use_cache=False).logits[:, :-1]
        labels = rows.ids
        # Without a lead nothing stands before the first token: it cannot be asked for.
        if before is not None:
            logits = torch.cat([before, logits], 1)
        else:
            labels = labels[:, 1:]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
        losses = losses.view(labels.shape)
        at = torch.arange(rows.ids.shape[1], device=device)[rows.ids.shape[1] - labels.shape[1] :]
        ends = torch.tensor([len(line.text) for line in batch], device=device)[:, None]
        wholes = torch.tensor([_length(line) for line in batch], device=device)[:, None]
        return losses[at < ends], losses[(at >= ends) & (at < wholes)]

    def _evaluate(self) -> None:
        cast(Any, self.model).eval()
        sums = torch.zeros(4)
        with torch.no_grad():
            order = sorted(self.dev, key=_length, reverse=True)
            for start in range(0, len(order), self.settings.batch_size):
                for place, part in enumerate(self._losses(order[start : start + self.settings.batch_size])):
                    sums[2 * place] += part.sum().cpu()
                    sums[2 * place + 1] += part.numel()
        text, text_tokens, answer, answer_tokens = sums.tolist()
        loss = text / max(1, text_tokens) + answer / max(1, answer_tokens)
        state = self.state
        state.dev.append(loss)
        if loss < state.best:
            state.best, state.best_step, state.without_gain = loss, state.step, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            state.without_gain += 1
            patience = self.settings.early_stopping_patience
            state.stopped = bool(patience) and state.without_gain >= patience

    def save(self, path: Path) -> None:
        """Write the whole state to ``path``: there whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"now/{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"best/{n}": t for n, t in self.best.items()}
        for index, one in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{n}": t for n, t in one.items()}
        beside = path.with_suffix(".partial")
        # Copies: a tied output layer would be the embedding's own memory, which safetensors refuses.
        copies = {n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}
        with explained(path):
            save_file(copies, beside, {"state": json.dumps(asdict(self.state))})
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
        beside.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one. Raises ResumeError for one that cannot be read."""
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                state = _State(**json.loads(file.metadata()["state"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as problem:
            raise ResumeError(
                "the base's checkpoint cannot be read", where=str(path), received=str(problem), hint="delete it"
            ) from problem
        rooms: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            room, _, rest = name.partition("/")
            rooms[room][rest] = tensor
        self.model.load_state_dict(rooms["now"])
        self.best = rooms["best"]
        states: dict[int, dict[str, Any]] = {}
        for name, tensor in rooms["optimizer"].items():
            index, _, part = name.partition("/")
            states.setdefault(int(index), {})[part] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(cast(Any, {"state": states, "param_groups": groups}))
        self.state = state


def _length(line: Line) -> int:
    return len(line.text) + len(line.answer)


def _rate(step: int, total: int) -> float:
    warm = math.ceil(_WARMUP * total)
    return (step + 1) / warm if step < warm else 1 - (step - warm) / max(1, total - warm)
