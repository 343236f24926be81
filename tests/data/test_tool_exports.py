"""What other tools export, as they export it: each line of the table in docs/data-formats.md is read here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foreword.data.quality.check import check_tables
from foreword.data.readers.read import read, read_splits
from foreword.errors import DataError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data-formats.md"
FRAME = pd.DataFrame({"text": ["a b", "c d", "e f"], "label": ["x", "y", "x"]})
MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def squad() -> str:
    answers = {"text": ["Rome"], "answer_start": [3]}
    return json.dumps({"data": [{"context": "In Rome.", "question": "Where?", "answers": answers}]})


# Tool and export, as the table names them -> file name, content, the layout that is recognised.
EXPORTS: dict[str, tuple[str, str, str]] = {
    "pandas `to_csv`": ("a.csv", FRAME.to_csv(index=False), "text -> label (classification)"),
    "pandas `to_csv` with its index": ("a.csv", FRAME.to_csv(), "text -> label (classification)"),
    "pandas `to_json`": ("a.json", FRAME.to_json(), "text -> label (classification)"),
    "pandas `to_json(orient='records')`": (
        "a.json", FRAME.to_json(orient="records"), "text -> label (classification)",
    ),
    "pandas `to_json(orient='records', lines=True)`": (
        "a.json", FRAME.to_json(orient="records", lines=True), "text -> label (classification)",
    ),
    "Excel, CSV with semicolons": ("a.csv", "sep=;\ntext;label\na, b;x\nc;y\n", "text -> label (classification)"),
    "GLUE (SST-2)": ("train.tsv", "sentence\tlabel\nfine film\t1\ndull\t0\n", "sentence -> label (classification)"),
    "GLUE (RTE, QNLI)": (
        "a.tsv", "index\tquestion\tsentence\tlabel\n0\ta?\tb\tx\n1\tc?\td\ty\n",
        "question + sentence -> label (classification)",
    ),
    "doccano, text classification": (
        "a.jsonl", lines({"id": 1, "text": "a", "label": ["x"]}, {"id": 2, "text": "b", "label": ["y"]}),
        "text -> label (classification)",
    ),
    "doccano, several labels": (
        "a.jsonl", lines({"id": 1, "text": "a", "label": ["x", "y"]}, {"id": 2, "text": "b", "label": ["y"]}),
        "text -> label (multilabel)",
    ),
    "Label Studio, JSON-MIN": (
        "a.json",
        json.dumps([{"id": 1, "text": "a", "sentiment": "x"}, {"id": 2, "text": "b", "sentiment": "y"}]),
        "text -> sentiment (classification)",
    ),
    "Label Studio, CSV": (
        "a.csv", "annotation_id,annotator,id,sentiment,text\n1,1,1,x,a\n2,1,2,y,b\n",
        "text -> sentiment (classification)",
    ),
    "Prodigy, textcat": (
        "a.jsonl",
        lines({"text": "a", "label": "x", "answer": "accept"}, {"text": "b", "label": "y", "answer": "accept"}),
        "text -> label (classification)",
    ),
    "OpenAI, chat fine-tuning": (
        "a.jsonl", lines({"messages": MESSAGES}), "messages -> last assistant message (generation)",
    ),
    "OpenAI, prompt and completion": (
        "a.jsonl", lines({"prompt": "a", "completion": "b"}), "prompt -> completion (generation)",
    ),
    "Alpaca": (
        "a.json", json.dumps([{"instruction": "a", "input": "", "output": "b"}]),
        "instruction + input -> output (generation)",
    ),
    "LLaMA-Factory with `history`": (
        "a.json", json.dumps([{"instruction": "a", "input": "", "output": "b", "history": [["c", "d"]]}]),
        "messages -> last assistant message (generation)",
    ),
    "ShareGPT": (
        "a.json", json.dumps([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]),
        "conversations -> last assistant message (generation)",
    ),
    "TRL, conversational prompt": (
        "a.jsonl", lines({"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}),
        "prompt -> last assistant message (generation)",
    ),
    "Dolly": (
        "a.jsonl", lines({"instruction": "a", "context": "", "response": "b", "category": "open_qa"}),
        "instruction + context -> response (generation)",
    ),
    "SQuAD": ("a.json", squad(), "context + question -> answer (generation)"),
    "E2E NLG": ("a.csv", "mr,ref\nname[A],A is.\n", "mr -> ref (generation)"),
    "WMT and Tatoeba on the hub": (
        "a.jsonl", lines({"translation": {"en": "a", "zh": "b"}}), "en -> zh (generation)",
    ),
    "CoNLL-2003": (
        "a.conll", "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n", "tokens -> tags (tagging)",
    ),
    "Hugging Face NER": (
        "a.jsonl", lines({"tokens": ["EU"], "ner_tags": ["B-ORG"]}, {"tokens": ["a"], "ner_tags": ["O"]}),
        "tokens -> ner_tags (tagging)",
    ),
    "books and chat logs": ("a.txt", "One line.\n\nAnother.\n", "text (plain text, learned as it stands)"),
}  # fmt: skip


@pytest.mark.parametrize("tool", EXPORTS)
def test_an_export_is_read_as_it_is(tool: str, tmp_path: Path) -> None:
    name, content, layout = EXPORTS[tool]
    (tmp_path / name).write_text(content, encoding="utf-8")
    table = read(tmp_path / name)
    assert table.layout.description == layout
    assert not table.problems
    assert not [problem for problem in check_tables({"train": table}, None).errors if problem.kind != "missing_class"]


def test_hub_files_and_folders_are_read(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"]})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    assert set(read_splits(tmp_path)) == {"train", "test"}
    spark = tmp_path / "spark"
    spark.mkdir()
    (spark / "_SUCCESS").write_bytes(b"")
    for part in range(2):
        pq.write_table(table, spark / f"part-0000{part}.parquet")
    assert len(read(spark)) == 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": 1, "text": "Ann left", "label": [[0, 3, "PER"]]}, "list of 1"),
        ({"text": "a", "spans": []}, "not recognised"),
    ],
)
def test_what_is_not_read_says_why(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(row, {**row, "text": "Bob came"}))
    said = []
    try:
        said += [problem.message for problem in check_tables({"train": read(tmp_path / "a.jsonl")}, None).errors]
    except DataError as error:
        said.append(str(error))
    assert any(reason in message for message in said)


def test_the_table_in_the_docs_names_them_all() -> None:
    section = DOCS.read_text(encoding="utf-8").split("## Exports of other tools", 1)[1].split("\n## ", 1)[0]
    named = [line.split("|")[1].strip() for line in section.splitlines() if re.match(r"\| (?!tool|---)", line)]
    assert named == [*EXPORTS, "the hub (Parquet), Spark"]
