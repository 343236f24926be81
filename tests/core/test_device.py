"""Drawing from a seed leaves every global generator as it was."""

from __future__ import annotations

import torch

from foreword.core.base.device import seeded


def test_a_seed_gives_the_same_numbers_and_is_gone_afterwards() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with seeded(1):
            drawn.append(torch.randn(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.randn(3), expected)


def test_other_devices_generators_are_not_seeded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def never(*_: object) -> None:
        raise AssertionError("a generator of CUDA was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", never)
    monkeypatch.setattr(torch.cuda, "manual_seed", never)
    with seeded(1, torch.device("cpu")):
        torch.randn(1)
