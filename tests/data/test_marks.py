"""Places of a template, and the guidance in a row: what is found, what is written, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foreword.data.quality.check import check_tables
from foreword.data.readers.read import read
from foreword.data.task.guidance import formed, of_row, replaced, span_of
from foreword.data.task.infer import make_task
from foreword.data.task.task import Task
from foreword.data.task.template import Template
from foreword.data.task.template_marks import Mark, Soft
from foreword.data.tokens.encode_row import RowEncoder, readable, slot_starts, spoken
from foreword.data.tokens.examples import Encoder
from foreword.errors import DataError, SettingsError, TemplateError, VerbalizerError
from foreword.testing.method_contracts import byte_tokenizer

TOKENIZER = byte_tokenizer(mask=True)
ROWS = read([{"text": "good film here", "label": "yes"}, {"text": "bad", "label": "no"}])


def task_for(template: str, **more: Any) -> Task:
    return make_task(ROWS, template=template, **{"guidance": "G.", **more})


def ids_of(task: Task, special_tokens: bool = False) -> list[list[int]]:
    found = Encoder(task, TOKENIZER, special_tokens).encode(ROWS.rows)
    return [list(one.input_ids) for one in found]


def text(ids: Any) -> str:
    return readable(TOKENIZER, list(ids))


# --- marks


def test_marks_are_found_in_order() -> None:
    template = Template("{{ soft(2) }}{{ text }} {{ soft('is it') }}{% if a %}{{ soft(3, 'x') }}{% endif %}{{ mask }}.")
    assert template.soft == (Soft(2), Soft(None, "is it"), Soft(3, "x"))
    assert (template.masked, template.gap, template.guided) == (True, False, False)
    assert template.fields == {"text", "a"}
    assert template.parts({"text": "T"}) == [Mark("soft", 0), "T ", Mark("soft", 1), Mark("mask"), "."]
    assert Mark("soft", 2) in template.parts({"text": "T", "a": "1"})
    assert template.render({"text": "T"}) == "T ."


def test_the_guidance_is_text_like_a_field() -> None:
    template = Template("{% if guidance %}({{ guidance|upper }}){% endif %}{{ text }}{{ guidance }}")
    assert template.guided
    assert template.fields == {"text"}
    assert template.render({"text": "T"}, "g") == "(G)Tg"
    assert template.render({"text": "T"}) == "T"
    assert Template("{{ soft(guidance) }}{{ text }}").soft == (Soft(None, "", True),)
    assert Template("{{ row['guidance'] }}{{ row['mask'] }}").fields == {"guidance", "mask"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ soft() }}", "soft takes"),
        ("{{ soft(0) }}", "soft takes"),
        ("{{ soft(-1) }}", "soft takes"),
        ("{{ soft(true) }}", "soft takes"),
        ("{{ soft(1.5) }}", "soft takes"),
        ("{{ soft(' ') }}", "soft takes"),
        ("{{ soft(2, 'a', 'b') }}", "soft takes"),
        ("{{ soft(n=2) }}", "soft takes"),
        ("{{ soft(text) }}", "soft takes"),
        ("{{ soft(2)|upper }}", "stands alone"),
        ("{{ mask ~ text }}", "stands alone"),
        ("{% if mask %}a{% endif %}", "stands alone"),
        ("{% for w in text %}{{ soft(2) }}{% endfor %}", "in a loop"),
        ("{{ mask }}{{ mask }}", "one {{ mask }}"),
        ("{{ answer }} {{ answer }}", "one {{ answer }}"),
        ("{{ soft(4000) }}{{ soft(4000) }}", "too many"),
        ("a\x00b", "NUL"),
    ],
)
def test_places_that_cannot_be(source: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        Template(source)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("a\nb {{ txet }}", "template:2:6"),
        ("a\n  {{ text|nonsense", "template:2:3"),
        ("{{ text }} {{ a b }}", "template:1:12"),
    ],
)
def test_errors_have_their_line_and_column(source: str, where: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Template(source).validate(["text"])
    assert refused.value.where == where


def test_a_row_cannot_write_a_mark() -> None:
    with pytest.raises(TemplateError, match="NUL"):
        Template("{{ soft(1) }}{{ text }}").parts({"text": "\x00soft0\x00"})


# --- ids


def test_slots_are_placeholders_between_texts() -> None:
    task = task_for("{{ soft(2) }}{{ text }}{{ soft('so') }}")
    first = ids_of(task)[0]
    assert first[:2] == [-1, -2]
    assert first[-2:] == [-3, -4]
    assert text(first) == "{soft 2}good film here{soft 2}"
    starts = [token for group in slot_starts(task, TOKENIZER) for token in group]
    assert starts[:2] == [None, None]
    assert text(spoken(first, starts)) == "good film hereso"
    assert slot_starts(task_for("{{ text }}{{ soft(3, 'ab') }}"), TOKENIZER)[0] == tuple(TOKENIZER("aba")["input_ids"])
    assert slot_starts(task_for("{{ text }}{{ soft(guidance) }}"), TOKENIZER)[0] == tuple(TOKENIZER("G.")["input_ids"])
    with pytest.raises(TemplateError, match="no tokens"):
        slot_starts(task_for("{{ text }}{{ soft(guidance) }}", guidance=""), TOKENIZER)


def test_the_mask_is_one_token_between_the_special_ones() -> None:
    task = task_for("{{ text }} {{ mask }}!", labels="no=n,yes=y")
    assert [one.count(259) for one in ids_of(task, special_tokens=True)] == [1, 1]
    assert task.verbalizer == {"no": " n", "yes": " y"}
    assert task_for("{{ text }} ({{ mask }})", labels="no=n,yes=y").verbalizer == {"no": "n", "yes": "y"}
    row = RowEncoder(task, TOKENIZER, False)
    spelled, _ = row.parts({"text": "a <mask> b"})
    assert row.ids([spelled])[0].count(259) == 1


def test_words_of_labels() -> None:
    task = task_for("{{ text }}:", labels="no=n|nope,yes=y")
    assert task.label_words == {"no": (" n", " nope"), "yes": (" y",)}
    assert Task.from_json(task.to_json()) == task
    assert make_task(read([{"text": "a", "label": "x|y"}, {"text": "b", "label": "z"}])).label_words["x|y"] == (" x|y",)
    with pytest.raises(VerbalizerError, match="same words"):
        task_for("{{ text }}:", labels="no=n|y,yes=y")
    for wrong in ({"more_words": ["a"]}, {"more_words": {"no": "n"}}, {"calibration": {"no": "1"}}):
        with pytest.raises(SettingsError, match="wrong type"):
            Task.from_json({**task.to_json(), **wrong})


def test_text_behind_the_answer_comes_first_or_between_the_models_own_tokens() -> None:
    pairs = read([{"before": "ab", "after": "yz", "completion": "m"}], inputs=["before", "after"])
    task = make_task(pairs, template="{{ before }}{{ answer }}{{ after }}")
    (one,) = Encoder(task, TOKENIZER, False).encode(pairs.rows)
    assert text(one.input_ids) == "What comes after:\nyz\n\nWhat comes before:\nab"
    marked = byte_tokenizer()
    marked.add_special_tokens({"additional_special_tokens": ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]})
    (one,) = Encoder(task, marked, False).encode(pairs.rows)
    assert readable(marked, one.input_ids) == "<|fim_prefix|>ab<|fim_suffix|>yz<|fim_middle|>"
    (one,) = Encoder(task, TOKENIZER, True).encode(pairs.rows)
    assert text(one.input_ids) == "ab<mask>yz"
    plain = replace(task, template="{{ before }}{{ after }}{{ answer }}\n")
    (one,) = Encoder(plain, TOKENIZER, False).encode(pairs.rows)
    assert text(one.input_ids) == "abyz"


# --- guidance


def test_modes() -> None:
    assert task_for("{{ text }}").guidance_mode == "extension"
    assert task_for("{{ text }}{{ guidance }}").guidance_mode == "fusion"
    assert task_for("{{ text }}", guidance_replaces="text[0:1]").guidance_mode == "replacement"
    assert [text(ids) for ids in ids_of(task_for("{{ guidance }}: {{ text }} ({{ guidance }})"))][1] == "G.: bad (G.)"
    assert [text(ids) for ids in ids_of(task_for("{{ text }}", guidance_replaces="text[1:]"))] == ["good G.", "bad"]
    assert text(ids_of(task_for("{{ text }}", guidance_replaces="text/fi../"))[0]) == "good G. here"
    for wrong in ("text", "text[1]", "text/(/", "[1:2]", "//"):
        with pytest.raises(SettingsError):
            task_for("{{ text }}", guidance_replaces=wrong)
    with pytest.raises(SettingsError, match="two places"):
        task_for("{{ text }}{{ guidance }}", guidance_replaces="text[0:1]")
    with pytest.raises(SettingsError, match="does not use"):
        task_for("{{ text }}", guidance_replaces="label[0:1]")


def test_chinese_words_are_characters_and_patterns_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreword.data.task.guidance._SECONDS", 0.05)
    assert span_of("text[1:3]").of("很好的酒店 here") == (1, 3)
    assert span_of("text[-1:]").of("很好的酒店 here") == (6, 10)
    assert span_of("text[7:]").of("short") is None
    with pytest.raises(SettingsError, match="seconds"):
        span_of("text/(a|aa)+$/").of("a" * 60 + "b")


def test_each_rows_own_guidance() -> None:
    rows = read([{"text": "t", "hint": "one; two", "label": "a"}, {"text": "u", "hint": None, "label": "b"}])
    task = make_task(rows, guidance="All. ", guidance_column="hint", guidance_form="keywords")
    assert "hint" not in task.template
    found = Encoder(task, TOKENIZER, False).encode(rows.rows)
    assert text(found[0].input_ids) == "Keywords: one, two\n\nText: t\nLabel:"
    assert text(found[1].input_ids) == "Text: u\nLabel:"
    bare = Encoder(task, TOKENIZER, False, guided=False).encode(rows.rows)
    assert text(bare[0].input_ids) == "Text: t\nLabel:"
    assert of_row(task, {"hint": ["a", "b"]}) == "Keywords: a, b\n\n"
    with pytest.raises(DataError, match="did you mean 'hint'"):
        make_task(rows, guidance_column="hnit")


def test_forms_of_guidance() -> None:
    assert formed("价格，服务", "keywords", "extension") == "关键词：价格、服务\n\n"
    assert formed("a storm", "situation", "extension") == "Situation: a storm\n\n"
    assert formed("a storm", "situation", "fusion") == "a storm"
    assert formed("as it is ", "text", "extension") == "as it is "
    assert task_for("{{ text }}", guidance="a, b", guidance_form="keywords").guidance == "Keywords: a, b\n\n"


def test_rows_in_which_nothing_gives_way_are_counted() -> None:
    task = task_for("{{ text }}", guidance_replaces="text[1:]")
    (problem,) = [p for p in check_tables({"train": ROWS}, task).problems if p.kind == "not_replaced"]
    assert (problem.severity, problem.message) == ("warning", "train: in 1 of 2 rows nothing gives way to the guidance")
    assert replaced(task, {"text": 5}, "G") == ({"text": 5}, False)


def test_lengths_count_slots_and_the_guidance_in_a_row() -> None:
    def longest(task: Task) -> float:
        report = check_tables({"train": ROWS}, task, tokenize=lambda text: TOKENIZER(text)["input_ids"])
        return report.tokens["train"]["max"]

    plain = longest(task_for("{{ text }}"))
    assert longest(task_for("{{ text }}{{ soft(5) }}{{ soft('abc') }}")) == plain + 8
    assert longest(task_for("{{ text }}{{ guidance }}")) == plain + 2
