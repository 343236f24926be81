"""Token ids: boundaries, chat templates, completions, lengths, and batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder, Example, batches, eval_batches, lead_ids
from foreword.data.tokens.tokenize import answer_ids, end_id, label_end, label_end_note, label_ids, pieces
from foreword.errors import DataError, SettingsError, VerbalizerError

SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
SILENT = CHATML.replace("messages %}", "messages if m.role != 'system' %}", 1)


def byte_tokenizer(bos: bool = False, wrap: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, as byte-level BPE without merges; 5 special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    inner = Tokenizer(models.BPE(vocab, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if bos:
        inner.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    if wrap:
        inner.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip


CLASSES = read([{"text": "good film", "label": 1}, {"text": "差评", "label": 0}])
CLASS_TASK = make_task(CLASSES, labels="0=bad,1=good")
PAIRS = read([{"prompt": "Hi", "completion": "Hello"}, {"prompt": "你好", "completion": ["您好", "嗨"]}])
PAIR_TASK = make_task(PAIRS, guidance="Answer.\n")


def text_of(tokenizer: Any, ids: Any) -> str:
    return str(tokenizer.decode(list(ids)))


def test_classification_examples() -> None:
    tokenizer = byte_tokenizer()
    first, second = Encoder(CLASS_TASK, tokenizer, False).encode(CLASSES.rows)
    assert text_of(tokenizer, first.input_ids) == "Text: good film\nLabel:"
    assert (first.gold, first.reference, first.target_ids) == (1, "1", ())
    assert (second.gold, second.reference) == (0, "0")
    assert first.id == CLASSES.rows[0].id
    assert [text_of(tokenizer, ids) for (ids,) in label_ids(CLASS_TASK, tokenizer)] == [" bad", " good"]


def test_generation_examples_end_and_keep_all_references() -> None:
    tokenizer = byte_tokenizer()
    first, second = Encoder(PAIR_TASK, tokenizer, False).encode(PAIRS.rows)
    assert text_of(tokenizer, first.input_ids) == "Hi\n"
    assert text_of(tokenizer, first.target_ids) == "Hello</s>"
    assert (second.reference, second.references, second.gold) == ("您好", ("您好", "嗨"), -1)
    spaced = replace(PAIR_TASK, template="{{ prompt }}")
    spoken, chinese = Encoder(spaced, tokenizer, False).encode(PAIRS.rows)
    assert (text_of(tokenizer, spoken.input_ids), text_of(tokenizer, spoken.target_ids)) == ("Hi", " Hello</s>")
    assert text_of(tokenizer, chinese.target_ids) == "您好</s>"


def test_special_tokens_go_around_the_text_of_encoders_only() -> None:
    tokenizer = byte_tokenizer(wrap=True)
    one = Encoder(CLASS_TASK, tokenizer, True).encode(CLASSES.rows)[0]
    assert (one.input_ids[0], one.input_ids[-1]) == (1, 2)
    one = Encoder(CLASS_TASK, tokenizer, False).encode(CLASSES.rows)[0]
    assert 1 not in one.input_ids
    assert 2 not in one.input_ids
    assert lead_ids(CLASS_TASK, tokenizer, special_tokens=True)[:1] != [1]


def test_the_lead_begins_as_the_tokenizer_begins_a_text() -> None:
    plain, bos = byte_tokenizer(), byte_tokenizer(bos=True)
    assert text_of(plain, lead_ids(CLASS_TASK, plain)) == CLASS_TASK.guidance
    assert lead_ids(CLASS_TASK, bos) == [1, *lead_ids(CLASS_TASK, plain)]
    empty = replace(CLASS_TASK, guidance="")
    assert (lead_ids(empty, plain), lead_ids(empty, bos)) == ([], [1])
    assert text_of(plain, lead_ids(CLASS_TASK, plain, text="Other.\n")) == "Other.\n"


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, SILENT])
def test_chat_pieces_are_the_chat_template_around_the_text(template: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    task = make_task(CLASSES, labels="0=bad,1=good", chat=True, guidance="Judge it.\n\n")
    found = pieces(task, tokenizer)
    if template == CHATML:
        messages = [{"role": "system", "content": "Judge it."}, {"role": "user", "content": "MINE"}]
    else:
        messages = [{"role": "user", "content": "Judge it.\n\nMINE"}]
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert found.lead + "MINE" + found.tail == whole
    assert end_id(task, tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    one = Encoder(task, tokenizer, False).encode(CLASSES.rows)[0]
    assert text_of(tokenizer, one.input_ids) == "Text: good film\nLabel:<|im_end|>\n<|im_start|>assistant\n"


def test_a_chat_lead_does_not_depend_on_the_day() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}{{ date_string }}" + CHATML
    assert pieces(replace(PAIR_TASK, chat=True), tokenizer).lead.startswith("26 Jul 202426 Jul 2024")


def test_chat_templates_that_cannot_be_used() -> None:
    tokenizer = byte_tokenizer()
    task = replace(PAIR_TASK, chat=True)
    with pytest.raises(SettingsError, match="no chat template"):
        pieces(task, tokenizer)
    for template in (
        "nothing",
        "{{ raise_exception('never') }}",
        "{{ messages[0].content }}{{ messages[-1].content }}{{ messages[-1].content }}",
    ):
        tokenizer.chat_template = template
        with pytest.raises(SettingsError, match="cannot be used"):
            pieces(task, tokenizer)


def test_a_turn_that_ends_with_plain_text_ends_with_the_end_of_text() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert end_id(replace(PAIR_TASK, chat=True), tokenizer) == tokenizer.eos_token_id
    assert end_id(PAIR_TASK, tokenizer) == tokenizer.eos_token_id


def test_no_second_space_before_an_answer_of_sentencepiece_tokenizers() -> None:
    vocab = {"<unk>": 0, "\u2581a": 1, "\u2581bad": 2, "\u2581": 3}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert answer_ids(CLASS_TASK, tokenizer, " bad") == [2]
    assert end_id(PAIR_TASK, tokenizer) is None


@pytest.mark.parametrize(("words", "message"), [({"0": "\u200b", "1": "good"}, "nothing"), ({}, "same tokens")])
def test_words_that_a_tokenizer_cannot_tell_apart(words: dict[str, str], message: str) -> None:
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "bad": 1}, unk_token="<unk>"))
    inner.normalizer = normalizers.Replace("\u200b", "")
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    task = replace(CLASS_TASK, verbalizer=words or {"0": " fine", "1": " good"})
    with pytest.raises(VerbalizerError, match=message):
        label_ids(task, PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))


def rated(chat: bool = False) -> Task:
    ratings = {str(n): str(n) if chat else f" {n}" for n in range(1, 11)}
    return replace(CLASS_TASK, verbalizer=ratings, chat=chat)


def test_labels_of_which_one_begins_another_are_whole_answers() -> None:
    tokenizer = byte_tokenizer()
    ids = label_ids(rated(), tokenizer)
    assert [text_of(tokenizer, some[0]) for some in ids] == [f" {n}\n" for n in range(1, 11)]
    assert label_end_note(rated(), tokenizer) == ["label words end with '\\n', because '1' begins '10'"]
    assert label_end_note(CLASS_TASK, tokenizer) == []
    grades = replace(CLASS_TASK, verbalizer={"A": " A", "A+": " A+"}, more_words={"A": (" good",)})
    assert [[text_of(tokenizer, ids) for ids in some] for some in label_ids(grades, tokenizer)] == [
        [" A\n", " good\n"], [" A+\n"],
    ]  # fmt: skip


def test_the_end_of_a_label_is_what_ends_an_answer_there() -> None:
    assert label_end(rated(), byte_tokenizer(wrap=True)) == [2]  # as T5's tokenizer ends every text
    chat = byte_tokenizer()
    chat.chat_template = CHATML
    assert label_end(rated(chat=True), chat) == [chat.convert_tokens_to_ids("<|im_end|>")]
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "1": 1, "0": 2, "</s>": 3}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    task = replace(CLASS_TASK, template="{{ text }}\n", verbalizer={"1": "1", "10": "10"})
    assert label_ids(task, PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")) == [
        [[1, 3]],
        [[1, 2, 3]],
    ]
    with pytest.raises(VerbalizerError, match="no token that ends"):
        label_ids(task, PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))


def test_long_rows_are_refused_and_never_cut() -> None:
    tokenizer = byte_tokenizer()
    for table, task, size in ((CLASSES, CLASS_TASK, 22 + 5), (PAIRS, PAIR_TASK, 14)):
        assert Encoder(task, tokenizer, False).encode(table.rows, max_length=size)
        with pytest.raises(DataError, match=f"{size} tokens") as caught:
            Encoder(task, tokenizer, False).encode(table.rows, max_length=size - 1)
        assert str(caught.value.where).startswith("list:")
    head = make_task(CLASSES, head=True)
    assert Encoder(head, byte_tokenizer(wrap=True), True).encode(CLASSES.rows, max_length=24)


def test_first_k_keeps_the_first_tokens_of_each_field_and_says_so() -> None:
    tokenizer = byte_tokenizer()
    first, second = Encoder(CLASS_TASK, tokenizer, False, 6).encode(CLASSES.rows)
    assert text_of(tokenizer, first.input_ids) == "Text: good f\nLabel:"
    assert (first.cut, second.cut) == (True, False)


def test_bad_rows_are_named() -> None:
    tokenizer = byte_tokenizer()
    for fields, message in (
        ({"text": "a", "label": 2}, "unknown label"),
        ({"text": "a", "label": ""}, "no 'label'"),
        ({"label": 1}, "no value for 'text'"),
    ):
        rows = read([{"text": "x", "label": 1}, fields]).rows
        with pytest.raises(DataError, match=message) as caught:
            Encoder(CLASS_TASK, tokenizer, False).encode(rows)
        assert caught.value.where == "list:2"
    rows = read([{"text": "a"}, {"text": "b", "label": "new"}], labelled=False).rows
    found = Encoder(CLASS_TASK, tokenizer, False).encode(rows, labelled=False)
    assert [(one.gold, one.reference) for one in found] == [(-1, ""), (-1, "new")]
    assert Encoder(CLASS_TASK, tokenizer, False).encode([]) == []


def example(length: int, number: int) -> Example:
    return Example(str(number), (1,) * length, (), 0, "")


def test_batches_hold_every_row_once_and_depend_on_seed_and_epoch_only() -> None:
    examples = [example(5 + 13 * number % 97, number) for number in range(103)]
    first = batches(examples, 8, seed=1, epoch=0)
    assert sorted(index for batch in first for index in batch) == list(range(103))
    assert [len(batch) for batch in first].count(8) == 12
    assert first == batches(examples, 8, seed=1, epoch=0)
    assert first != batches(examples, 8, seed=1, epoch=1)
    assert first != batches(examples, 8, seed=2, epoch=0)
    width = [max(len(examples[index].input_ids) for index in batch) * len(batch) for batch in first]
    real = sum(len(one.input_ids) for one in examples)
    assert sum(width) < 1.2 * real
    assert batches([], 8, seed=1, epoch=0) == []
    with pytest.raises(ValueError, match="batch_size"):
        batches(examples, 0, seed=1, epoch=0)


def test_evaluation_batches_begin_with_the_longest() -> None:
    examples = [example(length, number) for number, length in enumerate((3, 9, 5, 9, 1))]
    assert eval_batches(examples, 2) == [[1, 3], [2, 0], [4]]


def test_the_lead_in_front_of_a_row_is_the_lead_and_the_row() -> None:
    """The boundary contract: ids in front plus ids of the row, whatever the row begins with."""
    tokenizer = byte_tokenizer(bos=True)
    task: Task = replace(PAIR_TASK, template="{{ prompt }}", guidance="Answer")
    lead = lead_ids(task, tokenizer)
    examples = Encoder(task, tokenizer, False).encode(PAIRS.rows)
    for row, one in zip(PAIRS.rows, examples, strict=True):
        assert text_of(tokenizer, [*lead, *one.input_ids]) == f"<s>Answer{row.fields['prompt']}"
