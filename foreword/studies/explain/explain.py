"""Explain one foreword: load it, ask rows, and put the card beside its report."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foreword.core.base.load import Base
from foreword.core.inject import initial_values
from foreword.core.inject.sites import find_sites
from foreword.data.table import Table
from foreword.data.tokens.examples import Example
from foreword.errors import DataError, SettingsError
from foreword.evaluation.report.write_report import write_report
from foreword.messages import Message
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.use.use import Opened, open_foreword, table_of
from foreword.settings.schema import ProgressCall
from foreword.studies.explain.ablation import Without, ablate, layers, tokens
from foreword.studies.explain.attention_share import attention_shares
from foreword.studies.explain.explain_card import PART, Explained
from foreword.studies.explain.imitation import Imitation, imitate
from foreword.studies.explain.nearest_words import NearestWords, of_embeddings, of_states

_POOL, _WATCHED, _WORDS = 2000, 16, 8
_WRITTEN = 16
"""Rows of a task whose answers are written: writing them again for every text takes its time."""


def explain(
    file: str | Path, data: object = None, *, base: str | Base | None = None, output_dir: str | Path | None = None,
    rows: int = 64, progress: ProgressCall | None = None,
) -> Explained:  # fmt: skip
    """What a foreword says and does.

    Args:
        file: a ``.foreword`` file with learned values.
        data: rows with right answers; None: the golden rows of the file, without what needs right answers.
        base: as for :func:`foreword.evaluate`.
        output_dir: where to write a report; the report of a run that is there already gets the card as a section.
        rows: how many rows of the data are used, the first ones.

    Raises:
        FileFormatError, BaseMismatchError, DataError: as for :func:`foreword.evaluate`.
        SettingsError: nothing was learned in this file.
    """
    report = progress or say_nothing
    opened = open_foreword(file, base, progress)
    if not opened.value.num_values:
        raise SettingsError(
            "nothing was learned in this foreword: it is a text, which explains itself",
            where=str(file),
            hint="foreword show prints it",
        )
    table = table_of(opened, _golden(opened, file) if data is None else data, data is not None)
    examples = opened.encode(table.with_rows(table.rows[:rows]), labelled=data is not None)
    examples = [one for one in examples if one.input_ids]
    notes: list[str] = []
    near = _nearest(opened, examples, notes)
    report("attention", 0, 1)
    mass = attention_shares(opened.asker, opened.value, examples[:_WATCHED])
    report("attention", 1, 1)
    if not mass:
        notes.append("No attention looks at this foreword: it changes weights or states.")
    without: list[Without] = []
    if data is None:
        notes.append("What each part is worth needs rows with right answers: foreword explain FILE DATA.")
    else:
        neutral = _embeddings(opened).mean(0)
        parts = [*tokens(opened.value, neutral), *layers(opened.value)]
        without = ablate(opened.asker, opened.value, parts, examples, partial(report, "without each part"))
    found = _imitation(opened, examples, near, table, notes, report)
    result = Explained(Path(file).stem, len(examples), near, without, mass, found, notes)
    if output_dir is not None:
        _write(Path(output_dir), result)
    return result


def _golden(opened: Opened, file: str | Path) -> list[Mapping[str, object]]:
    golden = opened.manifest.golden
    if not golden:
        raise DataError("the file has no golden rows to ask", where=str(file), hint="give a data file")
    return [one.input for one in golden]


def _embeddings(opened: Opened) -> Tensor:
    """The vectors of the vocabulary ``[V, E]``."""
    weight: Tensor = opened.base.model.get_input_embeddings().get_parameter("weight")
    return weight.detach()


def _nearest(opened: Opened, examples: Sequence[Example], notes: list[str]) -> list[NearestWords]:
    value, tokenizer = opened.value, opened.base.tokenizer

    def write(token: int) -> str:
        return str(tokenizer.decode([token]))

    found: list[NearestWords] = []
    for vectors, name in ((value.prompt, "token"), (value.slots, "slot")):
        if vectors is not None:
            found += of_embeddings(vectors, _embeddings(opened), write, name)
    if value.sites:
        pool, words = _pool(opened, examples)
        found += of_states({name: kv.values for name, kv in value.sites.items()}, pool, words)
    if value.adapters or value.weights:
        notes.append("Changed weights are no words: nothing stands near them.")
    return found


def _pool(opened: Opened, examples: Sequence[Example]) -> tuple[dict[str, Tensor], list[str]]:
    """What real words leave at every site: the guidance, then the rows."""
    tokenizer, stateful = opened.base.tokenizer, find_sites(opened.base.model).stateful
    guidance = tokenizer.encode(opened.task.guidance, add_special_tokens=False) if opened.task.guidance else []
    parts: dict[str, list[Tensor]] = {name: [] for name in opened.value.sites}
    words: list[str] = []
    for ids in (guidance, *(one.input_ids for one in examples)):
        kept = [token for token in ids if token >= 0]
        if not kept or len(words) >= _POOL:
            continue
        left = initial_values.from_ids(opened.base.model, kept)
        for name in parts:
            parts[name].append(left[name].values)
        # All that a text leaves behind in a recurrent base is its state at the end.
        words += [tokenizer.decode(kept[-8:])] if stateful else [tokenizer.decode([token]) for token in kept]
    return {name: torch.cat(some) for name, some in parts.items()}, words


def _imitation(
    opened: Opened, examples: Sequence[Example], near: Sequence[NearestWords], table: Table, notes: list[str],
    report: ProgressCall,
) -> Imitation | None:  # fmt: skip
    task = opened.task
    if opened.value.head:
        notes.append("No text can answer like it: its answers come from a trained head.")
        return None
    if len(examples) < 4:
        notes.append("A text that answers like it needs 4 rows to be searched and measured on.")
        return None
    close = list(dict.fromkeys(token.strip() for one in near for token in one.tokens[:1] if token.strip()))
    texts = ["", f"{' '.join(close)}\n\n" if close else ""]
    if task.labels:
        texts.append(f"Answer with one of: {', '.join(task.labels)}.\n\n")
    words = list(dict.fromkeys([*close[: _WORDS // 2], *task.labels[:4], *_common(table)]))[:_WORDS]
    rows = examples if task.kind == "classification" else examples[:_WRITTEN]
    return imitate(opened.asker, opened.value, rows, texts, words, partial(report, "a text like it"))


def _common(table: Table) -> list[str]:
    """The longer words that most rows have."""
    texts = [" ".join(str(text) for text in row.fields.values()) for row in table.rows[:200]]
    counted = Counter(word for text in texts for word in set(re.findall(r"\w{4,}", text.lower())))
    return [word for word, _ in counted.most_common(_WORDS)]


def _write(folder: Path, result: Explained) -> None:
    path = folder / "report.json"
    report: dict[str, Any] = {"title": Message("Explained: {name}", name=result.name)}
    if path.exists():
        report = json.loads(path.read_text(encoding="utf-8"))
    own = [table for table in report.get("tables") or [] if table.get("part") != PART]
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder, {**report, "tables": [*own, *result.tables()], PART: result.to_json()})
