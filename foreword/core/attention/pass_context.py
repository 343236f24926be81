"""What the passes of one thread run under: one immutable value in one context variable.

Every hook (:mod:`foreword.core.attention.hooks`) stays on the model for all threads and asks here what it should do in
its own. A thread that has entered nothing finds the default, under which every hook does nothing. Leaving a block, also
by an exception, brings back the value from before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from foreword.core.attention.hooks import HookSet
from foreword.core.attention.packing import Packed
from foreword.core.attention.sources import Call, Source, Weighed


@dataclass
class PassMemo:
    """What one pass through a stack of layers makes once and uses in every layer.

    Attributes:
        masks: widened masks, with what each was made of (so that no other object gets its identity meanwhile).
        calls: how often each module was called: one module may serve several layers (ALBERT).
    """

    masks: dict[tuple[object, ...], tuple[object, Tensor]] = field(default_factory=dict)
    calls: Counter[nn.Module] = field(default_factory=Counter)


@dataclass(frozen=True)
class PassContext:
    """What is in force in one thread.

    Args:
        sources: what was put in force, outermost first; the innermost that owns a module decides for it. None: the
            plain model, whatever is attached to it.
        attached: what decides where no source does: the value that an attached model has written for this pass.
        holds: the hooks that this context relies on; a layer that is computed again behind the block needs them again.
        packed: how the rows lie end to end; None where they stand side by side as usual.
        memo: of the pass through a stack that has begun.
        calls: where every attention call is recorded.
        weights: where the weights of every attention call are recorded.
        keys_only: a layer runs for its keys and values only.
        fused: norms, gated MLPs and rotary positions run as one operation each.
        checkpointing: layers may be computed again in the backward pass.
        layer_cache: where the states below a layer are kept (:mod:`foreword.core.passes.layer_cache`).
        cached_pass: what is known of the pass that has begun under ``layer_cache``.
        output: what is wanted of the output layer (:mod:`foreword.core.passes.output_layer`).
        observed: where what linear layers are given and give is recorded (:mod:`foreword.core.inject.linear_probe`).
        attention: what is called in the place of the attention function, which then knows by itself what each token
            sees: no mask is built.
    """

    sources: tuple[Source, ...] | None = ()
    attached: Source | None = None
    holds: tuple[HookSet, ...] = ()
    packed: Packed | None = None
    memo: PassMemo | None = None
    calls: list[Call] | None = None
    weights: list[Weighed] | None = None
    keys_only: bool = False
    fused: bool = False
    checkpointing: bool = True
    layer_cache: object | None = None
    cached_pass: object | None = None
    output: object | None = None
    observed: dict[nn.Module, list[tuple[Any, Any]]] | None = None
    attention: Callable[..., tuple[Tensor, Tensor | None]] | None = None

    def snapshot(self) -> PassContext:
        """The same with every source as it is now: what is put into it later changes nothing."""
        sources = None if self.sources is None else tuple(source.now() for source in self.sources)
        return replace(self, sources=sources)


_NOTHING = PassContext()
_CURRENT: ContextVar[PassContext] = ContextVar("foreword_pass", default=_NOTHING)


def current() -> PassContext:
    """What this thread's passes run under."""
    return _CURRENT.get()


@contextmanager
def entered(context: PassContext) -> Iterator[None]:
    """Let exactly ``context`` hold in this thread."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def within(**changes: Any) -> Iterator[None]:
    """Let the fields of :class:`PassContext` given as ``changes`` hold in this thread, and the others stay."""
    with entered(replace(current(), **changes)):
        yield


@contextmanager
def holding(hold: HookSet, **changes: Any) -> Iterator[None]:
    """Keep the hooks of ``hold`` on the model, and let ``changes`` hold in this thread."""
    with hold, within(holds=(*current().holds, hold), **changes):
        yield


@contextmanager
def aside(**changes: Any) -> Iterator[None]:
    """A pass of the plain model inside another one, or beside it: nothing in front of it, rows side by side, nothing
    recorded or computed again. What is fused stays so unless ``changes`` says otherwise."""
    here = current()
    plain = PassContext(sources=None, holds=here.holds, fused=here.fused, checkpointing=False)
    with entered(replace(plain, **changes)):
        yield


@contextmanager
def again(context: PassContext) -> Iterator[None]:
    """Let a :meth:`~PassContext.snapshot` hold again, with its hooks on the model, also behind the blocks that it was
    taken in and in another thread."""
    with ExitStack() as stack:
        for hold in context.holds:
            stack.enter_context(hold)
        stack.enter_context(entered(context))
        yield


def source_for(module: nn.Module) -> Source | None:
    """What decides for ``module`` in this thread; None for nothing."""
    here = current()
    if here.sources is None:
        return None
    for source in reversed(here.sources):
        if source.owns(module):
            return source.now()
    if here.attached is not None and here.attached.owns(module):
        return here.attached
    attached = attached_to(module)
    return None if attached is None else attached.now()


def attached_to(module: nn.Module) -> Source | None:
    """What is attached to ``module`` for every thread: the latest that is still alive."""
    references = vars(module).get(ATTACHED)
    return None if references is None else next((s for r in reversed(references) if (s := r()) is not None), None)


ATTACHED = "_foreword_attached"
"""The attribute of a module that holds weak references to what is attached to it."""


class References(tuple[Callable[[], Source | None], ...]):
    """What is attached to a module, weakly; nothing is attached to a copy of it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> References:
        return References()
