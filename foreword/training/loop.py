"""One training loop for every method: it trains a module, evaluates what the module writes, and knows no method by
name.

A :class:`Trial` can stop after any step and go on later, in this process or another, with bit-equal results on CPU:
which rows a step sees follows from the seed and the step's number alone, and the rest of the state is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.checkpointing import checkpointing
from foreword.core.attention.fused_layers import fused
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.layer_cache import LayerCache, reusing
from foreword.core.passes.memory import out_of_memory, release
from foreword.core.passes.prefix_cache import PrefixCache
from foreword.data.quality.row_sampling import TrainingRows
from foreword.data.tokens.examples import Example
from foreword.errors import ResourceError
from foreword.messages import Message
from foreword.methods.base import Writer
from foreword.settings.schema import TrainSettings
from foreword.training import distributed
from foreword.training.events import Evaluated, NotFinite, Score, Step, TrialState
from foreword.training.loss_scale import overflowed, scale_of
from foreword.training.objective import Objective
from foreword.training.schedule import Pull, make_optimizer, rate_at, total_steps
from foreword.training.step import Share, Total, backward

__all__ = ["Evaluated", "NotFinite", "TrialState", "Score", "Step", "Trial", "advance"]

E = TypeVar("E")


class Trial:
    """One writer trained at one learning rate.

    Args:
        model: the frozen base.
        writer: what is trained.
        objective: loss of a batch.
        rows: the training examples; as a :class:`TrainingRows` also in which order and form they are learned from.
        settings: batch size, schedule, clipping, patience.
        learning_rate: the peak.
        evaluate: scores a foreword on dev.

    Attributes:
        evaluate_at: steps after which an evaluation is due besides the regular ones (rungs of a sweep).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        writer: Writer,
        objective: Objective,
        rows: Sequence[Example] | TrainingRows,
        settings: TrainSettings,
        learning_rate: float,
        evaluate: Callable[[Foreword], Score],
    ) -> None:
        self.model, self.writer, self.objective = model, writer, objective
        self.course = rows if isinstance(rows, TrainingRows) else TrainingRows(rows)
        self.rows = self.course.rows
        self.settings, self.learning_rate, self.evaluate = settings, learning_rate, evaluate
        self.evaluate_at: frozenset[int] = frozenset()
        self.parameters = [p for p in writer.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(writer, settings, learning_rate)
        self.pull = Pull(self.parameters, settings.pull_to_start)
        self.total = total_steps(len(self.rows), settings)
        self.progress = TrialState()
        self.best_state: dict[str, Tensor] = {}
        # What is kept of the base's work on the rows: the layers below all that trains, and what stands before slots.
        self.frozen: LayerCache | None = None
        self.past: PrefixCache | None = None
        per_batch = settings.batch_rows
        self.steps_per_epoch = math.ceil(math.ceil(len(self.rows) / per_batch) / settings.gradient_accumulation_steps)

    @property
    def done(self) -> bool:
        """Whether every step was made, or early stopping ended it."""
        return self.progress.stopped or self.progress.step >= self.total

    def run(self, until: int | None = None) -> Iterator[Step | Evaluated]:
        """Train up to ``until`` steps (default: all) and yield what happens.

        Raises:
            NotFinite: a loss or gradient is not a number; the state is as before that step. Or an evaluation is not,
                and the best state stays what it was.
        """
        for _, event in advance([self], until):
            if isinstance(event, NotFinite):
                raise event
            yield event

    def due(self, step: int) -> bool:
        """Whether an evaluation follows step ``step``; a checkpoint waits for it."""
        return self._regular(step) or step in self.evaluate_at

    def _regular(self, step: int) -> bool:
        """Whether the settings ask for an evaluation there; a sweep's own ones do not try anybody's patience."""
        return step == self.total or step % (self.settings.eval_steps or self.steps_per_epoch) == 0

    def first_and_last_loss(self) -> tuple[float, float]:
        """The mean training loss of the first and the last steps: whole passes if two were made.

        Steps count by their rows. NaN before the first step.
        """
        losses = [step.loss for step in self.progress.steps]
        size = self.steps_per_epoch if len(losses) >= 2 * self.steps_per_epoch else max(1, len(losses) // 4)
        ends = len(losses) - len(losses) % size if size == self.steps_per_epoch else len(losses)

        def mean(steps: range) -> float:
            weights = [sum(map(len, self.batches(step))) for step in steps]
            total = sum(weight * losses[step] for weight, step in zip(weights, steps, strict=True))
            return total / sum(weights) if weights else math.nan

        return mean(range(min(size, len(losses)))), mean(range(max(0, ends - size), ends))

    def batches(self, step: int) -> list[list[int]]:
        """The batches of one optimizer step, by its number alone."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self.course.batches(self.settings.batch_rows, self.settings.seed, epoch)
        size = self.settings.gradient_accumulation_steps
        return order[place * size : (place + 1) * size]

    def tokens(self, step: int) -> int:
        """How many tokens the rows of one optimizer step have."""
        rows = [self.rows[index] for batch in self.batches(step) for index in batch]
        return sum(len(row.input_ids) + len(row.target_ids) for row in rows)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.learning_rate * rate_at(self.progress.step, self.total, self.settings)

    def begin(self) -> Share:
        """What the trial brings to its next step; its gradients are cleared and its learning rate is set."""
        number = self.progress.step
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        epoch = number // self.steps_per_epoch
        batches = [[self.course.row_at(number, epoch, index) for index in batch] for batch in self.batches(number)]
        return Share(self.writer, self.objective, batches, self.past)

    def finish(self, total: Total) -> Step:
        """Make the step whose gradients were accumulated over ``total.units`` units.

        Raises:
            NotFinite: the loss or the gradient is not a number; the state is as before the step.
        """
        # Rows whose words to tag all lie behind the first k tokens ask for nothing.
        units = max(1, total.units)
        number, loss = self.progress.step, total.loss / units
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad /= units
        self.pull.add()
        limit = self.settings.max_grad_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise NotFinite(
                Message(
                    "step {value} is not finite at learning rate {learning_rate:g}",
                    value=number + 1,
                    learning_rate=self.learning_rate,
                ),
                number + 1,
                Message("loss {loss:g}, gradient norm {norm:g}", loss=loss, norm=norm),
            )
        self.optimizer.step()
        made = Step(number + 1, loss, self.rate, norm)
        self.progress.steps.append(made)
        self.progress.step = made.step
        return made

    @property
    def owes(self) -> bool:
        """Whether an evaluation is due after the last step and was not made yet."""
        state = self.progress
        made = state.evaluations[-1].step if state.evaluations else 0
        return 0 < state.step != made and self.due(state.step)

    def evaluated(self) -> Evaluated:
        """Evaluate the foreword as it is now, and keep it where it is the best so far.

        Raises:
            NotFinite: the score is not a number; the best state stays what it was.
        """
        state = self.progress
        with reusing(self.frozen):
            score = self.evaluate(self.current())
        # The last step may have spoiled the values although its own loss was finite.
        if not math.isfinite(score.loss) or not math.isfinite(score.metric):
            raise NotFinite(
                Message(
                    "what step {step} wrote is not finite at learning rate {learning_rate:g}",
                    step=state.step,
                    learning_rate=self.learning_rate,
                ),
                state.step,
                Message("loss {loss:g} on dev", loss=score.loss),
            )
        better = score.beats(state.best)
        if better:
            state.best, state.best_step, state.without_gain = score, state.step, 0
            self.best_state = {n: t.detach().clone() for n, t in self.writer.state_dict().items()}
        elif self._regular(state.step):
            state.without_gain += 1
            patience = self.settings.early_stopping_patience
            state.stopped = bool(patience) and state.without_gain >= patience
        event = Evaluated(state.step, score, better)
        state.evaluations.append(event)
        return event

    def current(self) -> Foreword:
        """The foreword as it is now, frozen."""
        with torch.no_grad():
            return self.writer.write().detach()

    def best(self) -> Foreword:
        """The foreword of the best evaluation, frozen (the current one if none was made)."""
        if not self.best_state:
            return self.current()
        now = {n: t.detach().clone() for n, t in self.writer.state_dict().items()}
        self.writer.load_state_dict(self.best_state)
        value = self.current()
        self.writer.load_state_dict(now)
        return value

    def tensors(self) -> dict[str, Tensor]:
        """Writer, best writer and optimizer, each tensor by name."""
        out = {f"writer/{n}": t.detach() for n, t in self.writer.state_dict().items()}
        out |= {f"best/{n}": t for n, t in self.best_state.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            out |= {f"optimizer/{index}/{n}": t for n, t in state.items() if isinstance(t, Tensor)}
        return out

    def restore(self, tensors: dict[str, Tensor], progress: TrialState) -> None:
        """The inverse of :meth:`tensors`, with the progress that was saved beside them."""

        def under(room: str) -> dict[str, Tensor]:
            return {n.removeprefix(room): t for n, t in tensors.items() if n.startswith(room)}

        self.writer.load_state_dict(under("writer/"))
        self.best_state = under("best/")
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in under("optimizer/").items():
            index, _, part = name.partition("/")
            state.setdefault(int(index), {})[part] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.progress = progress


def advance(trials: Sequence[Trial], until: int | None = None) -> Iterator[tuple[Trial, Step | Evaluated | NotFinite]]:
    """Train trials of one base side by side, each up to ``until`` of its steps (default: all), and yield what happens.

    A round is one step of every trial that goes on; their rows share the passes through the base. A trial that is not
    finite is told of and left out, as one that has ended is; the others go on. Whenever something is yielded, every
    trial is in a state that can be saved and gone on from: an evaluation that is owed then comes first.
    """
    out: set[Trial] = set()
    while True:
        alive = [trial for trial in trials if trial not in out]
        owing = next((trial for trial in alive if trial.owes), None)
        going = [t for t in alive if not t.done and (until is None or t.progress.step < until)]
        events: list[tuple[Trial, Step | Evaluated | NotFinite]] = []
        if owing is not None:
            events.append((owing, _told(owing.evaluated)))
        elif going:
            # Nothing stays in force across a yield: whoever drops this generator may close it in another thread.
            events += zip(going, _round(going), strict=True)
        else:
            return
        out |= {trial for trial, event in events if isinstance(event, NotFinite)}
        yield from events


def _round(trials: Sequence[Trial]) -> list[Step | NotFinite]:
    """One step of each trial, in passes that they share."""
    while (totals := _accumulated(trials)) is None or _overflowed(trials, totals):
        if totals is None:
            _halve(trials)
    return [_told(partial(trial.finish, total)) for trial, total in zip(trials, totals, strict=True)]


def _accumulated(trials: Sequence[Trial]) -> list[Total] | None:
    """The gradients of one step of each trial; None where memory ran out."""
    first = trials[0]
    shares = [trial.begin() for trial in trials]
    mine = [replace(one, batches=[distributed.share(batch) for batch in one.batches]) for one in shares]
    totals: list[Total] | None = None
    try:
        with (
            injected(first.model) as injection,
            fused(first.model),
            checkpointing(first.model, first.settings.gradient_checkpointing),
            reusing(first.frozen if all(one.frozen is first.frozen for one in trials) else None),
        ):
            totals = backward(first.model, injection, mine, _at_once(trials), _scale(trials))
    except (RuntimeError, MemoryError) as problem:
        if not out_of_memory(problem):
            raise
    if distributed.any_of(totals is None):
        # Only here are the activations that filled the memory let go of: the error's traceback held them.
        release(first.model.device)
        return None
    assert totals is not None
    return _together(trials, totals)


def _scale(trials: Sequence[Trial]) -> float:
    return scale_of(trials[0].model.dtype, [trial.progress for trial in trials])


def _overflowed(trials: Sequence[Trial], totals: Sequence[Total]) -> bool:
    """Whether a float16 base's gradients overflowed at this scale, so that the passes are made again."""
    parameters = [parameter for trial in trials for parameter in trial.parameters]
    losses = [total.loss for total in totals]
    return overflowed([trial.progress for trial in trials], parameters, losses, _scale(trials))


def _together(trials: Sequence[Trial], totals: Sequence[Total]) -> list[Total]:
    """Gradients and totals of all processes that share the rows."""
    if not distributed.shares_rows():
        return list(totals)
    distributed.add_up_gradients([p for trial in trials for p in trial.parameters])
    summed = distributed.add_up([number for total in totals for number in (total.loss, total.units)])
    return [Total(loss, int(units)) for loss, units in zip(summed[::2], summed[1::2], strict=True)]


def _at_once(trials: Sequence[Trial]) -> int:
    """Rows of a pass at most; 0 for no limit."""
    return min((t.progress.rows_at_once for t in trials if t.progress.rows_at_once), default=0)


def _halve(trials: Sequence[Trial]) -> None:
    """Let passes take half as many rows from now on: more of them, the same gradients."""
    rows = _at_once(trials) or sum(max(map(len, t.batches(t.progress.step))) for t in trials)
    if rows == 1:
        raise ResourceError(
            "not even one row at a time fits in memory",
            where=f"step {trials[0].progress.step + 1}",
            hint="set gradient_checkpointing=true, shorten the rows with max_length or --first-k, or use bfloat16",
        )
    for trial in trials:
        trial.progress.rows_at_once = rows // 2


def _told(act: Callable[[], E]) -> E | NotFinite:
    """What ``act`` returns, or the reason why the trial is out."""
    try:
        return act()
    except NotFinite as problem:
        return problem
