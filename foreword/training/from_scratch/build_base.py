"""A base from scratch, from tables to a folder that loads like any other; made once and kept in the cache.

An interrupted training goes on where it was when the same base is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from foreword.core.base.device import seeded
from foreword.core.base.load import Base, base_of
from foreword.core.base.lstm import RecurrentConfig, RecurrentForCausalLM
from foreword.data.row import references
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.task.template import Template
from foreword.data.tokens.encode_row import slot_starts, spoken
from foreword.data.tokens.examples import Encoder, lead_ids
from foreword.data.tokens.tokenize import answer_ids, completion, label_ids, pieces, token_ids
from foreword.errors import DataError, SettingsError, TrainingError
from foreword.messages import Message
from foreword.settings.schema import SCRATCH, BaseSettings, ProgressCall
from foreword.storage import building, cache_folder
from foreword.training import checkpoint
from foreword.training.from_scratch.language_model import Line, base_trial
from foreword.training.from_scratch.make_tokenizer import make_tokenizer
from foreword.training.loop import Evaluated, Step, Trial
from foreword.training.side_by_side import train_all

# A later version that trains otherwise must not find what an earlier one has trained.
_VERSION = "2"


@dataclass(frozen=True)
class Text:
    """One task's rows: what a base is trained on, and what its training is watched on."""

    task: Task
    train: Table
    dev: Table


def build_base(
    cell: str,
    texts: Sequence[Text],
    settings: BaseSettings,
    progress: ProgressCall,
    interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """The folder of a base trained on ``texts``; trained now if the cache does not hold it.

    Args:
        cell: ``lstm`` or ``gru``.
        texts: one or more tasks.
        progress: told of every step.
        interrupted: asked after every step; True saves the training and raises KeyboardInterrupt.

    Raises:
        DataError: there is nothing to train on.
        TrainingError: the training failed.
        ResumeError: an earlier, interrupted training left a checkpoint that cannot be read.
    """
    _check(cell, texts)
    target = cache_folder("bases", f"{cell}-{_key(cell, texts, settings)}")
    if target.is_dir():
        return target
    model, tokenizer = untrained(cell, texts, settings)
    trial = base_trial(
        model,
        [line for text in texts for line in lines(text.task, text.train, tokenizer, settings)],
        [line for text in texts for line in lines(text.task, text.dev, tokenizer, settings)],
        settings,
        int(tokenizer.pad_token_id),
    )
    unfinished = target.with_name(f"{target.name}.training")
    train_base(trial, unfinished, partial(progress, f"train the {cell}"), interrupted)
    with building(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps(_facts(cell, texts, settings, trial), indent=1) + "\n")
    shutil.rmtree(unfinished, ignore_errors=True)
    return target


def train_base(
    trial: Trial, folder: Path, report: Callable[..., None], interrupted: Callable[[], bool] = lambda: False
) -> None:
    """Train to the end, or from where an earlier training in ``folder`` stopped, and leave the best weights.

    Raises:
        TrainingError: the loss is not a number.
        ResumeError: the checkpoint in ``folder`` cannot be read.
    """
    path = folder / "trial" / "checkpoint.safetensors"
    checkpoint.settle(folder)
    checkpoint.load(trial, path)

    def on_event(trial: Trial, event: Step | Evaluated) -> None:
        figures = {"loss": event.loss} if isinstance(event, Step) else {"dev loss": event.score.loss}
        report(event.step, trial.total, **figures)

    [failure] = train_all([trial], on_event, interrupted, paths=[path])
    if failure is not None:
        raise TrainingError(
            Message("step {step} of the base's training is not finite", step=failure.step),
            received=failure.why,
            hint="lower base.learning_rate",
        )
    trial.writer.load_state_dict(trial.best_state)
    # Early stopping ends before the last step.
    report(trial.total, trial.total)


def untrained(
    cell: str, texts: Sequence[Text], settings: BaseSettings
) -> tuple[RecurrentForCausalLM, PreTrainedTokenizerFast]:
    """The base with its first weights, and its tokenizer, which is made from the training rows."""
    _check(cell, texts)
    tokenizer = make_tokenizer(
        [line for text in texts for line in _texts(text.task, text.train)], settings.tokenizer, settings.vocab_size
    )
    config = RecurrentConfig(
        len(tokenizer),
        cell="lstm" if cell == "lstm" else "gru",
        num_hidden_layers=settings.num_hidden_layers,
        hidden_size=settings.hidden_size,
        dropout=settings.dropout,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with seeded(settings.seed):
        model = RecurrentForCausalLM(config)
    return model, tokenizer


def untrained_base(cell: str, texts: Sequence[Text], settings: BaseSettings) -> Base:
    """The base as it is before its training, to measure what a run with it would cost."""
    return base_of(*untrained(cell, texts, settings), id=cell)


def _check(cell: str, texts: Sequence[Text]) -> None:
    if cell not in SCRATCH:
        raise SettingsError(
            "no base of that name is trained from scratch", expected=" or ".join(SCRATCH), received=cell
        )
    for text in texts:
        if not len(text.train) or not len(text.dev):
            raise DataError("there are no rows to train a base on", where=text.train.name)


def _texts(task: Task, table: Table) -> list[str]:
    """Every text that the base will meet: the guidance, the rows, and the answers."""
    template = Template(task.template)
    out = [task.guidance, *(group.words for group in template.soft)]
    out += [text for some in task.more_words.values() for text in some]
    for row in table.rows:
        out.append(template.render(row.fields))
        for one in references(row.fields.get(task.target))[:1]:
            out.append(task.verbalizer.get(one, "") if task.verbalizer else completion(task, one))
    return [text for text in out if text]


def lines(task: Task, table: Table, tokenizer: Any, settings: BaseSettings) -> list[Line]:
    """What the base learns of a table: each row's text, cut where it is too long, and the answer behind it.

    Where the template has soft slots, the words that they stand for are read.
    """
    lead = tuple(lead_ids(task, tokenizer))
    end = int(tokenizer.eos_token_id)
    tail = token_ids(tokenizer, pieces(task, tokenizer).tail)
    words = _words(task, tokenizer)
    starts = [token for group in slot_starts(task, tokenizer) for token in group]
    out = []
    for example in Encoder(task, tokenizer, False).encode(table.rows):
        answer = example.target_ids or (*words.get(example.reference, ()), end)
        text = spoken(example.input_ids, starts)
        if len(text) > settings.max_length:
            # The end of a row's text says what is asked; the cut is before it.
            kept = settings.max_length - len(tail)
            text = (*text[: max(1, kept)], *tail)
        if text:
            out.append(Line.of(lead, text, answer if settings.answers else (end,)))
    return out


def _words(task: Task, tokenizer: Any) -> dict[str, list[int]]:
    """Label -> the ids of its first words, as a prompt is asked for them."""
    if task.head:
        return {label: answer_ids(task, tokenizer, text) for label, text in task.verbalizer.items()}
    return {label: several[0] for label, several in zip(task.labels, label_ids(task, tokenizer), strict=True)}


def _key(cell: str, texts: Sequence[Text], settings: BaseSettings) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, cell, settings.to_json()], sort_keys=True).encode())
    for text in texts:
        digest.update(json.dumps(text.task.to_json(), sort_keys=True, ensure_ascii=True).encode())
        for table in (text.train, text.dev):
            for row in table.rows:
                digest.update(json.dumps(dict(row.fields), sort_keys=True, default=str).encode())
            digest.update(b"|")
    return digest.hexdigest()[:16]


def _facts(cell: str, texts: Sequence[Text], settings: BaseSettings, trial: Trial) -> Mapping[str, Any]:
    seen, best = trial.progress, trial.progress.best
    return {
        "cell": cell,
        "settings": settings.to_json(),
        "rows": [{"file": t.train.name, "train": len(t.train), "dev": len(t.dev)} for t in texts],
        "values": sum(p.numel() for p in trial.parameters),
        "vocabulary": trial.model.config.vocab_size,
        "steps": seen.step,
        "best_step": seen.best_step,
        "dev_loss": None if best is None else best.loss,
        "dev_losses": [event.score.loss for event in seen.evaluations],
    }
