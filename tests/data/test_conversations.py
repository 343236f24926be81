"""Conversations as chat tools and data sets write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foreword.data.readers.read import read

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind."}


def fields(**row: Any) -> dict[str, Any]:
    table = read([row])
    assert not [problem for problem in table.problems if problem.severity == "error"]
    return dict(table.rows[0].fields)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ANSWER]},
        {"messages": json.dumps([USER, ANSWER])},
        {"messages": str([USER, ANSWER])},
        {"messages": [{"role": "system", "content": ""}, USER, ANSWER]},
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": [USER], "completion": "Hello"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Hello"}]},
        {"messages": [{"role": "User", "content": "Hi"}, {"role": "Assistant", "content": "Hello"}]},
        {"messages": [{**USER, "from": None, "value": None}, {"role": None, "from": "gpt", "value": "Hello"}]},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}]},
        {"dialog": [USER, ANSWER]},
    ],
)
def test_one_question_and_its_answer(row: dict[str, Any]) -> None:
    assert fields(**row) == {"prompt": "Hi", "completion": "Hello"}


def test_a_system_text_beside_the_list_is_read() -> None:
    beside = fields(conversations=[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}], system="Sail.")
    assert beside["prompt"] == "System: Sail.\nUser: Hi"
    both = fields(messages=[SYSTEM, USER, ANSWER], system="Sail.")
    assert both["prompt"] == "System: Sail.\n\nBe kind.\nUser: Hi"


def test_messages_without_an_answer_and_tool_calls_are_counted() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "w", "arguments": "{}"}}]}
    table = read(
        [{"messages": [USER, ANSWER, USER]}, {"messages": [USER, call, {"role": "tool", "content": "x"}, ANSWER]}]
    )
    assert [(problem.kind, problem.where) for problem in table.problems] == [
        ("unanswered", "list:1"),
        ("tool_calls", "list:2"),
    ]
    assert '{"name": "w", "arguments": {}}' in str(table.rows[1].fields["prompt"])


def test_the_label_of_a_conversation_has_all_of_it_as_input() -> None:
    rows = [
        {"messages": [USER, ANSWER, {"role": "user", "content": f"my {i}"}], "label": "ab"[i % 2]} for i in range(4)
    ]
    table = read(rows, target="label")
    assert table.layout.kind == "classification"
    assert table.rows[1].fields["messages"] == "User: Hi\nAssistant: Hello\nUser: my 1"


def test_a_column_of_that_name_may_be_text() -> None:
    table = read([{"label": ["ham", "spam"][i % 2], "messages": f"see you at {i}"} for i in range(8)])
    assert table.layout.inputs == ("messages",)


def test_an_unknown_role_is_named() -> None:
    table = read([{"messages": [{"role": "narrator", "content": "Once"}, ANSWER]}, {"messages": [USER, ANSWER]}])
    assert "'narrator'" in table.problems[0].message
