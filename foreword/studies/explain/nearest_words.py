"""The words that learned vectors are nearest to, and whether that is nearer than chance.

Angles are measured around the mean of the words' own vectors: these all lean one way, and whatever leans with them
would be near every word. A vector is called readable where its nearest word is nearer than the nearest word of 99 in
100 random directions with the words' own spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_DRAWS, _CERTAIN, _MOST = 200, 0.99, 5


@dataclass(frozen=True)
class NearestWords:
    """The nearest words of one virtual token.

    Args:
        name: of the virtual token.
        tokens: the nearest words, the nearest first.
        cosines: of the angles to them.
        distance: Euclidean distance to the nearest; None for keys and values, which have one at every site.
        chance: the cosine that 99 in 100 random directions stay below.
    """

    name: str
    tokens: tuple[str, ...]
    cosines: tuple[float, ...]
    distance: float | None
    chance: float

    @property
    def readable(self) -> bool:
        """Whether the nearest word is nearer than chance."""
        return self.cosines[0] > self.chance


def of_embeddings(
    vectors: Tensor, table: Tensor, write: Callable[[int], str], name: str = "token", seed: int = 13
) -> list[NearestWords]:
    """The nearest vocabulary tokens of ``vectors [P, E]`` in the embedding ``table [V, E]``; ``write`` spells an id."""
    table = table.detach().float()
    vectors = vectors.detach().to(table)
    cosines, chance = _compared([vectors], [table], seed)
    nearest = torch.cdist(vectors, table).amin(1).tolist()
    return _named(cosines, chance, [write(i) for i in _best(cosines)], name, nearest)


def of_states(
    values: Mapping[str, Tensor], pool: Mapping[str, Tensor], words: Sequence[str], seed: int = 13
) -> list[NearestWords]:
    """The nearest words of a prefix by its values, over all sites together.

    Args:
        values: site -> the prefix's values ``[P, H, Dv]``. Values and not keys, for these are turned by position.
        pool: site -> the values that real words leave there ``[N, H, Dv]``.
        words: those words ``[N]``.
    """
    sites = [site for site in values if pool[site].shape[0] == len(words)]
    theirs = [pool[site].detach().flatten(1).float() for site in sites]
    mine = [values[site].detach().flatten(1).to(table) for site, table in zip(sites, theirs, strict=True)]
    cosines, chance = _compared(mine, theirs, seed)
    # A word stands in many places; the nearest of them counts.
    kinds = list(dict.fromkeys(words))
    place = torch.tensor([kinds.index(word) for word in words], device=cosines.device).expand_as(cosines)
    nearest = torch.full((len(cosines), len(kinds)), -1.0, device=cosines.device)
    nearest = nearest.scatter_reduce(1, place, cosines, "amax")
    return _named(nearest, chance, [kinds[i] for i in _best(nearest)], "token", None)


def _compared(mine: Sequence[Tensor], theirs: Sequence[Tensor], seed: int) -> tuple[Tensor, float]:
    """Mean cosines over the sites ``[P, N]``, and what chance reaches."""
    generator = torch.Generator().manual_seed(seed)
    found, drawn = [], []
    for own, table in zip(mine, theirs, strict=True):
        centre, spread = table.mean(0), table.std(0, unbiased=False)
        words = torch.nn.functional.normalize(table - centre, dim=1)
        chance = torch.randn(_DRAWS, table.shape[1], generator=generator).to(table.device) * spread
        found.append(torch.nn.functional.normalize(own - centre, dim=1) @ words.T)
        drawn.append(torch.nn.functional.normalize(chance, dim=1) @ words.T)
    best = torch.stack(drawn).mean(0).amax(1)
    return torch.stack(found).mean(0), float(best.quantile(_CERTAIN))


def _best(cosines: Tensor) -> list[int]:
    return cosines.topk(min(_MOST, cosines.shape[1]), dim=1).indices.flatten().tolist()


def _named(
    cosines: Tensor, chance: float, words: Sequence[str], name: str, distances: Sequence[float] | None
) -> list[NearestWords]:
    top = cosines.topk(min(_MOST, cosines.shape[1]), dim=1).values.tolist()
    most = len(top[0])
    return [
        NearestWords(
            f"{name} {i}", tuple(words[i * most : (i + 1) * most]), tuple(line),
            None if distances is None else distances[i], chance,
        )
        for i, line in enumerate(top)
    ]  # fmt: skip
