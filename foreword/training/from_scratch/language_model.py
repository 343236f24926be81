"""Train an LSTM or GRU from scratch as a language model of rows and of the answers behind them.

It is a :class:`~foreword.training.loop.Trial` like any other whose writer holds the base's own weights, with nothing in
front of a row. What stands in front of every row (the guidance) is read and not learned: no loss is taken on it, and as
it is the same for every row it is read once a pass. Text and answers weigh the same, however few tokens the answers
have.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.base.device import seeded
from foreword.core.base.lstm import Memory, RecurrentForCausalLM
from foreword.core.inject.value import EMPTY, Foreword
from foreword.core.passes.scoring import pad
from foreword.data.quality.row_sampling import TrainingRows
from foreword.data.tokens.examples import Example, eval_batches, length_of
from foreword.methods.base import Writer
from foreword.settings.schema import BaseSettings, TrainSettings
from foreword.training.heads.base import Objective, Outputs
from foreword.training.loop import Score, Trial

_WARMUP = 0.05


@dataclass(frozen=True)
class Line(Example):
    """What the base learns to write: a row's ids and its answer's, behind ``lead``, on which no loss is taken."""

    lead: tuple[int, ...] = ()

    @classmethod
    def of(cls, lead: Sequence[int], text: Sequence[int], answer: Sequence[int]) -> Line:
        """A line of these token ids."""
        return cls("", tuple(text), tuple(answer), -1, "", lead=tuple(lead))


class OwnWeights(Writer):
    """A model's own weights as what is trained; it writes nothing in front of a row."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())

    def write(self) -> Foreword:
        """Nothing."""
        return EMPTY


@dataclass(frozen=True)
class LanguageModel(Objective):
    """-log p of every token of texts and answers, with the model's own dropout.

    Args:
        fill: the padding id.
        shares: what a token of a text and of an answer weighs (see :func:`weigh`).
        seed: of dropout, which depends on it and on the ids of a pass's rows alone: a resumed training is the same one.
    """

    fill: int
    shares: tuple[float, float] = (1.0, 1.0)
    seed: int = 0
    lead: tuple[int, ...] = ()

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """The weighed -log p of the tokens ``[N]``: of all texts, then of all answers."""
        ids = "/".join(row.id for row in batch)
        with seeded(random.Random(f"{self.seed}/{ids}").getrandbits(62), model.device):
            model.train()
            text, answer = self.parts(model, batch)
            model.eval()
        values = torch.cat([text * self.shares[0], answer * self.shares[1]])
        return Outputs(values, torch.zeros(len(values), dtype=torch.long, device=values.device))

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """They depend on nothing in front."""
        return found.values

    def parts(self, model: PreTrainedModel, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """-log p of the tokens of the texts ``[N]`` and of the answers ``[M]``."""
        groups: dict[tuple[int, ...], list[Example]] = {}
        for row in batch:
            groups.setdefault(_lead(row), []).append(row)
        texts, answers = zip(*(self._behind(model, lead, rows) for lead, rows in groups.items()), strict=True)
        return torch.cat(texts), torch.cat(answers)

    def _behind(self, model: PreTrainedModel, lead: tuple[int, ...], batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
        device = model.device
        rows = pad([(*row.input_ids, *row.target_ids) for row in batch], self.fill, device)
        before, memory = None, None
        if lead:
            front = model(torch.tensor([lead], device=device), logits_to_keep=1)
            states = [(k.expand(len(batch), -1), v.expand(len(batch), -1)) for k, v in front.past_key_values.states]
            memory, before = Memory(states, len(lead)), front.logits.expand(len(batch), -1, -1)
        logits = model(rows.ids, rows.mask, memory, use_cache=False).logits[:, :-1]
        labels = rows.ids
        # Without a lead nothing stands before the first token: it cannot be asked for.
        if before is not None:
            logits = torch.cat([before, logits], 1)
        else:
            labels = labels[:, 1:]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
        losses = losses.view(labels.shape)
        at = torch.arange(rows.ids.shape[1], device=device)[rows.ids.shape[1] - labels.shape[1] :]
        ends = torch.tensor([len(row.input_ids) for row in batch], device=device)[:, None]
        wholes = torch.tensor([length_of(row) for row in batch], device=device)[:, None]
        return losses[at < ends], losses[(at >= ends) & (at < wholes)]


def weigh(rows: Sequence[Example]) -> tuple[float, float]:
    """What a token of a text and of an answer weighs so that all of each weigh as much together, and a step's mean is
    that of its texts plus that of its answers."""
    # Without a lead the first token of a text cannot be asked for.
    text = sum(len(row.input_ids) - (not _lead(row)) for row in rows)
    answer = sum(len(row.target_ids) for row in rows)
    return (text + answer) / max(1, text), (text + answer) / max(1, answer)


def base_trial(
    model: RecurrentForCausalLM, rows: Sequence[Line], dev: Sequence[Line], settings: BaseSettings, fill: int
) -> Trial:
    """The training of a base.

    Args:
        model: with its first weights.
        rows: what is learned; ``dev`` is what early stopping looks at.
        fill: the padding id.
    """
    # A row's id tells its epoch, so that dropout is another one each time.
    course = TrainingRows(rows, vary=lambda epoch, index: replace(rows[index], id=f"{epoch}.{index}"))
    objective = LanguageModel(fill, weigh(rows), settings.seed)

    def evaluate(value: Foreword) -> Score:
        loss = dev_loss(model, objective, dev, settings.batch_size)
        return Score(-loss, loss)

    own = TrainSettings(
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_ratio=_WARMUP,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        num_train_epochs=settings.num_train_epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        early_stopping_patience=settings.early_stopping_patience,
        seed=settings.seed,
    )
    return Trial(model, OwnWeights(model), objective, course, own, settings.learning_rate, evaluate)


def dev_loss(model: PreTrainedModel, objective: LanguageModel, rows: Sequence[Line], batch_size: int) -> float:
    """Mean -log p a token of the texts plus that of the answers."""
    sums = torch.zeros(4)
    with torch.no_grad():
        for batch in eval_batches(rows, batch_size):
            for place, part in enumerate(objective.parts(model, [rows[i] for i in batch])):
                sums[2 * place] += part.sum().cpu()
                sums[2 * place + 1] += part.numel()
    text, text_tokens, answer, answer_tokens = sums.tolist()
    return float(text / max(1, text_tokens) + answer / max(1, answer_tokens))


def _lead(row: Example) -> tuple[int, ...]:
    return row.lead if isinstance(row, Line) else ()
