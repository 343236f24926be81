"""The contracts on bases to which something has happened: compiled, cached statically, in short numbers, attached to
twice, moved, left by an exception."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.testing.method_contracts import CONTRACTS, sample_ids, tiny, trained_for
from foreword.testing.saved_contracts import SAVED_CONTRACTS
from foreword.testing.variants import PLAIN, VARIANTS

ALL = {**CONTRACTS, **SAVED_CONTRACTS}
# torch's tracer reads .grad of tensors that are none of its leaves.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
METHODS = ("prefix", "prompt", "lora")
QUICK = [name for name in VARIANTS if name != "compiled"]


def test_the_contracts_are_the_ten_of_the_design() -> None:
    assert sorted(int(name.split()[0]) for name in ALL) == list(range(1, 11))


def applies(variant: str, contract: str, family: str) -> bool:
    """An encoder keeps nothing in a cache and does not generate."""
    return find_sites(tiny(family)).kind != "encoder" or (variant != "static cache" and contract != "5 generate")


def products(*variants: str) -> list[tuple[str, str, str, str]]:
    """Every variant, family, method and contract that there is."""
    every = itertools.product(variants, ("llama", "t5", "bert"), METHODS, ALL)
    return [(v, family, method, contract) for v, family, method, contract in every if applies(v, contract, family)]


@pytest.mark.parametrize(("variant", "family", "method", "contract"), products(*QUICK))
def test_every_contract_holds(variant: str, family: str, method: str, contract: str) -> None:
    ALL[contract](method, family, VARIANTS[variant])


@pytest.mark.compat
@pytest.mark.long
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(("variant", "family", "method", "contract"), products("compiled"))
def test_every_contract_holds_compiled(variant: str, family: str, method: str, contract: str) -> None:
    ALL[contract](method, family, VARIANTS[variant])


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gemma3", "deepseek_v3"])
@pytest.mark.parametrize("method", [*METHODS, "full", "slots"])
def test_a_static_cache_decodes_as_the_whole_pass(family: str, method: str) -> None:
    CONTRACTS["5 generate"](method, family, VARIANTS["static cache"])


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("contract", ["1 gradients", "4 mixed batch", "8 checkpointing"])
def test_other_families_in_bfloat16(family: str, method: str, contract: str) -> None:
    CONTRACTS[contract](method, family, VARIANTS["bfloat16"])


@pytest.mark.parametrize("contract", ALL)
@pytest.mark.parametrize("method", ["full", "slots"])
def test_weights_and_slots_when_short_or_attached(method: str, contract: str) -> None:
    for variant in ("bfloat16", "attached twice"):
        if contract != "9 export":
            ALL[contract](method, "llama", VARIANTS[variant])


@pytest.mark.parametrize("contract", SAVED_CONTRACTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "t5", "bert"])
def test_what_is_written_keeps_its_contracts(family: str, method: str, contract: str) -> None:
    SAVED_CONTRACTS[contract](method, family, PLAIN)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What torch compiles for one test is of no use to the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("forgotten")
def test_a_compiled_base_sees_every_foreword_that_comes_and_goes() -> None:
    model, ids = tiny("llama"), sample_ids()
    values = {method: trained_for(method, model) for method in ("prefix", "lora", "full")}

    def outputs() -> dict[str, torch.Tensor]:
        out = {}
        with torch.no_grad():
            for method, value in values.items():
                out[f"before {method}"] = model(input_ids=ids, use_cache=False).logits
                with injected(model, [value]):
                    out[method] = model(input_ids=ids, use_cache=False).logits
        return out

    expected = outputs()
    model.compile(backend="eager")
    got = outputs()
    for name, logits in expected.items():
        torch.testing.assert_close(got[name], logits, atol=1e-5, rtol=0, msg=name)
