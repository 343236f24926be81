"""Attention as batched products gives what attention is, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from foreword.core.attention import product_attention as module
from foreword.core.attention.product_attention import is_faster, product_attention

B, HQ, H, T, S, D = 5, 4, 2, 6, 9, 8


def _given(dtype: torch.dtype) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = ((B, HQ, T, D), (B, H, S, D), (B, H, S, D))
    return [torch.randn(shape, generator=rng).to(torch.bfloat16).to(dtype).requires_grad_() for shape in shapes]


def _masks() -> dict[str, Tensor | None]:
    seen = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    rows = torch.stack([seen & (torch.arange(S) >= row % 3) for row in range(B)])[:, None]
    added = torch.zeros(rows.shape).masked_fill(~rows, float("-inf"))
    return {"none": None, "shared": seen[None, None], "rows": rows, "added": added.to(torch.bfloat16)}


@pytest.mark.parametrize("kind", ["none", "shared", "rows", "added"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("at_once", [1, 2 * HQ * T * S, 1 << 19])
def test_values_and_gradients_are_those_of_exact_attention(
    kind: str, kept: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    monkeypatch.setattr(module, "_KEPT", 1 << 20 if kept else 0)
    mask, weights = _masks()[kind], torch.randn(B, HQ, T, D, generator=torch.Generator().manual_seed(1))
    ours, exact = _given(torch.bfloat16), _given(torch.float64)
    out = product_attention(ours[0], ours[1], ours[2], mask, 0.3)
    wide = mask.double() if mask is not None and mask.dtype != torch.bool else mask
    query, key, value = exact
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=wide, scale=0.3, enable_gqa=True)
    pairs = [(out, expected)]
    gradients = [torch.autograd.grad((o * weights.to(o)).sum(), g) for o, g in ((out, ours), (expected, exact))]
    for a, b in [*pairs, *zip(*gradients, strict=True)]:
        assert (a.dtype, a.shape) == (torch.bfloat16, b.shape)
        assert (a.double() - b).norm() <= 0.01 * b.norm()


def test_a_query_that_sees_nothing_stays_a_number() -> None:
    query, key, value = _given(torch.bfloat16)
    mask = torch.ones(B, 1, T, S, dtype=torch.bool)
    mask[2, :, 0] = False
    out = product_attention(query, key, value, mask, None)
    (gradient,) = torch.autograd.grad(out[:, :, 1:].sum(), value)
    assert torch.cat([out.flatten(), gradient.flatten()]).isfinite().all()


def test_it_is_for_bfloat16_on_cpu_and_rows_that_are_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_fast_products", lambda: True)
    query, key, _ = _given(torch.bfloat16)
    assert is_faster(query, key, None)
    assert not is_faster(query.float(), key.float(), None)
    assert not is_faster(query[:, :, :1], key, None)
    assert not is_faster(query, key, torch.ones(B, HQ, T, S, dtype=torch.bool))
    monkeypatch.setattr(module, "_MOST", HQ * T * S - 1)
    assert not is_faster(query, key, None)
