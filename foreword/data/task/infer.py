"""A task made from a table when the user gives none of its parts, or only some."""

from __future__ import annotations

import difflib
import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

from foreword.data.quality.unicode import cjk_share, is_cjk
from foreword.data.table import Table
from foreword.data.task.columns import GAPS, Kind, target_texts
from foreword.data.task.guidance import Form, formed
from foreword.data.task.label_sets import METRIC_ALIASES, absent_words, guidance_of
from foreword.data.task.tagging import OUTSIDE, is_bio, tag_set
from foreword.data.task.task import METRIC_NAMES, Decoding, Task
from foreword.data.task.template import parsed
from foreword.data.task.template_marks import ANSWER, MASK, WORDS
from foreword.data.task.verbalizer import MAX_LABELS, label_words
from foreword.errors import DataError, SettingsError, TemplateError
from foreword.messages import Message

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
    kind, chinese = kind or table.layout.kind, _is_chinese(table)
    chat, column = given.get("chat", False), given.get("guidance_column", "")
    source = template if template is not None else _template(table, kind, chinese, column)
    _check_columns(source, table, column)
    if kind == "tagging":
        return replace(_tagging(table, source, guidance, labels, metric, chinese), chat=chat)
    _refuse_not_text(source, table)
    _refuse_labels(labels, kind, table)
    several = kind == "multilabel"
    words = {} if kind == "generation" else label_words(labels, table)
    absent = absent_words(words.values(), chinese)
    spaced = {label: tuple(space(source, chat, one) + one for one in some) for label, some in words.items()}
    draft = Task(
        kind, source, "", table.layout.target, {label: some[0] for label, some in spaced.items()},
        _asked_metric(metric, kind) or _metric(table, kind), plain=table.layout.plain, **given,
        turns=table.layout.turns if chat and template is None and kind == "generation" else "",
        more_words={label: some[1:] for label, some in spaced.items() if some[1:]},
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
    tags = list(label_words(labels, table)) if labels is not None else tag_set(table.rows, layout.target)
    if len(tags) < 2:
        shown = ", ".join(tags) or "no tags"
        raise DataError(
            Message("the column {target!r} needs two tags or more", target=layout.target),
            where=table.name,
            received=shown,
        )
    if len(tags) > 2 * MAX_LABELS:
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
