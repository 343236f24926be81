"""A pretended accelerator on the CPU: what would fail or wait on a GPU is seen without one.

    with pretended_device() as device:
        model = device.moved(tiny("llama"))
        ...                                   # mixing tensors of two devices raises, as on a GPU
    assert not device.events["to host"]

Tensors carry the place where they would be; the numbers are computed on the CPU. Counted by kind, each with the line of
this package that asked for it, are

- ``to device``, ``to host``: copies for which the host waits; ``sent ahead``: to the device, without waiting;
- ``sync``: what makes the host wait (``item``, ``bool``, ``nonzero``, boolean indexing, ``tolist``);
- ``not deterministic``: what CUDA may add up in another order each time.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

PLACE = torch.device("meta")
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
_WAITING = {
    "_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "masked_select", "unique", "_unique2",
    "unique_dim", "unique_consecutive",
}  # fmt: skip
# Of the list in torch.use_deterministic_algorithms: what adds up by atomics on CUDA.
_UNORDERED = {
    "index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce", "put_", "histc", "bincount",
    "embedding_dense_backward", "kthvalue",
}  # fmt: skip
_COPIES = {"copy_", "_to_copy", "_copy_from", "set_", "_local_scalar_dense"}
_HERE = "/foreword/testing/pretended_device.py"
M = TypeVar("M", bound=nn.Module)


class OnDevice(Tensor):
    """A tensor that pretends to lie on the device; ``value`` holds its numbers."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=PLACE,
        )
        made.value = value
        return made

    def __init__(self, value: Tensor) -> None: ...

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.value!r})"

    def tolist(self) -> Any:
        _note("sync", "tolist")
        return self.value.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        return OnDevice(self.value.clone())

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


class Device(TorchDispatchMode):
    """The pretended device.

    Attributes:
        events: how often each kind of event happened.
        where: (kind, operation, line of this package) -> how often.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: Counter[str] = Counter()
        self.where: Counter[tuple[str, str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def moved(self, module: M) -> M:
        """The module with its parameters and buffers on the device; ``.to`` does not know it."""
        done: dict[int, nn.Parameter] = {}
        for part in module.modules():
            for name, old in part._parameters.items():
                if old is not None and not isinstance(old, OnDevice):
                    new = nn.Parameter(OnDevice(old.detach()), requires_grad=old.requires_grad)
                    part._parameters[name] = done.setdefault(id(old), new)
            for name, buffer in part._buffers.items():
                if buffer is not None and not isinstance(buffer, OnDevice):
                    part._buffers[name] = OnDevice(buffer)
        return module

    def forget(self) -> None:
        """Count from nothing again."""
        self.events.clear()
        self.where.clear()


_DEVICES: list[Device] = []


@contextmanager
def pretended_device() -> Iterator[Device]:
    """A pretended device for the block; not for several threads at once."""
    before = torch.tensor, Tensor.new_tensor
    torch._C._set_only_lift_cpu_tensors(True)
    torch.tensor, Tensor.new_tensor = _from_data, _beside  # type: ignore[assignment, method-assign]
    device = Device()
    _DEVICES.append(device)
    try:
        with device, warnings.catch_warnings():
            # The place is called meta, from where torch expects no numbers.
            warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
            yield device
    finally:
        _DEVICES.remove(device)
        torch.tensor, Tensor.new_tensor = before  # type: ignore[method-assign]
        torch._C._set_only_lift_cpu_tensors(False)


def on_host(x: Tensor) -> Tensor:
    """The numbers of a tensor, wherever it is; not counted."""
    return x.value if isinstance(x, OnDevice) else x


_tensor: Callable[..., Tensor] = torch.tensor


def _from_data(data: Any, *, device: Any = None, **kind: Any) -> Tensor:
    made = _tensor(data, **kind)
    return made if device is None else made.to(device)


def _beside(self: Tensor, data: Any, **kind: Any) -> Tensor:
    device, dtype = kind.pop("device", self.device), kind.pop("dtype", self.dtype)
    return _from_data(data, device=device, dtype=dtype, **kind)


def _note(kind: str, name: str) -> None:
    for device in _DEVICES:
        device.events[kind] += 1
        device.where[kind, name, _asker()] += 1


def _asker() -> str:
    """The line of this package that asked for the operation that runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/foreword/" in file and not file.endswith(_HERE):
            return f"{file.rpartition('/foreword/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: refused where devices mix, counted where the host copies or waits, computed on the CPU."""
    name = func._schema.name.split("::")[1]
    tensors = list(_tensors((args, kwargs)))
    there = any(isinstance(x, OnDevice) for x in tensors)
    asked = kwargs.get("device")
    if there:
        _refuse_mixed(name, args, tensors)
        _count_waiting(name, tensors)
    target = _target(name, args, asked, there)
    generator = kwargs.get("generator")
    if target and generator is not None:
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({_asker()})")
    _count_copies(name, args, kwargs, target)
    if target and name in _UNORDERED:
        _note("not deterministic", name)
    if "device" in kwargs:
        kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        kwargs |= {} if asked is None else {"device": torch.device("cpu")}
    values, named = _each(_value, args), _each(_value, kwargs)
    if name == "histc":  # on whole numbers CUDA has it, the CPU not
        values = [values[0].float(), *values[1:]]
    out = func(*values, **named)
    if there and torch.Tag.inplace_view in func.tags:
        with no_dispatch():  # what the tensor on the device says of its shape changes with its numbers
            func(*args, **kwargs)
    if isinstance(out, Tensor) and func._schema.is_mutable:
        return args[0]
    return _each(_placed, out) if target else out


def _value(x: Tensor) -> Tensor:
    return x.value if isinstance(x, OnDevice) else x


def _placed(x: Tensor) -> Tensor:
    return x if isinstance(x, OnDevice) else OnDevice(x)


def _each(act: Callable[[Tensor], Tensor], x: Any) -> Any:
    """``act`` on every tensor of an operation's arguments or results; torch's own tree_map takes half of a test."""
    if isinstance(x, Tensor):
        return act(x)
    if isinstance(x, (list, tuple)):
        return type(x)(_each(act, part) for part in x)
    if isinstance(x, dict):
        return {key: _each(act, part) for key, part in x.items()}
    return x


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (list, tuple)):
        for part in x:
            yield from _tensors(part)
    elif isinstance(x, dict):
        yield from _tensors(list(x.values()))


def _target(name: str, args: Any, asked: Any, there: bool) -> bool:
    """Whether the result is on the device."""
    if asked is not None:
        return torch.device(asked).type == PLACE.type
    return isinstance(args[0], OnDevice) if there and name == "copy_" else there


def _refuse_mixed(name: str, args: Any, tensors: list[Tensor]) -> None:
    """Raise as CUDA does where tensors of two devices meet; single numbers and indices may come from the host."""
    if name in _COPIES:
        return
    here = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim > 0]
    if name in _INDEXING:
        if not isinstance(args[0], OnDevice):
            raise RuntimeError(f"indices should be on the same device as the indexed tensor (cpu) ({_asker()})")
        if here:
            _note("to device", f"{name} by an index of the host")
    elif here:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"(aten.{name}, {_asker()})"
        )


def _count_waiting(name: str, tensors: list[Tensor]) -> None:
    if name in _WAITING:
        _note("sync", name)
    elif name in _INDEXING and any(isinstance(x, OnDevice) and x.dtype == torch.bool for x in tensors[1:]):
        _note("sync", "boolean index")


def _count_copies(name: str, args: Any, kwargs: dict[str, Any], target: bool) -> None:
    if name not in ("_to_copy", "copy_"):
        return
    source = isinstance(args[1 if name == "copy_" else 0], OnDevice)
    if source and not target:
        _note("to host", name)
    elif target and not source:
        ahead = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        _note("sent ahead" if ahead else "to device", name)
