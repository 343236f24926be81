"""Words and tags: every way to write them, what is refused, and where a tag is read among the tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foreword.data.quality.check import check_tables
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.task.tagging import in_text, is_bio, words_of
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.errors import DataError, SettingsError, TemplateError
from foreword.testing.method_contracts import byte_tokenizer

ROWS: list[dict[str, Any]] = [
    {"tokens": ["EU", "rejects", "New York"], "tags": ["B-org", "O", "B-place"]},
    {"tokens": ["in", "New", "York", "."], "tags": ["O", "B-place", "I-place", "O"]},
]


def kinds(data: object, **more: Any) -> list[tuple[str, str]]:
    table = read(data)
    report = check_tables({"train": table}, make_task(table, **more))
    return [(problem.kind, problem.severity) for problem in report.problems]


def test_lists_become_text_with_spaces_between() -> None:
    table = read(ROWS)
    assert table.layout.description == "tokens -> tags (tagging)"
    assert table.rows[0].fields == {"tokens": "EU rejects New\u00a0York", "tags": "B-org O B-place"}
    assert words_of(table.rows[0].fields["tokens"]) == ["EU", "rejects", "New\u00a0York"]
    assert read([{"words": "a b", "ner_tags": "O B-x"}]).layout.kind == "tagging"
    assert read([{"tokens": ["a", "b"]}], labelled=False).rows[0].fields == {"tokens": "a b"}


@pytest.mark.parametrize("name", ["data.conll", "data.txt", "data.tsv", "data.bio"])
def test_conll_files_are_recognised(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("# a comment\nEU\tB-org\nrejects\tO\n\nNew\tB-place\nYork\tI-place\n", encoding="utf-8")
    table = read(path)
    assert [row.fields for row in table.rows] == [
        {"tokens": "EU rejects", "tags": "B-org O"},
        {"tokens": "New York", "tags": "B-place I-place"},
    ]
    assert [row.source.line for row in table.rows] == [2, 5]


def test_conll_with_four_columns_and_a_line_without_a_tag(tmp_path: Path) -> None:
    path = tmp_path / "data.conll"
    path.write_text("-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ O O\n\nGermany\n. . O O\n", encoding="utf-8")
    table = read(path)
    assert [row.fields["tags"] for row in table.rows] == ["B-ORG O"]
    assert [problem.where for problem in table.problems] == [f"{path}:6"]
    path.write_text("EU\nrejects\n\nGermany\n", encoding="utf-8")
    assert [row.fields for row in read(path, labelled=False).rows] == [{"tokens": "EU rejects"}, {"tokens": "Germany"}]


def test_dialogue_pairs_are_no_conll(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("hello\thi\n\nIs it O?\tO\n", encoding="utf-8")
    assert read(path).layout.inputs == ("source",)


def test_what_is_wrong_with_tags_is_said_with_its_line(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        {"tokens": ["a", "b"], "tags": ["O"]},
        {"tokens": ["a", "b"], "tags": ["O", "I-org"]},
        {"tokens": ["c", "d"], "tags": ["B-place", "I-org"]},
        {"tokens": ["", "d"], "tags": ["O", "O"]},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table = read(path)
    report = check_tables({"train": table}, make_task(table))
    assert [(p.kind, p.where.rpartition(":")[2], p.message) for p in report.errors] == [
        ("unreadable", "6", "word 1 is empty"),
        ("bad_tags", "3", "2 words and 1 tags"),
        ("bad_tags", "4", "word 2 ('b'): I-org goes on with no span; a span begins with B-"),
        ("bad_tags", "5", "word 2 ('d'): I-org goes on with no span; before it stands B-place"),
    ]


def test_a_tag_that_is_never_learned_counts_as_missed() -> None:
    train = read(ROWS)
    report = check_tables({"train": train, "test": read([{"tokens": ["x"], "tags": ["B-new"]}])}, make_task(train))
    assert [(p.split, p.kind, p.severity) for p in report.problems] == [("test", "unknown_tag", "warning")]
    assert kinds(ROWS, labels=["O", "B-org"]) == [("unknown_tag", "warning")] * 3


def test_the_task_of_a_table() -> None:
    task = make_task(read(ROWS))
    assert task.labels == ("O", "B-org", "I-org", "B-place", "I-place")
    assert (task.kind, task.head, task.words, task.metric) == ("tagging", True, "tokens", "span_f1")
    assert task.template == "{{ tokens }}"
    assert Task.from_json(task.to_json()) == task
    assert task.guidance == "Tag each word: org, place.\n\n"
    many = [{"tokens": "a b", "tags": f"B-{kind} O"} for kind in "abcdefghijklmn"]
    assert make_task(read(many)).guidance == "Tag each word.\n\n"
    assert make_task(read([{"tokens": "北 京", "tags": "B-地 I-地"}])).guidance == "标注每个词。标签有：地。\n\n"
    plain = make_task(read([{"tokens": ["it", "is"], "pos_tags": ["PRON", "VERB"]}]))
    assert (plain.labels, plain.metric) == (("PRON", "VERB"), "token_accuracy")
    with pytest.raises(DataError, match="two tags"):
        make_task(read([{"tokens": ["a"], "tags": ["O"]}]))
    with pytest.raises(SettingsError, match="words to tag"):
        make_task(read([{**row, "text": "x"} for row in ROWS]), template="{{ text }}")
    with pytest.raises(SettingsError, match="chat"):
        make_task(read(ROWS), chat=True)


def encoded(rows: list[dict[str, Any]], special: bool, **more: Any) -> Any:
    table = read(rows)
    task = make_task(table, template=more.pop("template", None))
    asked = {name: more.pop(name) for name in ("max_length", "labelled") if name in more}
    return Encoder(task, byte_tokenizer(), special, **more).encode(table.rows, **asked)


def test_a_tag_is_read_at_the_first_token_of_an_encoder_and_the_last_of_a_decoder() -> None:
    tokenizer = byte_tokenizer()
    row = encoded(ROWS[1:], special=True)[0]
    assert tokenizer.decode(list(row.input_ids)) == "in New York ."
    letters = [tokenizer.decode([row.input_ids[place]]) for place in row.places]
    assert letters == ["i", "N", "Y", "."]  # and not the space in front, which is a token of its own here
    assert row.tags == (0, 1, 2, 0)
    row = encoded(ROWS[1:], special=False)[0]
    assert [tokenizer.decode([row.input_ids[place]]) for place in row.places] == ["n", "w", "k", "."]


def test_words_shown_twice_are_tagged_at_the_second_place() -> None:
    row = encoded(ROWS[:1], special=False, template="{{ tokens }} = {{ tokens }}!")[0]
    text = "EU rejects New York = EU rejects New York!"
    assert byte_tokenizer().decode(list(row.input_ids)) == text
    assert row.places == tuple(text.rindex(word) + len(word) - 1 for word in ("EU", "rejects", "York"))


def test_a_template_that_changes_the_words_is_refused() -> None:
    with pytest.raises(DataError, match="does not show the words"):
        encoded(ROWS, special=False, template="{{ tokens | length }}")
    assert issubclass(TemplateError, Exception)


def test_first_k_cuts_between_words_and_is_told() -> None:
    whole, cut = encoded(ROWS[1:], special=False, first_k=8)[0], encoded(ROWS[1:], special=False, first_k=7)[0]
    assert byte_tokenizer().decode(list(cut.input_ids)) == "in New"
    assert (cut.places, cut.tags, cut.cut) == ((1, 5, -1, -1), (0, 1, 2, 0), True)
    assert whole.cut
    assert not encoded(ROWS[1:], special=False)[0].cut
    with pytest.raises(DataError, match="longer than"):
        encoded(ROWS[1:], special=False, max_length=5)


def test_chinese_words_have_no_space_between() -> None:
    assert in_text(["我", "在", "北京", "IBM", "工作", "."]) == ["我", "在", "北京", " IBM", " 工作", " ."]
    assert is_bio(["O", "B-x"])
    assert not is_bio(["O"])
    assert not is_bio(["O", "VERB"])


def test_semantic_roles_become_tags_with_the_predicate_marked() -> None:
    rows = [
        {"tokens": ["We", "like", "it", "now"], "predicate": 1, "sense": "like.01",
         "args": [[0, "ARG0"], [2, 3, "ARG1"], [1, ""]]},
        {"tokens": ["We", "like"], "predicate": 2, "args": []},
        {"tokens": ["We", "like"], "predicate": 1, "args": [[0, "ARG0"], [0, "ARG1"]]},
    ]  # fmt: skip
    table = read(rows)
    assert table.layout.description == "tokens with the predicate between « » -> roles (tagging)"
    assert table.rows[0].fields["tokens"] == "We « like » it now"
    assert table.rows[0].fields["tags"] == "B-ARG0 O O O B-ARG1 I-ARG1"
    assert [(p.kind, p.where.rpartition(":")[2], p.severity) for p in table.problems] == [
        ("nameless_role", "1", "warning"),
        ("unreadable", "2", "error"),
        ("unreadable", "3", "error"),
    ]
    assert read([{"tokens": ["We", "like"], "predicate": 1}], labelled=False).rows[0].fields["tokens"] == "We « like »"
