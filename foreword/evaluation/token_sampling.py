"""Drawing tokens so that a row's answer does not depend on the rows beside it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from foreword.data.task.decoding import Decoding


class RowSampler(LogitsProcessor):
    """Adds each row's own Gumbel noise to its logits: the largest of them is then a draw from the softmax (Gumbel 1954;
    Maddison et al. 2014), and greedy decoding is sampling.

    The noise follows from the seed, the row's tokens, and how many equal rows stand before it in the batch.
    """

    def __init__(self, decoding: Decoding, inputs: Sequence[Sequence[int]]) -> None:
        self.shaping: list[LogitsProcessor] = [TemperatureLogitsWarper(decoding.temperature)]
        if decoding.top_k:
            self.shaping.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            self.shaping.append(TopPLogitsWarper(decoding.top_p))
        seen: Counter[tuple[int, ...]] = Counter()
        self.dice = []
        for row in map(tuple, inputs):
            said = f"{decoding.sampling_seed}/{seen[row]}/{','.join(map(str, row))}"
            seed = int.from_bytes(hashlib.sha256(said.encode()).digest()[:7], "big")
            self.dice.append(torch.Generator().manual_seed(seed))
            seen[row] += 1

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        shaped: Tensor = scores.float()
        for step in self.shaping:
            shaped = step(input_ids, shaped)
        uniform = torch.stack([torch.rand(shaped.shape[-1], generator=dice, dtype=torch.float64) for dice in self.dice])
        # A draw of exactly 0 would be an infinite noise.
        noise = -torch.log(-torch.log(uniform.clamp_min(1e-300)))
        return (shaped.double() + noise.to(shaped.device)).float()  # type: ignore[return-value]
