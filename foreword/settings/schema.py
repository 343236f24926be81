"""What a user can ask for: how to train, what the task is, and the request that joins both.

The dataclasses here are the settings file, the flags and the record in the run's folder at once. Names are those
of transformers' TrainingArguments where it has one. Nothing here imports anything heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from foreword.errors import SettingsError
from foreword.settings.values import Range, settle, shares

Count: TypeAlias = Annotated[int, Range(least=1)]
Whole: TypeAlias = Annotated[int, Range(least=0)]
Share: TypeAlias = Annotated[float, Range(least=0, most=1)]
NotNegative: TypeAlias = Annotated[float, Range(least=0)]
Positive: TypeAlias = Annotated[float, Range(above=0)]
Rate: TypeAlias = Annotated[float | None, Range(above=0)]


class ProgressCall(Protocol):
    """How work reports how far it is: ``progress("train", 40, 96, loss=0.41)``."""

    def __call__(self, name: str, done: int, total: int, **fields: object) -> None: ...


@dataclass(frozen=True)
class TrainSettings:
    """How to train. Raises SettingsError for a value of the wrong type or out of range.

    Args:
        learning_rate: the one learning rate to use; None tries the rates in ``sweep``.
        sweep: learning rates to try; empty means the method's own.
        num_train_epochs: passes over the training rows.
        max_steps: optimizer steps, whatever the epochs; -1 means as many as the epochs give.
        per_device_train_batch_size: rows in a training batch; auto: 16, of which as many at a time as fit in memory.
        per_device_eval_batch_size: rows in an evaluation batch.
        gradient_accumulation_steps: batches per optimizer step.
        optim: optimizer.
        weight_decay: decoupled for adamw, added to the gradient for the others.
        layerwise_decay: what the learning rate is multiplied by from each layer to the one below it; 1: all the same.
        pull_to_start: strength of a pull towards the values that training started from (L2-SP); 0: none.
        momentum: for sgd and rmsprop.
        lr_scheduler_type: how the learning rate falls after the warm-up.
        warmup_ratio: share of the steps in which the learning rate rises from zero.
        max_grad_norm: gradients are clipped to this norm; 0 means never.
        eval_steps: optimizer steps between evaluations on dev; 0 means once an epoch.
        save_steps: optimizer steps between checkpoints; 0 means one at each evaluation.
        early_stopping_patience: evaluations without a better dev metric before training stops; 0 means never.
        seed: of initial values and of the order of rows.
        gradient_checkpointing: compute activations again in the backward pass: less memory, more time.
        dtype: precision of the base; auto: the fastest that is as good on this machine. What is learned is in float32.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        max_length: tokens a row may have with everything in front of it; None means the base model's context.
        num_threads: CPU threads; 0 leaves the choice to torch.
        processes: processes that share the rows of each batch; with several, data and base are files.
        shard: spread the base's layers over the processes, for a base that does not fit in one; all see every row then.
        sampling: the order of the training rows: shuffle, balanced (each label equally often), difficulty (easy to hard
            by the untrained model's loss), length (short to long).
        augment: forms in which rows are varied: case, punctuation, dropout, synonyms, template.
        augment_share: share of an epoch's rows that are varied.
        augment_dropout: share of the words of such a row that are left out.
        augment_synonyms: file of words that may stand for each other, a group a line with commas between.
        augment_templates: variants of the template.
        ablate: train once more without sampling and augmentation, and report both on dev.
        memory_limit_mib: what training may take, for auto; 0 means what is free.
        cache_memory_mib: memory for what the frozen base gives in every epoch again; 0 means none.
        cache_disk_mib: the same in files of the run's folder, for what memory does not hold.
        side_by_side: whether the rates of a sweep train in shared passes; auto: as many as fill a pass. In a comparison
            also the seeds of a method; auto: where that was measured to be faster.
        guidance_share: share of the training rows that have the guidance in them: ``0.5``, or ``0:1`` from the first
            step to the last. Below 1 the guidance belongs to the rows, and dev rows are scored with it and without it.
        loss_on: what of a conversation is learned: its last answer, or the assistant's turns all; figures on dev and
            test are those of the last.
        class_weight: ``balanced`` (every class counts alike in the loss, whatever its rows), or label -> weight, also
            as the text ``a=2,b=0.5``; None: every row counts alike.
        report_to: where loss, the metric on dev and the rate go at each evaluation, beside trainer_log.jsonl:
            tensorboard, mlflow, wandb; none.
    """

    learning_rate: Rate = None
    sweep: Annotated[tuple[float, ...], Range(above=0)] = ()
    num_train_epochs: Positive = 3.0
    max_steps: Annotated[int, Range(least=-1)] = -1
    per_device_train_batch_size: Count | Literal["auto"] = 16
    per_device_eval_batch_size: Count = 32
    gradient_accumulation_steps: Count = 1
    optim: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    weight_decay: NotNegative = 0.0
    layerwise_decay: Annotated[float, Range(above=0, most=1)] = 1.0
    pull_to_start: NotNegative = 0.0
    momentum: Share = 0.9
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Share = 0.1
    max_grad_norm: NotNegative = 1.0
    eval_steps: Whole = 0
    save_steps: Whole = 0
    early_stopping_patience: Whole = 3
    seed: Whole = 13
    gradient_checkpointing: bool = False
    dtype: Literal["float32", "bfloat16", "auto"] = "auto"
    device: str = "auto"
    max_length: Annotated[int | None, Range(least=1)] = None
    num_threads: Whole = 0
    processes: Count = 1
    shard: bool = False
    sampling: Literal["shuffle", "balanced", "difficulty", "length"] = "shuffle"
    augment: tuple[str, ...] = ()
    augment_share: Share = 0.5
    augment_dropout: Share = 0.1
    augment_synonyms: str | None = None
    augment_templates: tuple[str, ...] = ()
    ablate: bool = False
    memory_limit_mib: Whole = 0
    cache_memory_mib: Whole = 1024
    cache_disk_mib: Whole = 4096
    side_by_side: Literal["auto", "on", "off"] = "auto"
    guidance_share: str = "1"
    class_weight: Mapping[str, str] | None = None
    loss_on: Literal["last", "all_turns"] = "last"
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settle(self)
        shares(self.guidance_share)

    @property
    def batch_rows(self) -> int:
        """Rows in a training batch. With auto the same on every machine: memory decides how many go at a time only."""
        asked = self.per_device_train_batch_size
        return asked if isinstance(asked, int) else 16

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        return _json(self)


@dataclass(frozen=True)
class TaskOptions:
    """What the task is, as far as the user says so; the rest is made from the data and shown.

    Args:
        template: Jinja2 text of one row, naming its columns: ``Text: {{ text }}``.
        guidance: text in front of every row: the prompt.
        guidance_file: a UTF-8 file with the guidance, instead of ``guidance``.
        labels: label -> words that the model says for it, as typed; also the text ``a=words,b=words``.
        inputs: columns of the input.
        target: column of the label or of the text to generate.
        task_kind: classification, multilabel (several labels a row), generation or tagging, whatever the columns are
            called; None means recognised.
        metric: the metric that decides on dev.
        metrics: more metrics to report.
        chat: use the base model's chat template.
        head: classify by a trained head instead of by words.
        pooling: what the head reads of the last hidden state: ``mean``, ``cls``, ``last``.
        dev_fraction: share of the rows (below 1) or number of rows for dev, when no dev file is given.
        test_fraction: the same for test.
        split_seed: of the split.
        max_new_tokens: tokens to generate at most; None means the default of decoding, here and below.
        min_new_tokens: tokens to generate at least.
        num_beams: beams to search with.
        do_sample: draw tokens; what is drawn for a row follows from sampling_seed and the row.
        temperature: of drawing.
        top_k: draw from the k likeliest tokens; 0 means all.
        top_p: draw from the likeliest tokens that have this share together.
        sampling_seed: of drawing.
        repetition_penalty: above 1 makes tokens that were there less likely.
        no_repeat_ngram_size: no n-gram of this length comes twice; 0 means any may.
        length_penalty: for beams; above 0 favours longer answers.
        stop: texts at which an answer ends.
        first_k: keep only the first k tokens of each field of a row; None means all.
        guidance_column: column with each row's own guidance; the task's then stands in front of it.
        guidance_form: what the guidance is: ``text`` as it stands, a list of ``keywords``, or a ``situation``.
        guidance_replaces: the span that gives way to the guidance: ``text[2:5]`` (words) or ``text/pattern/``.
        calibrate: take off each label's score what the untrained prompt says for it without content.
        group: column of the document, speaker or user of a row: splits and intervals keep the rows of one together.
    """

    template: str | None = None
    guidance: str | None = None
    guidance_file: str | None = None
    labels: Mapping[str, str] | None = None
    inputs: tuple[str, ...] = ()
    target: str | None = None
    task_kind: Literal["classification", "multilabel", "generation", "tagging"] | None = None
    metric: str | None = None
    metrics: tuple[str, ...] = ()
    chat: bool = False
    head: bool = False
    pooling: str = "mean"
    dev_fraction: NotNegative = 0.1
    test_fraction: NotNegative = 0.2
    split_seed: Whole = 13
    max_new_tokens: Annotated[int | None, Range(least=1)] = None
    min_new_tokens: Annotated[int | None, Range(least=0)] = None
    num_beams: Annotated[int | None, Range(least=1)] = None
    do_sample: bool | None = None
    temperature: Annotated[float | None, Range(above=0)] = None
    top_k: Annotated[int | None, Range(least=0)] = None
    top_p: Annotated[float | None, Range(above=0, most=1)] = None
    sampling_seed: Annotated[int | None, Range(least=0)] = None
    repetition_penalty: Annotated[float | None, Range(above=0)] = None
    no_repeat_ngram_size: Annotated[int | None, Range(least=0)] = None
    length_penalty: float | None = None
    stop: tuple[str, ...] = ()
    first_k: Annotated[int | None, Range(least=1)] = None
    guidance_column: str | None = None
    guidance_form: Literal["text", "keywords", "situation"] = "text"
    guidance_replaces: str | None = None
    calibrate: bool = False
    group: str | None = None

    def __post_init__(self) -> None:
        settle(self)
        if self.guidance is not None and self.guidance_file is not None:
            raise SettingsError(
                "guidance is given twice, as text and as a file",
                where=self.guidance_file,
                hint="keep one of guidance and guidance_file",
            )

    def decoding(self) -> dict[str, Any]:
        """What is said of decoding, by the names of ``data.decoding.Decoding``."""
        names = (
            "max_new_tokens", "min_new_tokens", "num_beams", "do_sample", "temperature", "top_k", "top_p",
            "sampling_seed", "repetition_penalty", "no_repeat_ngram_size", "length_penalty",
        )  # fmt: skip
        said = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**said, "stop": self.stop} if self.stop else said

    def guidance_text(self) -> str | None:
        """The guidance, read from its file if it has one. Raises SettingsError when the file cannot be read."""
        if self.guidance_file is None:
            return self.guidance
        try:
            return Path(self.guidance_file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                "the guidance file cannot be read",
                where=self.guidance_file,
                expected="a text file in UTF-8",
                received=error,
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        return _json(self)


SCRATCH = ("lstm", "gru")
"""Bases that are not found but trained from scratch on the run's own training rows."""
FETCHED = ("textgenrnn",)
"""Bases that are fetched by a word of their own, from the package that ships them."""


@dataclass(frozen=True)
class BaseSettings:
    """A base that is trained from scratch (``--base lstm`` or ``gru``). Raises SettingsError as the others.

    Args:
        hidden_size: width of the layers and of the embedding.
        num_hidden_layers: layers.
        dropout: share of the values dropped between the layers while the base is trained.
        tokenizer: byte-level BPE made from the rows, or one token a character.
        vocab_size: tokens in the vocabulary at most.
        num_train_epochs: passes over the rows.
        max_steps: optimizer steps at most; -1 means as many as the epochs give.
        batch_size: rows in a batch.
        learning_rate: of AdamW, with a short warm-up and a linear fall.
        weight_decay: decoupled.
        early_stopping_patience: epochs without a lower dev loss before training stops; 0 means never.
        max_length: tokens of a row that the base is trained on; longer rows are cut.
        answers: the right answers stand behind the rows, so that the base can be asked for them.
        seed: of the first weights, the order of rows and dropout.
    """

    hidden_size: Count = 256
    num_hidden_layers: Count = 2
    dropout: Annotated[float, Range(least=0, most=0.9)] = 0.3
    tokenizer: Literal["bpe", "char"] = "bpe"
    vocab_size: Annotated[int, Range(least=260)] = 4096
    num_train_epochs: Positive = 10.0
    max_steps: Annotated[int, Range(least=-1)] = -1
    batch_size: Count = 32
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.01
    early_stopping_patience: Whole = 2
    max_length: Count = 256
    answers: bool = True
    seed: Whole = 13

    def __post_init__(self) -> None:
        settle(self)

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        return _json(self)


@dataclass(frozen=True)
class TrainRequest:
    """Everything that one training run is asked to do.

    Args:
        data: a data file, or rows in memory (DataFrame, Dataset, list of dicts).
        base: the base model: hub id, folder or GGUF file, ``lstm`` or ``gru`` for one that is trained from scratch, or
            one that ``load_base`` has loaded.
        output_dir: the run's folder.
        dev: data for dev; None takes a part of ``data``.
        test: data for test; None takes a part of ``data``.
        init_from: a ``.foreword`` file to start from; needs a method that can start from one.
        method: name of the method.
        method_settings: plain values, checked by the method's own dataclass.
        settings: how to train.
        task_options: what the task is.
        base_settings: of a base that is trained from scratch.
        skip_bad: go on without the rows that the check refuses, counted.
        resume: go on with the run in ``output_dir``.
        overwrite: replace an earlier run in ``output_dir``.
        encoding: of the data files; None finds it out.
        progress: called as work goes on; None shows it on standard error.
        places: setting -> ``file:line`` or flag where it was given, for error messages.
    """

    data: Any
    base: Any
    output_dir: str | Path
    dev: Any = None
    test: Any = None
    init_from: str | Path | None = None
    method: str = "prefix"
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    settings: TrainSettings = field(default_factory=TrainSettings)
    task_options: TaskOptions = field(default_factory=TaskOptions)
    base_settings: BaseSettings = field(default_factory=BaseSettings)
    skip_bad: bool = False
    resume: bool = False
    overwrite: bool = False
    encoding: str | None = None
    progress: ProgressCall | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The resolved settings in the sections of a settings file; data in memory is named by its type."""
        return {
            "data": _data_name(self.data),
            "dev": _data_name(self.dev),
            "test": _data_name(self.test),
            "base": self._base_name(),
            "init_from": None if self.init_from is None else str(self.init_from),
            "output_dir": str(self.output_dir),
            "skip_bad": self.skip_bad,
            "encoding": self.encoding,
            "task": self.task_options.to_json(),
            "method": {"name": self.method, **self.method_settings},
            "training": self.settings.to_json(),
        }

    def files(self) -> tuple[object, ...]:
        """What the run reads, as it was given: files, folders, names, or values in memory."""
        options = self.task_options
        return (
            self.data, self.dev, self.test, self.base, self.init_from, options.guidance_file,
            self.settings.augment_synonyms,
        )  # fmt: skip

    def _base_name(self) -> object:
        name = self.base if isinstance(self.base, str) else self.base.id
        return {"name": name, **self.base_settings.to_json()} if name in SCRATCH else name


def _data_name(data: object) -> str | None:
    if data is None or isinstance(data, (str, Path)):
        return None if data is None else str(data)
    return f"<{type(data).__name__} in memory>"


def _json(settings: TrainSettings | TaskOptions | BaseSettings) -> dict[str, Any]:
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
