"""Where a model runs and in which number format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from foreword.errors import ResourceError, SettingsError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DEVICES = "auto, cpu, cuda, cuda:N or mps"


def pick_device(device: str) -> torch.device:
    """The torch device of a setting; ``auto`` is CUDA when there is one, else the CPU.

    Raises:
        SettingsError: no such kind of device.
        ResourceError: a device that this machine has not got.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise SettingsError("unknown device", expected=_DEVICES, received=device) from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if wanted.type not in counts:
        raise SettingsError("unknown device", expected=_DEVICES, received=device)
    if (wanted.index or 0) >= counts[wanted.type]:
        raise ResourceError(
            "this device is not there",
            expected=device,
            received=f"{counts[wanted.type]} device(s) of kind {wanted.type}",
            hint="use device auto or cpu, or install a torch build for the device",
        )
    return wanted


def pick_dtype(dtype: str) -> torch.dtype | Literal["auto"]:
    """The torch number format of a setting; ``auto`` stays ``auto``.

    Raises:
        SettingsError: another name.
    """
    if dtype == "auto":
        return "auto"
    if dtype not in _DTYPES:
        raise SettingsError("unknown dtype", expected="auto, " + ", ".join(_DTYPES), received=dtype)
    return _DTYPES[dtype]


def number_format(dtype: torch.dtype) -> str:
    """A number format as settings and files name it: ``float32``."""
    return str(dtype).removeprefix("torch.")


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``; the host does not wait until it is there.

    On CUDA it goes through pinned memory: a plain copy waits for all work that was asked for before.
    """
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def tensor_on(values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers of the host as a tensor on ``device``, :func:`sent` there."""
    return sent(torch.tensor(values, dtype=dtype), device)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draw from the global generators of the CPU, and of ``device``, from ``seed`` on; afterwards they are as before.

    Unlike ``torch.manual_seed``, which seeds those of all other devices too and leaves them so.
    """
    numbers = []
    if device is not None and device.type == "cuda":
        numbers = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=numbers):
        torch.default_generator.manual_seed(seed)
        for number in numbers:
            torch.cuda.default_generators[number].manual_seed(seed)
        yield
