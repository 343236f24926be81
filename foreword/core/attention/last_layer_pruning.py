"""The last layer only for the tokens that somebody reads behind it.

Every token's keys and values are needed there, but only the labels' places need a query, the output projection, the
MLP and the norms. The layer is begun with all tokens and stopped where keys and values reach the attention function;
then it runs with the wanted tokens alone, which are given those keys and values. What runs along the tokens among the
layer's arguments is cut to them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.packing import Cut, Packed
from foreword.core.attention.pass_context import current, within
from foreword.core.base.device import tensor_on


class _Reached(Exception):
    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = key, value


def stop(key: Tensor, value: Tensor) -> None:
    """Called where keys and values reach the attention function: ends a layer that runs for them only."""
    if current().keys_only:
        raise _Reached(key, value)


def prune(hold: HookSet, layer: nn.Module | None) -> None:
    """Have ``layer``, a decoder's last, run for the wanted tokens of packed passes alone while ``hold`` is entered;
    None for no layer. What comes behind it in such a pass gets ``[1, M, E]``."""
    if layer is not None:
        hold.wrap(layer, Level.LAST_LAYER, _for_wanted_tokens)


def _for_wanted_tokens(forward: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        whole = current().packed
        if whole is None or whole.wanted is None or whole.cut is not None or len(whole.wanted) == whole.tokens:
            return forward(*args, **kwargs)
        try:
            with within(keys_only=True):
                return forward(*args, **kwargs)
        except _Reached as reached:
            key, value = reached.key, reached.value
        index = tensor_on([row for row, _ in whole.wanted], key.device)
        places = tensor_on([place for _, place in whole.wanted], key.device)
        chosen = whole.start[index] + places
        short = Packed([*Counter(row for row, _ in whole.wanted).values()], key.device)
        short.cut = Cut(whole, short.beside(places), key, value)

        def cut(argument: Any) -> Any:
            along = isinstance(argument, Tensor) and argument.ndim > 1 and argument.shape[:2] == (1, whole.tokens)
            return argument.index_select(1, chosen) if along else argument

        args, kwargs = tree_map(cut, (args, kwargs))
        with within(packed=short):
            output = forward(*args, **kwargs)
        whole.pruned = short
        return output

    return run
