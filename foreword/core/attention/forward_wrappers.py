"""Something around the ``forward`` of a layer, for as long as anybody wants it.

Several things may stand around one layer (its activations are computed again, it is passed over), each wanted by many
threads, and they come and go in any order. So nobody sets ``layer.forward`` but this module: what is left is put
together anew at each change, and the last one to go leaves the layer as it was.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

Forward = Callable[..., Any]
Around = Callable[[Forward], Forward]


@dataclass
class _Patched:
    """A layer's own forward, what the instance had in that place, and what stands around it: name -> [what, users]."""

    real: Forward
    instance: Forward | None
    around: dict[str, tuple[Around, int]] = field(default_factory=dict)


_LOCK = threading.Lock()
_PATCHED: weakref.WeakKeyDictionary[nn.Module, _Patched] = weakref.WeakKeyDictionary()


def put_around(layer: nn.Module, name: str, around: Around) -> Callable[[], None]:
    """Let ``around(forward)`` run instead of the layer's forward; returns what takes that off again.

    Args:
        name: of what it does. The first ``around`` of a name serves all who ask for it, until the last of them is done;
            where there are several names, the last in the alphabet is the outermost.
    """
    with _LOCK:
        if layer not in _PATCHED:
            _PATCHED[layer] = _Patched(layer.forward, vars(layer).get("forward"))
        patched = _PATCHED[layer]
        first, users = patched.around.get(name, (around, 0))
        patched.around[name] = (first, users + 1)
        _settle(layer, patched)
    done = False

    def undo() -> None:
        nonlocal done
        with _LOCK:
            if done:
                return
            done = True
            around, users = patched.around[name]
            patched.around[name] = (around, users - 1)
            if users == 1:
                del patched.around[name]
            _settle(layer, patched)

    return undo


def _settle(layer: nn.Module, patched: _Patched) -> None:
    if patched.around:
        forward = patched.real
        for name in sorted(patched.around):
            forward = patched.around[name][0](forward)
        layer.forward = forward
        return
    del _PATCHED[layer]
    if patched.instance is None:
        del layer.forward
    else:
        layer.forward = patched.instance
