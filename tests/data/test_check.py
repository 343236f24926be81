"""The check: every problem at once with its place, and a clean table afterwards."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from foreword.data.quality.check import CheckReport, check_tables, clean
from foreword.data.quality.near_duplicates import near_pairs
from foreword.data.readers.read import Table, read
from foreword.data.task.infer import make_task
from foreword.errors import TemplateError

LONG = (
    "the weather over the northern hills was so clear that we could see the sea from every single window of the house "
)


def table(*rows: tuple[Any, Any]) -> Table:
    return read([{"text": text, "label": label} for text, label in rows])


def kinds(report: CheckReport) -> list[tuple[str, str, int]]:
    return [(problem.split, problem.kind, int(problem.where.rpartition(":")[2])) for problem in report.problems]


GOOD = (("a fine film", "1"), ("a dull film", "0"), ("what a joy", "1"), ("never again", "0"))


def test_clean_data_are_clean() -> None:
    data = table(*GOOD)
    report = check_tables({"train": data}, make_task(data))
    assert not report.problems
    assert not report.refuses
    assert report.counts == {"train": {"rows": 4, "kept": 4, "dropped": 0, "unreadable": 0}}
    assert report.balance == {"train": {"0": 2, "1": 2}}
    assert report.render().endswith("the data are clean")


def test_every_problem_is_found_at_once() -> None:
    train = read(
        [
            {"text": "a fine film", "label": 1},
            {"text": "", "label": 0},
            {"label": 0},
            {"text": "no label", "label": None},
            {"text": "odd label", "label": "maybe"},
            {"text": "a fine film", "label": "1"},
            {"text": "both ways", "label": 1},
            {"text": "both ways", "label": 0},
            {"text": "leaks into test", "label": 0},
            "junk",
            {"text": LONG, "label": 1},
            {"text": "A  fine film!", "label": 1},
        ]
    )
    test = table(("leaks into test", 0), ("fresh", 1), ("Ｌｅａｋｓ into, TEST", 0))
    task = make_task(train, labels="0=bad,1=good")
    report = check_tables({"train": train, "test": test}, task, tokenize=str.split, context=12, lead=2)  # type: ignore[arg-type]
    assert sorted(kinds(report)) == sorted(
        [
            ("train", "unreadable", 10), ("train", "empty", 2), ("train", "missing", 3), ("train", "empty", 4),
            ("train", "unknown_label", 5), ("train", "duplicate", 6), ("train", "conflict", 7),
            ("train", "conflict", 8),
            ("train", "duplicate_across", 9), ("train", "too_long", 11), ("train", "near_duplicate", 12),
            ("train", "near_duplicate_across", 9), ("test", "near_duplicate", 3),
        ]
    )  # fmt: skip
    assert report.refuses
    assert report.counts["train"] == {"rows": 12, "kept": 3, "dropped": 9, "unreadable": 1}
    kept, dropped = clean({"train": train, "test": test}, report)
    assert [row.source.line for row in kept["train"].rows] == [1, 6, 12]
    assert dropped == {
        "train": {
            "unreadable": 1,
            "empty": 2,
            "missing": 1,
            "unknown_label": 1,
            "conflict": 2,
            "duplicate_across": 1,
            "too_long": 1,
        },
        "test": {},
    }
    assert sum(dropped["train"].values()) == report.counts["train"]["dropped"]
    again = check_tables(kept, task, tokenize=str.split, context=12, lead=2)  # type: ignore[arg-type]
    assert [problem.kind for problem in again.errors] == ["unreadable"]
    json.dumps(report.to_json())
    text = report.render()
    assert "list:5: the label 'maybe' is not one of 0, 1" in text
    assert "refused: 9 errors" in text
    assert "\n  list:7: labelled '1' here and '0' at list:8" in text


def test_ids_equal_in_two_splits_drop_only_the_earlier_row() -> None:
    tables = {"train": table(*GOOD), "test": table(GOOD[0], ("new", "0"))}
    report = check_tables(tables, None)
    kept, dropped = clean(tables, report)
    assert (len(kept["train"]), len(kept["test"])) == (3, 2)
    assert dropped == {"train": {"duplicate_across": 1}, "test": {}}


def test_labels_of_the_first_split_are_the_known_ones_without_a_task() -> None:
    report = check_tables({"train": table(*GOOD), "dev": table(("x", "2"), ("y", "1"))}, None)
    assert [(problem.split, problem.where) for problem in report.errors] == [("dev", "list:1")]
    assert report.errors[0].kind == "unknown_label"


def test_balance_warnings() -> None:
    rows = [(f"text number {number} is here", "a" if number else "b") for number in range(30)]
    data = table(*rows)
    task = make_task(data, labels="a,b,c")
    report = check_tables({"train": data}, task)
    assert {problem.kind for problem in report.warnings} == {"imbalance", "missing_class"}
    assert not report.refuses
    assert "a 29 (97%), b 1 (3%)" in report.render()


def test_generation_may_have_several_answers_to_one_input() -> None:
    rows = [("What is AI?", "A field."), ("What is AI?", "Software."), ("Bye", "Bye!"), ("Bye", "Bye!")]
    train = read([{"prompt": prompt, "completion": answer} for prompt, answer in rows])
    test = read([{"prompt": "What is AI?", "completion": "Who knows."}, {"prompt": "Bye", "completion": "Bye!"}])
    report = check_tables({"train": train, "test": test}, make_task(train))
    assert kinds(report) == [
        ("train", "same_input", 1), ("train", "same_input", 2), ("train", "duplicate_across", 3),
        ("train", "duplicate_across", 4), ("train", "duplicate", 4),
    ]  # fmt: skip


def test_the_optional_input_may_be_empty() -> None:
    data = read([{"instruction": "a", "input": "", "output": "b"}, {"instruction": "", "input": "c", "output": "d"}])
    assert kinds(check_tables({"train": data}, make_task(data))) == [("train", "empty", 2)]
    assert kinds(check_tables({"train": data}, None)) == [("train", "empty", 2)]


def test_a_template_for_other_columns_is_refused() -> None:
    data = table(*GOOD)
    other = read([{"sentence": "a", "label": "1"}])
    with pytest.raises(TemplateError, match="'text'"):
        check_tables({"train": data, "dev": other}, make_task(data))
    assert not check_tables({"train": data, "dev": other.aligned(data.layout)}, make_task(data)).refuses


def test_rows_are_compared_by_what_the_template_shows() -> None:
    data = read([{"text": "same", "more": more, "label": label} for more, label in (("x", "1"), ("y", "0"))])
    assert {problem.kind for problem in check_tables({"train": data}, make_task(data)).errors} == {"conflict"}
    assert not check_tables({"train": data}, make_task(data, template="{{ text }} {{ more }}")).problems


def test_rows_that_break_the_template_are_found() -> None:
    data = read([{"text": "a", "label": "1", "n": 1}, {"text": "b", "label": "0", "n": "x"}])
    task = make_task(data, template="{{ text }} {{ n + 1 }}", guidance="")
    report = check_tables({"train": data}, task, tokenize=str.split)  # type: ignore[arg-type]
    assert kinds(report) == [("train", "template", 2)]


def test_token_figures_count_lead_and_answer() -> None:
    data = table(*[(" ".join(["word"] * (number + 1)), "ab"[number % 2]) for number in range(100)])
    report = check_tables({"train": data}, make_task(data, template="{{ text }}"), tokenize=str.split, lead=10)  # type: ignore[arg-type]
    assert report.tokens["train"] == {"min": 12, "median": 61.5, "p95": 106, "max": 111}


def test_chinese_near_duplicates() -> None:
    text = "这家酒店的位置非常好，离地铁站只有五分钟的路程，房间干净整洁，服务员态度热情，"
    text += "早餐品种丰富，价格也比较合理，下次还会再来的"
    data = table(
        (text * 2, "a"),
        (text + text.replace("，", " , "), "a"),
        (text * 2 + "！真的", "a"),
        ("完全不同的一句话，讲的是别的事情，与上面没有关系", "b"),
    )
    found = [item for item in kinds(check_tables({"train": data}, None)) if item[1].startswith("near")]
    assert found == [("train", "near_duplicate", 2), ("train", "near_duplicate", 3)]


def test_near_pairs_are_those_of_the_definition() -> None:
    dice = random.Random(13)
    words = [f"w{number}" for number in range(60)]
    texts = []
    for _ in range(60):
        base = [dice.choice(words) for _ in range(40)]
        texts.append(" ".join(base))
        for _ in range(3):
            copy = list(base)
            for _ in range(dice.randrange(1, 4)):
                copy[dice.randrange(40)] = dice.choice(words)
            texts.append(" ".join(copy))
    groups = [str(number) for number in range(len(texts))]  # each its own: every pair is wanted

    def similarity(one: str, two: str) -> float:
        first, second = ({text[k : k + 5] for k in range(len(text) - 4)} for text in (one, two))
        return len(first & second) / len(first | second)

    expected = {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if similarity(texts[i], texts[j]) >= 0.9 and texts[i] != texts[j]
    }
    assert len(expected) > 10
    assert {(pair.first, pair.second) for pair in near_pairs(texts, groups)} == expected


def test_thousands_of_rows_are_checked_also_when_all_are_alike() -> None:
    dice = random.Random(1)
    words = [f"word{number}" for number in range(3000)]
    various = [(" ".join(dice.choice(words) for _ in range(15)), "ab"[k % 2]) for k in range(10_000)]
    alike = [(f"{LONG} {number}", "ab"[number % 2]) for number in range(4_000)]
    same = [("the same", "a")] * 4_000
    for rows in (various, alike, same):
        report = check_tables({"train": table(*rows)}, None)
        assert report.counts["train"]["rows"] == len(rows)


def test_the_encoding_and_script_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\n这家酒店的服务很好,1\n房间不干净的,0\n".encode("gbk"))
    report = check_tables({"train": read(path)}, None)
    assert report.notes == (
        "train is text -> label (classification), read as gb18030, mostly Chinese, Japanese or Korean",
    )


def test_long_lists_of_problems_are_shortened() -> None:
    data = table(*[("", "a")] * 9, ("x", "a"), ("y", "b"))
    text = check_tables({"train": data}, None).render()
    assert "error: empty fields: 9" in text
    assert "and 4 more" in text
