"""Behind a soft prompt an encoder's outputs are those of the content, whichever of them is read."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.testing import sample_ids, tiny

FAMILIES = ("bert", "roberta", "electra", "distilbert", "albert", "modernbert")


def prompt(model: PreTrainedModel) -> Foreword:
    embedding = model.get_input_embeddings()
    return Foreword(prompt=embedding(torch.tensor([7, 8, 9])).detach().clone())


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_the_contents(family: str) -> None:
    model, ids = tiny(family), sample_ids(2, 6)
    with torch.no_grad(), injected(model, [prompt(model)]):
        out = model(input_ids=ids, output_hidden_states=True)
    assert all(state.shape[1] == 6 for state in out.hidden_states)
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tuple_holds_what_the_output_holds(family: str) -> None:
    model, ids = tiny(family), sample_ids(2, 6)
    with torch.no_grad(), injected(model, [prompt(model)]):
        out, parts = model(input_ids=ids), model(input_ids=ids, return_dict=False)
    assert torch.equal(parts[0], out.last_hidden_state)


@pytest.mark.parametrize("family", ["bert", "roberta", "albert"])
def test_the_pooler_reads_the_contents_first_token(family: str) -> None:
    model, ids = tiny(family), sample_ids(2, 6)
    with torch.no_grad(), injected(model, [prompt(model)]):
        out, parts = model(input_ids=ids), model(input_ids=ids, return_dict=False)
    state = out.last_hidden_state
    with torch.no_grad():
        pooled = model.pooler_activation(model.pooler(state[:, 0])) if family == "albert" else model.pooler(state)
    assert torch.equal(out.pooler_output, pooled)
    assert torch.equal(parts[1], pooled)
