"""The contracts, over every method and every tiny family; a new method's file is found by itself."""

from __future__ import annotations

import pytest

from foreword.core.inject.sites import find_sites
from foreword.errors import UnsupportedBaseError
from foreword.methods.base import registry
from foreword.testing.method_contracts import CONTRACTS, FAMILIES, REFUSED, reaches, tiny

pytestmark = pytest.mark.compat

# What DESIGN says the mechanism reaches, and where a method may be left out. A family or method that drops out of the
# contracts without a line here fails.
NAMED = {
    "llama", "gpt2", "opt", "mistral", "gemma2", "gemma3", "qwen3", "gpt_oss", "gpt_neox", "deepseek_v3", "qwen3_next",
    "bert", "roberta", "electra", "distilbert", "albert", "modernbert", "t5", "bart", "lstm", "gru",
}  # fmt: skip
LEFT_OUT = {("prompt", "qwen3_next"), ("ptuning", "qwen3_next"), ("lora", "lstm"), ("lora", "gru")}
LEFT_OUT |= {("text", family) for family in FAMILIES}
PAIRS = [(m, f) for m in registry() for f in FAMILIES if (m, f) not in LEFT_OUT]


def test_every_family_and_method_is_here() -> None:
    assert FAMILIES.keys() >= NAMED
    assert {"text", "prompt", "ptuning", "prefix", "lora", "full", "slots"} <= registry().keys()


@pytest.mark.parametrize(("method", "family"), [(m, f) for m in registry() for f in FAMILIES])
def test_what_is_left_out_is_what_cannot_be_reached(method: str, family: str) -> None:
    assert reaches(method, family) == ((method, family) not in LEFT_OUT)


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize(("method", "family"), PAIRS)
def test_contract(contract: str, method: str, family: str) -> None:
    CONTRACTS[contract](method, family)


@pytest.mark.parametrize("family", REFUSED)
def test_families_outside_the_interface_are_refused_by_name(family: str) -> None:
    model = tiny(family)
    with pytest.raises(UnsupportedBaseError) as refused:
        find_sites(model)
    assert type(model).__name__ in str(refused.value)
    assert refused.value.hint
