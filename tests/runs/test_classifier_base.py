"""Checkpoints that end in a classification head serve as bases; their own head is a start where it can be one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from foreword import api
from foreword.artifact.store import load
from foreword.core.base.load import load_base
from foreword.core.inject.value import EMPTY
from foreword.errors import SettingsError
from foreword.evaluation.predict import Asker
from foreword.runs.prepare.prepare import prepare
from foreword.testing import byte_tokenizer
from foreword.training.heads.base import Chooser
from tests.runs.conftest import labelled_rows

SIZES: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "num_labels": 2, "pad_token_id": 0,
}  # fmt: skip


def saved(folder: Path, family: str, **more: Any) -> str:
    """A tiny random classifier in a folder."""
    torch.manual_seed(0)
    model: Any
    if family == "llama":
        model = LlamaForSequenceClassification(LlamaConfig(**{**SIZES, "num_key_value_heads": 4, **more}))
    else:
        model = BertForSequenceClassification(BertConfig(**{**SIZES, **more}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


LABELS = {"id2label": {0: "YES", 1: "NO"}, "label2id": {"YES": 0, "NO": 1}}
HEAD = {"head": True, "pooling": "last", "guidance": "Yes or no?"}


def test_a_decoders_head_says_what_the_classifier_says(request_of: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path / "cls", "llama", **LABELS)
    prepared = prepare(request_of(labelled_rows(40), folder, tmp_path / "run", task=HEAD))
    assert prepared.start.head is not None
    weight, bias = prepared.start.head
    classifier = LlamaForSequenceClassification.from_pretrained(folder).eval()
    rows = prepared.examples["train"][:4]
    value = replace(EMPTY, head={"weight": weight, "bias": bias})
    asker = Asker(prepared.base.model, prepared.base.tokenizer, prepared.task, False)
    head = asker.objective(value)
    assert isinstance(head, Chooser)
    head = head.with_lead(())
    with torch.no_grad():
        scores = head.scores(head.outputs(prepared.base.model, rows), value)
        wanted = [classifier(torch.tensor([list(row.input_ids)])).logits[0] for row in rows]
    assert prepared.task.labels == ("no", "yes")
    torch.testing.assert_close(scores, torch.stack(wanted)[:, [1, 0]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "pooling"), [("llama", "last"), ("llama", "mean"), ("bert", "mean")])
def test_it_is_trained_saved_and_asked_again(
    family: str, pooling: str, request_of: Callable[..., Any], tmp_path: Path
) -> None:
    folder = saved(tmp_path / "cls", family, **LABELS)
    task = {"head": True, "pooling": pooling}
    result = api.train(request_of(labelled_rows(60), folder, tmp_path / "run", task={**task, "guidance": "Yes or no?"}))
    said = {
        ("llama", "last"): "the labels start from the base's own classification head",
        ("llama", "mean"): "with pooling=last the labels start from it",
        ("bert", "mean"): "has layers of its own and is left out: a new one is trained",
    }[family, pooling]
    assert said in result.text
    value, _ = load(result.file)
    assert value.head
    assert api.verify(result.file).ok
    assert load_base(folder).fingerprint == load_base(folder).fingerprint


@pytest.mark.parametrize(("names", "start"), [({0: "LABEL_0", 1: "LABEL_1"}, True), ({0: "a", 1: "b"}, False)])
def test_labels_are_matched_by_name_or_number(
    names: dict[int, str], start: bool, request_of: Callable[..., Any], tmp_path: Path
) -> None:
    folder = saved(tmp_path / "cls", "llama", id2label=names, label2id={name: i for i, name in names.items()})
    rows = [{**row, "label": {"no": "0", "yes": "1"}[row["label"]]} for row in labelled_rows(40)]
    prepared = prepare(request_of(rows, folder, tmp_path / "run", task=HEAD))
    assert (prepared.start.head is not None) is start


def test_words_are_not_asked_of_it(request_of: Callable[..., Any], paired: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "cls", "llama", **LABELS)
    for data, task in ((labelled_rows(40), {}), (paired, {})):
        with pytest.raises(SettingsError, match="no words to answer with"):
            api.train(request_of(data, folder, tmp_path / "run", task=task))
    tied = saved(tmp_path / "tied", "llama", tie_word_embeddings=True)
    assert load_base(tied).language_head
