"""Every assistant message of a conversation is learned: which tokens count, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword import api
from foreword.core.inject.value import EMPTY
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.tokens.all_turns import with_all_turns
from foreword.data.tokens.encode_row import RowEncoder
from foreword.data.tokens.examples import Encoder, Example
from foreword.data.tokens.tokenize import lead_ids
from foreword.errors import DataError, SettingsError
from foreword.runs.prepare.prepare import prepare
from foreword.testing import tiny
from foreword.training.heads.completion import Complete
from tests.data.test_chat_turns import MESSAGES, NO_SYSTEM, TEMPLATE, tokenizer

OPENAI: list[dict[str, Any]] = [{"messages": MESSAGES}]
SHAREGPT = [
    {
        "system": "Be brief.",
        "conversations": [
            {"from": {"user": "human", "assistant": "gpt"}[turn["role"]], "value": turn["content"]}
            for turn in MESSAGES[1:]
        ],
    }
]
FACTORY = [
    {"system": "Be brief.", "instruction": "Who?", "input": "", "output": "Me.", "history": [["Hello", "Hi"]]},
]


def examples(rows: Any, tok: Any, **given: Any) -> tuple[list[Example], list[int]]:
    table = read(rows)
    task = make_task(table, chat=True, **given)
    last = Encoder(task, tok, False).encode(table.rows)
    return with_all_turns(table.rows, last, RowEncoder(task, tok, False)), lead_ids(task, tok)


@pytest.mark.parametrize("rows", [OPENAI, SHAREGPT, FACTORY])
def test_the_tokens_of_answers_and_of_their_ends_count(rows: Any) -> None:
    tok = tokenizer()
    [example], lead = examples(rows, tok)
    written = tok.apply_chat_template(MESSAGES, tokenize=False).removesuffix("\n")
    assert tok.decode([*lead, *example.input_ids, *example.target_ids]) == written
    learned = tok.decode([example.target_ids[place] for place in example.learned])
    assert learned == "Hi<|end|>Me.<|end|>"


def test_a_conversation_of_one_answer_is_as_it_was() -> None:
    [example], _ = examples([{"messages": MESSAGES[:3]}], tokenizer())
    assert example.counted == ()


def test_what_an_answer_spells_is_text_and_a_greeting_that_nobody_asked_for_is_not_learned() -> None:
    tok = tokenizer()
    turns = [
        {"role": "assistant", "content": "Welcome"}, *MESSAGES[1:2], {"role": "assistant", "content": "say <|end|>"},
        *MESSAGES[3:],
    ]  # fmt: skip
    [example], _ = examples([{"messages": turns}], tok)
    end = tok.convert_tokens_to_ids("<|end|>")
    learned = [example.target_ids[place] for place in example.learned]
    assert learned.count(end) == 2
    assert tok.decode(learned) == "say <|end|><|end|>Me.<|end|>"


def test_a_template_that_trims_or_knows_no_system_is_followed_and_one_that_rewrites_is_refused() -> None:
    spaced = [*MESSAGES[:2], {"role": "assistant", "content": " Hi \n"}, *MESSAGES[3:]]
    for template in (TEMPLATE.replace("m.content", "m.content | trim"), NO_SYSTEM):
        tok = tokenizer(template)
        [example], _ = examples([{"messages": spaced}], tok, guidance="Answer.\n")
        learned = tok.decode([example.target_ids[place] for place in example.learned])
        assert learned.replace(" Hi \n", "Hi") == "Hi<|end|>Me.<|end|>"
    rewriting = TEMPLATE.replace("{{ m.content }}", "{{ m.content if loop.last else m.content[:1] }}")
    with pytest.raises(DataError, match="earlier answers"):
        examples([{"messages": MESSAGES}], tokenizer(rewriting))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_losses_are_those_of_each_answer_behind_what_stands_before_it(family: str) -> None:
    model, tok = tiny(family), tokenizer()
    [example], _ = examples([{"messages": MESSAGES[1:]}], tok)
    head = Complete(0)

    def losses(rows: list[Example]) -> torch.Tensor:
        with torch.no_grad():
            return head.losses(head.outputs(model, rows), rows, EMPTY)

    found = losses([example, example])
    assert len(found) == 2 * len(example.learned)
    alone = []
    for number in range(2, len(MESSAGES), 2):
        table = read([{"messages": MESSAGES[1 : number + 1]}])
        alone.append(losses(Encoder(make_task(table, chat=True), tok, False).encode(table.rows)))
    torch.testing.assert_close(found[: len(found) // 2], torch.cat(alone), rtol=1e-4, atol=1e-4)


def conversations(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"a{i}"}, {"role": "assistant", "content": "x" * (i % 3 + 1)},
                {"role": "user", "content": f"b{i}"}, {"role": "assistant", "content": "y"},
            ]
        }
        for i in range(count)
    ]  # fmt: skip


def test_a_run_learns_all_turns_and_is_measured_on_the_last(
    chat_base: str, request_of: Callable[..., Any], tmp_path: Path
) -> None:
    how: dict[str, Any] = {
        "task": {"chat": True, "max_new_tokens": 3, "guidance": "Answer.\n"},
        "settings": {"loss_on": "all_turns"},
    }
    prepared = prepare(request_of(conversations(30), chat_base, tmp_path / "a", **how))
    assert all(len(one.counted) > len(one.learned) // 2 > 0 for one in prepared.examples["train"])
    assert all(one.counted == () for one in prepared.examples["dev"])
    result = api.train(request_of(conversations(30), chat_base, tmp_path / "run", **how))
    assert api.verify(result.file).ok


def test_it_is_refused_where_there_are_no_turns(
    chat_base: str, base: Callable[[str], str], request_of: Callable[..., Any], tmp_path: Path
) -> None:
    def train(rows: Any, name: str, task: dict[str, Any], **settings: Any) -> None:
        api.train(request_of(rows, name, tmp_path / "a", task=task, settings={"loss_on": "all_turns", **settings}))

    with pytest.raises(SettingsError, match="chat template as turns"):
        train(conversations(30), chat_base, {})
    with pytest.raises(SettingsError, match="does not go with augment"):
        train(conversations(30), chat_base, {"chat": True}, augment=("case",))


def test_a_history_is_turns_and_a_broken_one_is_named() -> None:
    table = read([*FACTORY, {"instruction": "a", "input": "b", "output": "c", "history": None}])
    assert [turn["content"] for turn in table.rows[0].fields["turns"]] == ["Be brief.", "Hello", "Hi", "Who?"]  # type: ignore[attr-defined]
    assert dict(table.rows[1].fields) == {"prompt": "a\nb", "completion": "c"}
    broken = read([*FACTORY, {"instruction": "a", "output": "c", "history": [["one"]]}])
    assert "history is no list of pairs" in broken.problems[0].message
    assert len(broken.rows) == 1
    plain = read([{"instruction": "a", "output": "b", "history": "of Rome"}])
    assert plain.layout.inputs == ("instruction",)
    asked = read([{"instruction": "Who?", "history": [["Hello", "Hi"]]}], labelled=False, inputs=("prompt",))
    assert "Assistant: Hi" in str(asked.rows[0].fields["prompt"])
