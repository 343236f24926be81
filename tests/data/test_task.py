"""Tasks: made from a table, written down and read back, and refused when their parts do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from foreword.data.readers.read import Table, read
from foreword.data.task.infer import make_task
from foreword.data.task.task import Decoding, Task
from foreword.data.task.verbalizer import labels_of
from foreword.errors import DataError, SettingsError, TemplateError, VerbalizerError


def table(labels: list[Any], text: str = "some text", **more: Any) -> Table:
    return read([{"text": f"{text} {number}", "label": label, **more} for number, label in enumerate(labels)])


def test_a_plain_classification_task() -> None:
    task = make_task(table(["pos", "neg", "pos"]))
    assert task.template == "Text: {{ text }}\nLabel:"
    assert task.guidance == "Decide which label fits the text. The labels are: neg, pos.\n\n"
    assert task.verbalizer == {"neg": " neg", "pos": " pos"}
    assert (task.kind, task.target, task.metric, task.labels) == ("classification", "label", "accuracy", ("neg", "pos"))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1], ("0", "1")),
        (["0", 1, 0.0], ("0", "1")),
        ([1.0, 10, 2], ("1", "2", "10")),
        ([-1, 1], ("-1", "1")),
        ([True, False], ("false", "true")),
        ([" a ", "b", None, float("nan"), ""], ("a", "b")),
        ([0.5, 1.5], ("0.5", "1.5")),
    ],
)
def test_labels_are_text(labels: list[Any], expected: tuple[str, ...]) -> None:
    assert make_task(table(labels)).labels == expected


def test_labels_by_the_user() -> None:
    data = table([0, 1])
    assert make_task(data, labels="0=bad, 1=good").verbalizer == {"0": " bad", "1": " good"}
    assert make_task(data, labels={0: "bad", 1: "\ngood"}).verbalizer == {"0": " bad", "1": "\ngood"}  # type: ignore[dict-item]
    assert make_task(data, labels=["1", "0"]).labels == ("1", "0")
    assert make_task(data, labels="0=差评,1=好评").verbalizer == {"0": "差评", "1": "好评"}
    assert make_task(data, labels="0＝差评，1＝好评").verbalizer == {"0": "差评", "1": "好评"}
    assert make_task(data, labels="0=a=b,1=c").verbalizer == {"0": " a=b", "1": " c"}
    assert make_task(data, template="{{ text }} is ", labels="0=bad,1=good").verbalizer["0"] == "bad"
    assert make_task(data, chat=True).verbalizer == {"0": "0", "1": "1"}


@pytest.mark.parametrize("labels", ["0=a,1=a", "0=a,1= ", "0=a,0=b", "0=a", "=a,1=b", ",", "", {"0": "a", "1": " a "}])
def test_labels_that_collide_are_refused(labels: Any) -> None:
    with pytest.raises(VerbalizerError):
        make_task(table([0, 1]), labels=labels)


def test_columns_that_are_not_labels() -> None:
    with pytest.raises(DataError, match="same label"):
        make_task(table(["a", "a"]))
    with pytest.raises(DataError, match="no labels"):
        make_task(table([None, ""]))
    with pytest.raises(DataError, match="look like labels"):
        make_task(table([f"answer {number}" for number in range(50)]))
    assert len(labels_of(table([f"class {number % 60}" for number in range(600)]))) == 60


def test_chinese_rows_get_chinese_words() -> None:
    task = make_task(table(["好", "差"], text="这家酒店"))
    assert task.template == "文本：{{ text }}\n标签："
    assert "好、差" in task.guidance or "差、好" in task.guidance
    assert task.verbalizer == {"好": "好", "差": "差"}


def test_several_fields_and_names_that_are_not_identifiers() -> None:
    task = make_task(read([{"my head": "a", "body_text": "b", "label": label} for label in "xy"]))
    assert task.template == "My head: {{ row['my head'] }}\nBody text: {{ body_text }}\nLabel:"
    assert make_task(read([{"in": "a", "label": label} for label in "xy"])).template.startswith("Text: {{ row['in'] }}")


def test_generation_tasks() -> None:
    task = make_task(read([{"instruction": "a", "input": "", "output": "one sentence of several words"}]))
    assert task.template == "{{ instruction }}\n{% if input %}{{ input }}\n{% endif %}"
    assert (task.kind, task.verbalizer, task.target, task.metric) == ("generation", {}, "output", "bleu")
    assert make_task(read([{"document": "a", "summary": "b"}])).metric == "rouge_l"


def test_a_text_between_two_others() -> None:
    task = make_task(read([{"before": "a", "after": "c", "completion": "b"}]))
    assert (task.kind, task.template) == ("generation", "{{ before }}{{ answer }}{{ after }}")
    assert (
        make_task(read([{"Prefix": "a", "Suffix": "c", "middle": "b"}])).template
        == "{{ Prefix }}{{ answer }}{{ Suffix }}"
    )


def test_a_template_that_names_no_column_is_refused() -> None:
    with pytest.raises(TemplateError, match="did you mean 'text'"):
        make_task(table([0, 1]), template="{{ tex }}")


@pytest.mark.parametrize("source", ["", "Is it good?", "{{ guidance }}", "{{ mask }}"])
def test_a_template_without_any_column_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match=r"names no column[^$]*\{\{ text \}\}"):
        make_task(table([0, 1]), template=source)


@pytest.mark.parametrize("source", ["{{ text }} {{ label }}", "{{ text }}{% if row['label'] %}!{% endif %}"])
def test_a_template_that_shows_the_answer_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="shows the model the answer"):
        make_task(table([0, 1]), template=source)
    with pytest.raises(SettingsError, match="the one with the answers"):
        make_task(table([0, 1]), guidance_column="label")


def test_labels_of_a_text_to_write_are_refused() -> None:
    with pytest.raises(SettingsError, match="has no labels"):
        make_task(read([{"prompt": "a", "completion": "b"}]), labels="a,b")


def test_json_gives_the_same_task_back() -> None:
    task = make_task(table(["是", "否"]), chat=True, decoding=Decoding(max_new_tokens=5, stop=("\n",)))
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


BASE = {"kind": "generation", "template": "{{ text }}", "guidance": "", "target": "reply"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidence": ""}, "did you mean 'guidance'"),
        ({"decoding": {"num_beam": 2}}, "did you mean 'num_beams'"),
        ({"decoding": {"max_new_tokens": "5"}}, "whole number"),
        ({"decoding": {"max_new_tokens": True}}, "whole number"),
        ({"decoding": {"max_new_tokens": 0}}, "at least 1"),
        ({"decoding": {"temperature": 0.0}}, "above 0"),
        ({"decoding": {"stop": "x"}}, "list of texts"),
        ({"decoding": {"stop": [""]}}, "no empty text"),
        ({"decoding": 3}, "object"),
        ({"chat": "yes"}, "true or false"),
        ({"template": 3}, "text"),
        ({"kind": "generating"}, "did you mean 'generation'"),
        ({"metric": "blue"}, "did you mean 'bleu'"),
        ({"metric": "accuracy"}, "unknown metric"),
        ({"verbalizer": {"a": 1, "b": 2}}, "label: words"),
        ({"verbalizer": {"a": "x", "b": "y"}}, "no labels"),
        ({"head": True}, "no head"),
        ({"template": "{{"}, "parse"),
        ({"template": "{{ ''.__class__ }}"}, "__class__"),
    ],
)
def test_what_a_task_file_may_not_say(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Task.from_json({**BASE, **change})


def test_missing_keys_and_combinations() -> None:
    with pytest.raises(SettingsError, match="'target' is missing"):
        Task.from_json({key: value for key, value in BASE.items() if key != "target"})
    with pytest.raises(SettingsError, match="head"):
        make_task(table([0, 1]), head=True, chat=True)
    with pytest.raises(VerbalizerError, match="two labels"):
        replace(make_task(table([0, 1])), verbalizer={"0": " 0"})
