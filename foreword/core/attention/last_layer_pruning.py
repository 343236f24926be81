"""The last layer only for the tokens that somebody reads behind it.

Every token's keys and values are needed there, but only the labels' places need a query, the output projection, the
MLP and the norms. The layer is begun with all tokens and stopped where keys and values reach the attention function;
then it runs with the wanted tokens alone, which are given those keys and values. What runs along the tokens among the
layer's arguments is cut to them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from foreword.core.attention import packing
from foreword.core.attention.packing import Cut, Packed

_STOPPING: ContextVar[bool] = ContextVar("foreword_stopping", default=False)
# The hook stays while any thread needs it: how many do, and its handle.
_USED: weakref.WeakKeyDictionary[nn.Module, tuple[int, RemovableHandle]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


class _Reached(Exception):
    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = key, value


def stopping() -> bool:
    """Whether this thread runs a layer for its keys and values only."""
    return _STOPPING.get()


def stop(key: Tensor, value: Tensor) -> None:
    """Called where keys and values reach the attention function: ends a layer that runs for them only."""
    if _STOPPING.get():
        raise _Reached(key, value)


@contextmanager
def narrowed(layer: nn.Module | None) -> Iterator[None]:
    """Let ``layer``, a decoder's last, run for the wanted tokens of this thread's packed passes alone; None for no
    layer. What comes behind it in such a pass gets ``[1, M, E]``."""
    if layer is None:
        yield
        return
    with _LOCK:
        users, handle = _USED.get(layer) or (0, layer.register_forward_pre_hook(_before, with_kwargs=True))
        _USED[layer] = (users + 1, handle)
    try:
        yield
    finally:
        with _LOCK:
            users, handle = _USED.pop(layer)
            if users > 1:
                _USED[layer] = (users - 1, handle)
            else:
                handle.remove()


def _before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> tuple[Any, Any] | None:
    # torch leaves kwargs out while another thread is putting the hook there or taking it away.
    whole = packing.current()
    if (
        kwargs is None
        or whole is None
        or whole.wanted is None
        or whole.cut is not None
        or len(whole.wanted) == whole.tokens
    ):
        return None
    token = _STOPPING.set(True)
    try:
        layer.forward(*args, **kwargs)
        return None
    except _Reached as reached:
        key, value = reached.key, reached.value
    finally:
        _STOPPING.reset(token)
    index = torch.tensor([row for row, _ in whole.wanted], device=key.device)
    places = torch.tensor([place for _, place in whole.wanted], device=key.device)
    chosen = whole.start[index] + places
    short = Packed(torch.bincount(index, minlength=whole.rows).tolist(), key.device)
    short.cut = Cut(whole, short.beside(places), key, value)
    packing.follow(short)

    def cut(argument: Any) -> Any:
        along = isinstance(argument, Tensor) and argument.ndim > 1 and argument.shape[:2] == (1, whole.tokens)
        return argument.index_select(1, chosen) if along else argument

    changed: tuple[Any, Any] = tree_map(cut, (args, kwargs))
    return changed
