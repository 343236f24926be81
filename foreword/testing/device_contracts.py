"""The contract of a device: what trains or answers on an accelerator does there what it does on the CPU.

from foreword.testing.device_contracts import check_device
check_device("prefix", "llama")           # on a pretended device; no GPU is needed
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.methods.base import Writer
from foreword.testing.families import tiny
from foreword.testing.method_contracts import behind, close, moved, output, sample_ids, writer_for
from foreword.testing.pretended_device import PLACE, Device, OnDevice, on_host, pretended_device


def check_device(method: str, family: str) -> None:
    """A method's outputs and gradients on a pretended device are those of the CPU, and all its values live there."""
    writer = moved(writer_for(method, tiny(family)))
    expected, wanted = _passed(tiny(family), writer, sample_ids())
    with pretended_device() as device:
        model = device.moved(tiny(family))
        there = writer_for(method, model)
        elsewhere = [name for name, value in there.state_dict().items() if not _is_there(value)]
        assert not elsewhere, f"{method} on {family}: {elsewhere} are not on the base's device"
        there.load_state_dict(writer.state_dict())
        device.forget()
        got, found = _passed(model, there, sample_ids())
        assert not device.events["to host"], f"{method} on {family}: {_first(device, 'to host')}"
    close(got, expected, 1e-4, f"{method} on {family}, outputs")
    assert found.keys() == wanted.keys(), f"{method} on {family}: other gradients"
    for name, gradient in wanted.items():
        # Another kernel adds up in another order; behind T5's unscaled softmax that shows.
        close(found[name], gradient, 1e-3, f"{method} on {family}, gradient of {name}")


def _passed(model: PreTrainedModel, writer: Writer, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs and gradients of one pass where the model is, as values of the host."""
    value = writer.write()
    place = PLACE if isinstance(next(model.parameters()), OnDevice) else torch.device("cpu")
    with injected(model, [value]):
        out = output(model, behind(value, ids).to(place))
        out.float().pow(2).mean().backward()
    gradients = {n: on_host(p.grad) for n, p in writer.named_parameters() if p.requires_grad and p.grad is not None}
    return on_host(out.detach()), gradients


def _is_there(value: Tensor) -> bool:
    return isinstance(value, OnDevice)


def _first(device: Device, kind: str) -> str:
    return "; ".join(f"{what} at {line}" for (found, what, line) in device.where if found == kind)
