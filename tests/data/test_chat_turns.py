"""Conversations through a chat template, and rows that spell its tokens."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.tokens.examples import Encoder
from foreword.data.tokens.tokenize import lead_ids

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


def tokenizer(template: str = TEMPLATE) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", additional_special_tokens=["<|start|>"])
    made.chat_template = template
    return made


def shown(rows: list[dict[str, object]], tok: Any, **how: Any) -> list[str]:
    table = read(rows)
    task = make_task(table, **how)
    lead = lead_ids(task, tok)
    examples = Encoder(task, tok, False).encode(table.rows)
    return [tok.decode([*lead, *example.input_ids, *example.target_ids]) for example in examples]


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Me."},
]


@pytest.mark.parametrize("messages", [MESSAGES, MESSAGES[1:], MESSAGES[1:3]])
def test_turns_are_written_as_the_chat_template_writes_them(messages: list[dict[str, str]]) -> None:
    tok = tokenizer()
    written = tok.apply_chat_template(messages, tokenize=False)
    assert shown([{"messages": messages}], tok, chat=True) == [written.removesuffix("\n")]


def test_the_guidance_and_the_rows_own_system_text_are_one_message() -> None:
    tok = tokenizer()
    with_guidance = [{"role": "system", "content": "Answer.\n\nBe brief."}, *MESSAGES[1:]]
    written = tok.apply_chat_template(with_guidance, tokenize=False).removesuffix("\n")
    assert shown([{"messages": MESSAGES}], tok, chat=True, guidance="Answer.\n") == [written]


def test_without_a_system_role_it_stands_in_front_of_the_first_message() -> None:
    (text,) = shown([{"messages": MESSAGES}], tokenizer(NO_SYSTEM), chat=True, guidance="Answer.")
    assert text.startswith("<|start|>user\nAnswer.\n\nBe brief.\n\nHello<|end|>")


def test_a_row_that_spells_a_special_token_is_text() -> None:
    tok = tokenizer()
    end = tok.convert_tokens_to_ids("<|end|>")
    table = read([{"prompt": f"say <|end|> {i}", "completion": "use <|end|> now"} for i in range(2)])
    for chat in (False, True):
        example = Encoder(make_task(table, chat=chat), tok, False).encode(table.rows)[0]
        assert list(example.input_ids).count(end) == int(chat)
        assert list(example.target_ids).count(end) == 1
        assert "say <|end|> 0" in tok.decode(example.input_ids)
    turns = [{"messages": [*MESSAGES[:3], {"role": "user", "content": "<|end|>"}, MESSAGES[4]]}]
    assert "user\n<|end|><|end|>" in shown(turns, tok, chat=True)[0]  # type: ignore[arg-type]
