"""A task as data: what the model is asked, in which words it answers, and how the answer is measured."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from foreword.data.task.columns import Kind
from foreword.data.task.decoding import Decoding
from foreword.data.task.guidance import Form, mode_of, span_of
from foreword.data.task.template import Template, parsed
from foreword.errors import SettingsError, TemplateError, VerbalizerError
from foreword.messages import Message

__all__ = ["METRIC_NAMES", "PLAIN_THRESHOLD", "Decoding", "Task"]

METRIC_NAMES: dict[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "micro_f1"),
    "multilabel": ("labels_micro_f1", "labels_macro_f1", "labels_exact"),
    "generation": (
        "bleu", "chrf", "rouge_l", "rouge_1", "rouge_2", "exact_match", "token_f1", "distinct_1", "distinct_2",
        "perplexity",
    ),
    "tagging": ("span_f1", "token_accuracy", "span_precision", "span_recall"),
}  # fmt: skip
"""The metrics that fit each kind of task; the first is the plain choice."""
PLAIN_THRESHOLD = 0.5
"""Where a label of several is said that has no threshold of its own."""


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        kind: classification, multilabel (several labels a row), generation or tagging.
        template: Jinja2 source of the text made of one row.
        guidance: the instruction; what a prefix starts from. It stands in front of the text, unless the template has a
            place for it (``{{ guidance }}``) or a span of the text gives way to it.
        target: the field with the label or the completion.
        verbalizer: label -> the words that stand for it, exactly as they follow the text (a space in front where
            one is written); empty for generation. For tagging each tag stands for itself.
        metric: what is measured and what early stopping looks at.
        chat: ask through the tokenizer's chat template.
        head: classify with a trained head on pooled states and not by words; tagging always does, word by word.
        pooling: how states are pooled for the head: ``mean``, ``cls``, ``last``, or what another head reads.
        decoding: how answers are generated.
        words: tagging: the field with the words, a space between.
        guidance_column: the field with each row's own guidance; the task's then stands in front of everything.
        guidance_form: what the guidance is: a text as it stands, a list of keywords, or a situation.
        guidance_replaces: the span that gives way to the guidance, as ``text[2:5]`` (words) or ``text/pattern/``.
        guidance_in_row: the guidance belongs to each row's own text, also where something learned stands in front.
        more_words: label -> further words that stand for it as well; a label is as probable as all of its words.
        turns: the field with a conversation's turns, which a chat template writes as turns; "": there is none.
        calibration: label -> what the untrained prompt says for it without any content (log p), taken off its scores.
        plain: generation: the rows' texts are learned as they stand, and measured by how likely they are.
        absent: multilabel: the words that say that no label fits, as they follow the text.
        thresholds: multilabel: label -> the probability above which it is said; a label that is not in it: one half.

    Raises:
        SettingsError: kind, metric and the rest do not fit each other.
        TemplateError: the template does not parse, or has the target in it.
        VerbalizerError: two labels have the same words, or one has none.
    """

    kind: Kind
    template: str
    guidance: str
    target: str
    verbalizer: dict[str, str] = field(default_factory=dict)
    metric: str = ""
    chat: bool = False
    head: bool = False
    pooling: str = "mean"
    decoding: Decoding = field(default_factory=Decoding)
    words: str = ""
    guidance_column: str = ""
    guidance_form: Form = "text"
    guidance_replaces: str = ""
    guidance_in_row: bool = False
    more_words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    turns: str = ""
    plain: bool = False
    absent: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, get_args(Kind))
        if not self.metric:
            object.__setattr__(self, "metric", METRIC_NAMES[self.kind][0])
        _one_of("metric", self.metric, METRIC_NAMES[self.kind])
        template = parsed(self.template)
        _one_of("guidance_form", self.guidance_form, get_args(Form))
        _check_places(self)
        if self.kind == "generation" and (self.verbalizer or self.head):
            raise SettingsError("a generation task has no labels and no head", where="task", received=self.verbalizer)
        if self.head and self.chat:
            raise SettingsError("a head does not go with a chat template", where="chat", hint="choose one of the two")
        if self.plain and (self.chat or self.metric != "perplexity" or len(template.fields) != 1):
            raise SettingsError(
                "plain text is learned as it stands",
                where="task",
                expected="a template that is one column, the metric perplexity, and no chat template",
                hint="give rows with prompt and completion for anything else",
            )
        if self.kind == "tagging":
            object.__setattr__(self, "head", True)
            if self.words not in template.fields:
                hint = "name the column of the words in the template: {{ tokens }}"
                raise SettingsError("the template does not show the words to tag", where="template", hint=hint)
        if self.kind != "generation":
            _check_words(self.label_words)

    @property
    def guidance_mode(self) -> Literal["extension", "fusion", "replacement"]:
        """Which way the guidance goes in: in front, woven in by the template, or in the place of a span."""
        return mode_of(self)

    @property
    def has_labels(self) -> bool:
        """Whether a row as a whole is answered with labels: one, or several."""
        return self.kind in ("classification", "multilabel")

    @property
    def masked(self) -> bool:
        """Whether a masked language model is asked for the words at ``{{ mask }}``."""
        return parsed(self.template).masked

    @property
    def label_words(self) -> dict[str, tuple[str, ...]]:
        """Label -> every text that stands for it, the first the verbalizer's."""
        return {label: (first, *self.more_words.get(label, ())) for label, first in self.verbalizer.items()}

    def threshold(self, label: str) -> float:
        """The probability above which a label is said, where a row may have several."""
        return self.thresholds.get(label, PLAIN_THRESHOLD)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the verbalizer's order; a class index counts in it."""
        return tuple(self.verbalizer)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON; ``from_json`` gives an equal task back."""
        result = asdict(self)
        result["decoding"]["stop"] = list(self.decoding.stop)
        result["more_words"] = {label: list(words) for label, words in self.more_words.items()}
        return result

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """A task from its dictionary.

        Raises:
            SettingsError: a key is unknown (the nearest is named) or missing, or a value has the wrong type.
        """
        _check_keys(cls, data, "task", ("kind", "template", "guidance", "target"))
        values = dict(data)
        decoding = values.get("decoding", {})
        if isinstance(decoding, Mapping):
            _check_keys(Decoding, decoding, "task.decoding", ())
            stop = decoding.get("stop", ())
            if not isinstance(stop, list | tuple) or not all(isinstance(one, str) for one in stop):
                raise _wrong_type("task.decoding.stop", "a list of texts", stop)
            values["decoding"] = Decoding(**{**decoding, "stop": tuple(stop)})
        else:
            raise _wrong_type("task.decoding", "an object", decoding)
        words = values.get("verbalizer", {})
        if not isinstance(words, Mapping) or not all(isinstance(one, str) for pair in words.items() for one in pair):
            raise _wrong_type("task.verbalizer", "an object of label: words", words)
        values["verbalizer"] = dict(words)
        values["more_words"] = _more_words(values.get("more_words", {}))
        values["calibration"] = _numbers("calibration", values.get("calibration", {}))
        values["thresholds"] = _numbers("thresholds", values.get("thresholds", {}))
        return cls(**values)


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "Kind": ((str,), "text"),
    "Form": ((str,), "text"),
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
}


def _check_keys(cls: type[Task] | type[Decoding], data: Mapping[str, Any], where: str, needed: Sequence[str]) -> None:
    known = {one.name: str(one.type) for one in fields(cls)}
    for key, value in data.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = (
                Message("did you mean {value!r}?", value=close[0])
                if close
                else Message("the keys are {names}", names=", ".join(known))
            )
            raise SettingsError(Message("unknown key {key!r}", key=key), where=where, hint=hint)
        types, expected = _TYPES.get(known[key], ((object,), ""))
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
            raise _wrong_type(f"{where}.{key}", expected, value)
    missing = [name for name in needed if name not in data]
    if missing:
        raise SettingsError(Message("the key {value!r} is missing", value=missing[0]), where=where)


def _wrong_type(where: str, expected: str, received: object) -> SettingsError:
    return SettingsError("a value of the wrong type", where=where, expected=expected, received=repr(received))


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        close = difflib.get_close_matches(value, allowed, 1)
        hint = Message("did you mean {value!r}?", value=close[0]) if close else None
        raise SettingsError(
            Message("unknown {name}", name=name), where=name, expected=", ".join(allowed), received=value, hint=hint
        )


def _check_places(task: Task) -> None:
    """Refuse places of the template that do not go with the rest of the task."""
    template = parsed(task.template)
    _check_columns(task, template)
    _check_marks(task, template)


def _check_columns(task: Task, template: Template) -> None:
    if task.target in template.fields:
        raise TemplateError(
            Message("the template shows the model the answer: the column {target!r}", target=task.target),
            where=template.place(task.target),
            hint="leave it out: what the model says is compared with that column",
        )
    if task.guidance_column and task.guidance_column == task.target:
        raise SettingsError(
            "the column with the rows' guidance is the one with the answers",
            where="guidance_column",
            received=task.guidance_column,
            hint="name another column, or the answers' with --target",
        )
    if task.guidance_replaces:
        name = span_of(task.guidance_replaces).field
        if template.guided:
            raise SettingsError(
                "the guidance has two places: one in the template, one in the span that it replaces",
                where="guidance_replaces",
                hint="keep one of the two",
            )
        if name not in template.fields:
            raise SettingsError(
                "the guidance replaces a span of a field that the template does not use",
                where="guidance_replaces",
                expected=", ".join(sorted(template.fields)),
                received=name,
            )


def _check_marks(task: Task, template: Template) -> None:
    if template.masked and (not task.has_labels or task.head or task.chat):
        raise SettingsError(
            "{{ mask }} asks a masked language model for the words of a label",
            where="template",
            expected="a classification by words, without head and chat",
        )
    if task.guidance_replaces and task.kind == "tagging":
        raise SettingsError(
            "no word of a row that is tagged can give way to the guidance",
            where="guidance_replaces",
            hint="write {{ guidance }} into the template, or let it stand in front",
        )
    if template.soft and task.kind == "tagging":
        raise SettingsError(
            "soft slots are not for tagging, where each word is a place of its own",
            where="template",
            hint="use `--method prefix`",
        )
    if template.gap and task.kind != "generation":
        hint = "end the template where the answer begins, or use {{ mask }} with a masked language model"
        raise SettingsError("{{ answer }} is for text that is written", where="template", hint=hint)


def _more_words(found: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, Mapping):
        raise _wrong_type("task.more_words", "an object of label: [words, ...]", found)
    for words in found.values():
        if not isinstance(words, list | tuple) or not all(isinstance(one, str) for one in words):
            raise _wrong_type("task.more_words", "an object of label: [words, ...]", found)
    return {str(label): tuple(words) for label, words in found.items()}


def _numbers(name: str, found: object) -> dict[str, float]:
    if not isinstance(found, Mapping) or not all(type(one) in (int, float) for one in found.values()):
        raise _wrong_type(f"task.{name}", "an object of label: number", found)
    return {str(label): float(value) for label, value in found.items()}


def _check_words(verbalizer: Mapping[str, Sequence[str]]) -> None:
    if len(verbalizer) < 2:
        raise VerbalizerError("a task with labels needs at least two labels", where="labels", received=list(verbalizer))
    seen: dict[str, str] = {}
    for label, some in verbalizer.items():
        for words in some:
            if not label.strip() or not words.strip():
                hint = "give every label its words"
                raise VerbalizerError("a label has no words", where=f"labels.{label}", hint=hint)
            if words.strip() in seen:
                raise VerbalizerError(
                    "two labels have the same words",
                    where=f"labels.{label}",
                    received=f"{seen[words.strip()]!r} and {label!r} are both {words.strip()!r}",
                    hint="give each label words of its own",
                )
            seen[words.strip()] = label
