"""A task made from a table when the user gives none of its parts, or only some."""

from __future__ import annotations

import difflib
import keyword
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

from foreword.data.quality.label_names import nearest, plain_label
from foreword.data.quality.unicode import cjk_share, is_cjk
from foreword.data.row import label_text, with_causes
from foreword.data.table import Table
from foreword.data.task.columns import GAPS, Kind, target_texts
from foreword.data.task.guidance import Form, formed
from foreword.data.task.label_sets import METRIC_ALIASES, absent_words, guidance_of, labels_in_rows
from foreword.data.task.tagging import OUTSIDE, is_bio, tag_set
from foreword.data.task.task import METRIC_NAMES, Decoding, Task
from foreword.data.task.template import parsed
from foreword.data.task.template_marks import ANSWER, MASK, WORDS
from foreword.errors import DataError, SettingsError, TemplateError, VerbalizerError
from foreword.messages import Message
from foreword.settings.values import FULL_WIDTH

_MAX_LABELS = 200
# A label that more of the rows have: saying it always would look good by accuracy.
_SKEWED = 0.7
# Words of an answer that is short; BLEU counts up to four in a row.
_FEW_WORDS = 3
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
# Tags that the instruction of a tagging names; a list of forty is no instruction.
_NAMED = 12
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = frozenset((*keyword.kwlist, "true", "false", "none", "row", "range", "loop", *WORDS))


class GivenFields(TypedDict, total=False):
    """Fields of a task that are as they are given, or as :class:`Task` has them."""

    chat: bool
    head: bool
    pooling: str
    decoding: Decoding
    guidance_column: str
    guidance_form: Form
    guidance_replaces: str
    guidance_in_row: bool


def make_task(
    table: Table,
    *,
    template: str | None = None,
    guidance: str | None = None,
    labels: str | Mapping[str, str] | Sequence[str] | None = None,
    metric: str | None = None,
    kind: Kind | None = None,
    **given: Unpack[GivenFields],
) -> Task:
    """A task for a table; a plain template, instruction and label words are made where none are given.

    Args:
        labels: label -> words as a dictionary or as "a=words,b=words"; a list (or "a,b") of labels that are their own
            words. None: the labels in the rows, sorted.
        kind: overrides what the table's layout says.
        given: fields of the task that nothing is made for.

    Words get a space in front when they follow other words directly: not after a template that ends in white space,
    not in a chat, not before Chinese, Japanese or Korean. Words given with white space in front stay as they are.

    Raises:
        DataError: no labels in the rows, one label only, or so many that the column is not one of labels.
        TemplateError: the template does not parse, names a field that is not there, or names none.
        VerbalizerError, SettingsError: as Task.
    """
    kind = kind or table.layout.kind
    chinese, chat, column = _is_chinese(table), given.get("chat", False), given.get("guidance_column", "")
    source = template if template is not None else _template(table, kind, chinese, column)
    _check_columns(source, table, column)
    if kind == "tagging":
        return replace(_tagging(table, source, guidance, labels, metric, chinese), chat=chat)
    _refuse_not_text(source, table)
    _refuse_labels(labels, kind, table)
    several = kind == "multilabel"
    words = _words(labels, table) if several or kind == "classification" else {}
    absent = absent_words(words.values(), chinese)
    turns = table.layout.turns if chat and template is None and kind == "generation" else ""
    spaced = {label: tuple(space(source, chat, one) + one for one in some) for label, some in words.items()}
    more_words = {label: some[1:] for label, some in spaced.items() if some[1:]}
    draft = Task(
        kind, source, "", table.layout.target, {label: some[0] for label, some in spaced.items()},
        _asked_metric(metric, kind) or _metric(table, kind), turns=turns, more_words=more_words,
        plain=table.layout.plain, **given,
        absent=space(source, chat, absent) + absent if several and not given.get("head") else "",
    )  # fmt: skip
    if guidance is None:
        guidance = _made_guidance(words, absent, chinese, several)
    elif draft.guidance_form != "text" and not column:
        guidance = formed(guidance, draft.guidance_form, draft.guidance_mode)
    return replace(draft, guidance=guidance)


def _asked_metric(metric: str | None, kind: Kind) -> str | None:
    """The metric that was asked for, by its name for this kind of task."""
    return METRIC_ALIASES.get(metric, metric) if metric and kind == "multilabel" else metric


def _made_guidance(words: Mapping[str, Sequence[str]], absent: str, chinese: bool, several: bool) -> str:
    """An instruction that names the labels' first words; nothing without labels."""
    first = [some[0].strip() for some in words.values()]
    if not first:
        return ""
    return guidance_of(first, absent, chinese) if several else _guidance(first, chinese)


def _refuse_labels(labels: object, kind: Kind, table: Table) -> None:
    if not labels or kind != "generation":
        return
    raise SettingsError(
        Message("{description}: what is to be written has no labels", description=table.layout.description),
        where="--labels",
        hint="name the column of the labels with --target, or leave --labels out",
    )


def _refuse_not_text(source: str, table: Table) -> None:
    """Refuse a template that no row can fill because a column holds objects or lists: its rows are all alike."""
    template = parsed(source)
    reasons = []
    for row in table.rows:
        reason = template.not_text(row.fields)
        if not reason:
            return
        reasons.append((row, reason))
    if reasons:
        row, reason = reasons[0]
        problem, _, hint = reason.partition("; ")
        received = Message("{n} rows like that", n=len(reasons))
        raise DataError(problem, where=str(row.source), received=received, hint=hint)


def _tagging(
    table: Table,
    template: str,
    guidance: str | None,
    labels: str | Mapping[str, str] | Sequence[str] | None,
    metric: str | None,
    chinese: bool,
) -> Task:
    layout = table.layout
    tags = list(_words(labels, table)) if labels is not None else tag_set(table.rows, layout.target)
    if len(tags) < 2:
        shown = ", ".join(tags) or "no tags"
        raise DataError(
            Message("the column {target!r} needs two tags or more", target=layout.target),
            where=table.name,
            received=shown,
        )
    if len(tags) > 2 * _MAX_LABELS:
        raise DataError(
            Message("the column {target!r} does not look like tags", target=layout.target),
            where=table.name,
            received=f"{len(tags)} different ones in {len(table.rows)} rows",
        )
    spans = is_bio(tags)
    kinds = list(dict.fromkeys(tag[2:] if spans else tag for tag in tags if tag != OUTSIDE))
    asked = "标注每个词" if chinese else "Tag each word"
    if len(kinds) <= _NAMED:
        asked += f"。标签有：{'、'.join(kinds)}" if chinese else f": {', '.join(kinds)}"
    asked += "。\n\n" if chinese else ".\n\n"
    return Task(
        "tagging",
        template,
        asked if guidance is None else guidance,
        layout.target,
        {tag: tag for tag in tags},
        metric or ("span_f1" if spans else "token_accuracy"),
        head=True,
        words=layout.inputs[0],
    )


def separator(task: Task, answer: str) -> str:
    """What stands between the text of a row and its answer: a space, or nothing."""
    return space(task.template, task.chat, answer)


def space(template: str, chat: bool, answer: str) -> str:
    """What an answer needs in front of it to follow a template: a space, or nothing."""
    parts = parsed(template)
    if parts.masked:
        # The mask stands for the whole word, with the space in front of it where there is one.
        spaced = parts.before(MASK)[-1:].isspace()
    else:
        last = parts.before(ANSWER)[-1:]
        if parts.soft and not parts.gap and re.search(r"\{\{[^{}]*\bsoft\(.*\)\s*[-+]?\}\}\Z", template):
            # Soft slots at the end stand for their words.
            last = parts.soft[-1].words[-1:] or last
        # After a full-width colon, as after white space, no space is written.
        spaced = not (chat or last.isspace() or last >= "\u3000" or not last)
    return " " if spaced and not answer[:1].isspace() and not is_cjk(answer) else ""


def _check_columns(source: str, table: Table, guidance_column: str) -> None:
    """Refuse a template or a column of guidance that the table does not have, and a template without any column."""
    template = parsed(source)
    template.validate(table.columns, (table.layout.target, guidance_column))
    if not template.fields and not guidance_column:
        inputs = " ".join(f"{{{{ {_reference(name)} }}}}" for name in table.layout.inputs)
        raise TemplateError(
            "the template names no column, so that all rows would read the same",
            where="template",
            expected=Message("a column of the rows, such as {inputs}", inputs=inputs),
            received=repr(source),
        )
    if guidance_column and guidance_column not in table.columns:
        close = difflib.get_close_matches(guidance_column, table.columns, 1)
        raise DataError(
            Message("there is no column {guidance_column!r} with the rows' guidance", guidance_column=guidance_column),
            where=table.name,
            expected=", ".join(table.columns),
            hint=Message("did you mean {value!r}?", value=close[0]) if close else "name it with guidance_column",
        )


def _is_chinese(table: Table) -> bool:
    cells = (str(row.fields.get(name) or "") for row in table.rows[:200] for name in table.layout.inputs)
    return cjk_share(cells) > 0.5


def _metric(table: Table, kind: Kind) -> str:
    """What decides where nobody says it: accuracy, or macro F1 where one label is most of the rows (saying it always
    looks good by accuracy); for answers of few words exact match, because BLEU counts four words in a row."""
    answers = [text for row in table.rows for text in target_texts(row, table.layout.target)[:1]]
    if kind == "classification":
        largest = max(Counter(answers).values(), default=0)
        return "macro_f1" if largest > _SKEWED * len(answers) else "accuracy"
    if kind == "multilabel":
        return METRIC_NAMES[kind][0]
    if table.layout.plain:
        return "perplexity"
    if table.layout.target.lower() in ("summary", "highlights"):
        return "rouge_l"
    short = sum(len(_WORD.findall(text)) <= _FEW_WORDS for text in answers)
    return "exact_match" if answers and short >= 0.9 * len(answers) else "bleu"


def _reference(name: str) -> str:
    plain = _IDENTIFIER.match(name) and name.lower() not in _RESERVED
    return name if plain else f"row[{name!r}]"


def _template(table: Table, kind: Kind, chinese: bool, guidance_column: str) -> str:
    """One field stands alone; several have their names in front; optional ones vanish when they are empty."""
    layout = table.layout.without(guidance_column)
    if kind == "tagging":
        return f"{{{{ {_reference(layout.inputs[0])} }}}}"
    if kind in ("classification", "multilabel"):
        colon = "：" if chinese else ": "
        if len(layout.inputs) == 1:
            name = "文本" if chinese else "Text"
            lines = f"{name}{colon}{{{{ {_reference(layout.inputs[0])} }}}}\n"
        else:
            lines = "".join(f"{_title(name)}{colon}{{{{ {_reference(name)} }}}}\n" for name in layout.inputs)
        return lines + ("标签：" if chinese else "Labels:" if kind == "multilabel" else "Label:")
    if layout.plain:
        return f"{{{{ {_reference(layout.inputs[0])} }}}}"
    required = [name for name in layout.inputs if name not in layout.optional]
    if tuple(name.lower() for name in layout.inputs) in GAPS:
        before, after = map(_reference, layout.inputs)
        return f"{{{{ {before} }}}}{{{{ answer }}}}{{{{ {after} }}}}"
    if len(required) == 1:
        body = f"{{{{ {_reference(required[0])} }}}}\n"
    else:
        body = "".join(f"{_title(name)}: {{{{ {_reference(name)} }}}}\n" for name in required)
    for name in layout.optional:
        body += f"{{% if {_reference(name)} %}}{{{{ {_reference(name)} }}}}\n{{% endif %}}"
    return body


def _title(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _guidance(words: Sequence[str], chinese: bool) -> str:
    if chinese:
        return f"判断文本属于哪个标签。标签有：{'、'.join(words)}。\n\n"
    return f"Decide which label fits the text. The labels are: {', '.join(words)}.\n\n"


def _words(labels: str | Mapping[str, str] | Sequence[str] | None, table: Table) -> dict[str, tuple[str, ...]]:
    """Each label's words: one, or several where ``|`` stands between them in what was given."""
    if labels is None:
        found = labels_of(table)
        if found and all(label.lstrip("-").isdigit() for label in found):
            found.sort(key=int)
        return {label: (label,) for label in found}
    return _as_in_rows(_given(labels), table)


def _given(labels: str | Mapping[str, str] | Sequence[str]) -> dict[str, tuple[str, ...]]:
    if isinstance(labels, str):
        return _parse(labels)
    if isinstance(labels, Mapping):
        return {label_text(label): _several(str(words)) for label, words in labels.items()}
    return _without_repeats([(label_text(label), (label_text(label),)) for label in labels])


def _as_in_rows(given: dict[str, tuple[str, ...]], table: Table) -> dict[str, tuple[str, ...]]:
    """The labels that were given, spelled as the rows have them where only case, width or a fraction differ.

    Raises:
        VerbalizerError: a label is in no row, and one of the rows' that was not given looks like it.
    """
    if table.layout.kind not in ("classification", "multilabel"):
        return given
    counts = Counter(labels_in_rows(table.rows, table.layout.target, table.layout.kind == "multilabel"))
    others = [label for label in counts if label not in given]
    plain = {plain_label(label): label for label in others}
    result: dict[str, tuple[str, ...]] = {}
    for label, words in given.items():
        same = plain.get(plain_label(label)) if label not in counts else None
        near = "" if label in counts or same else nearest(label, others)
        if near and counts[near] > 1:
            raise VerbalizerError(
                Message("the label {label!r} is in no row", label=label),
                where="--labels",
                expected=", ".join(sorted(counts)[:20]),
                received=label,
                hint=Message("did you mean {near!r}, which {value} rows have?", near=near, value=counts[near]),
            )
        result[same or label] = words
    return result


def _several(words: str) -> tuple[str, ...]:
    return tuple(words.split("|")) if words.strip("| ") else (words,)


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    pairs = []
    for part in text.translate(FULL_WIDTH).split(","):
        label, equals, words = part.partition("=")
        several = tuple(one.strip() for one in _several(words)) if equals else (label.strip(),)
        pairs.append((label.strip(), several))
    return _without_repeats(pairs)


def _without_repeats(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    for label, count in Counter(label for label, _ in pairs).items():
        if count > 1:
            raise VerbalizerError("a label is given twice", where="--labels", received=label)
    return dict(pairs)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def labels_of(table: Table) -> list[str]:
    """The labels in a table's target column, sorted.

    Raises:
        DataError: none, one only, or too many to be labels.
    """
    counts = Counter(labels_in_rows(table.rows, table.layout.target, table.layout.kind == "multilabel"))
    where, shown = table.name, table.layout.target
    if not counts:
        error = DataError(
            Message("the column {shown!r} has no labels", shown=shown), where=where, hint="name another with --target"
        )
        raise with_causes(error, table.problems)
    if len(counts) == 1:
        hint = "a classification needs two labels or more"
        error = DataError("every row has the same label", where=where, received=next(iter(counts)), hint=hint)
        raise with_causes(error, table.problems)
    if len(counts) > _MAX_LABELS or (len(counts) > 20 and len(counts) * 2 > len(table.rows)):
        hint = "if it is text to be written and not a class, say `--task generation`"
        if sum(map(_is_number, counts)) > len(counts) * 0.9:
            hint = "numbers are not predicted here: cut them into classes, such as low, medium and high"
        received = f"{len(counts)} different values in {len(table.rows)} rows"
        raise DataError(
            Message("the column {shown!r} does not look like labels", shown=shown),
            where=where,
            received=received,
            hint=hint,
        )
    return sorted(counts)
