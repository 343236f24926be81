"""The contracts of what is written: a file and its base, a training run that was stopped, another engine's files.

from foreword.testing.saved_contracts import SAVED_CONTRACTS
SAVED_CONTRACTS["3 resume"]("prefix", "llama")
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.artifact.manifest import Manifest
from foreword.artifact.store import load, save
from foreword.core.base.load import Base, base_of
from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, equal
from foreword.data.tokens.examples import Example
from foreword.errors import BaseMismatchError
from foreword.export.base import Exporting, make_format
from foreword.export.cache_layout import value_of
from foreword.export.mlx import decode_cache
from foreword.export.peft import export_peft, import_peft
from foreword.methods.base import Start, Writer, make, make_writer
from foreword.runs.prepare.start import same_base
from foreword.runs.train.result import record_of
from foreword.settings.schema import TrainSettings
from foreword.testing.head_contracts import rows
from foreword.testing.method_contracts import TEXT, behind, byte_tokenizer, output, sample_ids, trained_for
from foreword.testing.variants import PLAIN, Contract, Variant
from foreword.training import checkpoint
from foreword.training.heads.base import Head, registry
from foreword.training.loop import Score, Trial

_STEPS, _STOP = 4, 2
_SETTINGS = TrainSettings(num_train_epochs=_STEPS, per_device_train_batch_size=4, eval_steps=100)


def check_saved(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 2: save and load give a bit-equal foreword and the same answers; another base refuses it."""
    base, value, manifest = _trained(method, family, on)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.foreword"
        save(file, value, manifest)
        loaded, said = load(file)
    assert equal(loaded, value), f"{method} on {family}, {on.name}: another foreword comes back"
    same_base(said, base, family)
    assert torch.equal(_answers(base.model, loaded), _answers(base.model, value))
    try:
        same_base(said, base_of(on.tiny(family, seed=1), byte_tokenizer()), family)
    except BaseMismatchError:
        return
    raise AssertionError(f"{method} on {family}, {on.name}: another base takes it")


def check_resumed(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 3: stopped after any step and resumed, bit for bit what it is without a stop."""
    model = on.tiny(family)
    whole, *parts = (_trial(method, model) for _ in range(3))
    list(whole.run(_STEPS))
    with TemporaryDirectory() as folder:
        list(parts[0].run(_STOP))
        checkpoint.save(parts[0], Path(folder) / "checkpoint.safetensors")
        assert checkpoint.load(parts[1], Path(folder) / "checkpoint.safetensors")
        list(parts[1].run(_STEPS))
    for name, tensor in whole.tensors().items():
        assert torch.equal(parts[1].tensors()[name], tensor), f"{method} on {family}, {on.name}: {name} differs"


def check_exported(method: str, family: str, on: Variant = PLAIN) -> None:
    """Contract 9: exported and imported again, the same foreword and logits: PEFT, and a cache where there is one."""
    base, value, manifest = _trained(method, family, on)
    expected, model = _answers(base.model, value), base.model
    sites = [name for name, site in find_sites(model).sites.items() if site.kind == "self"]
    if not value.sites or base.kind == "decoder":
        with TemporaryDirectory() as folder:
            export_peft(value, manifest, folder, model)
            back = import_peft(folder, sites, {name: sizes(layer) for name, layer in linear_layers(model).items()})
        assert equal(back, value), f"{method} on {family}, {on.name}: PEFT's format holds another foreword"
        assert torch.equal(_answers(model, back), expected)
    if value.sites and base.kind == "decoder":
        files = make_format("mlx").write(Exporting("model", value, manifest, base, Path(), Path()))
        cached = value_of(decode_cache(files["model.safetensors"], family), sites)
        assert torch.equal(_answers(model, cached), expected), f"{method} on {family}, {on.name}: another cache"


def _trained(method: str, family: str, on: Variant) -> tuple[Base, Foreword, Manifest]:
    base = base_of(on.tiny(family), byte_tokenizer(), id=family)
    value = trained_for(method, base.model)
    positions = find_sites(base.model).positions if value.num_virtual_tokens else "content"
    return base, value, Manifest(base=record_of(base), method=method, positions=positions)


def _answers(model: PreTrainedModel, value: Foreword) -> Tensor:
    with torch.no_grad(), injected(model, [value]):
        return output(model, behind(value, sample_ids()))


def _trial(method: str, model: PreTrainedModel) -> Trial:
    head = _head(find_sites(model).kind)
    start = Start(model, "guidance", TEXT, seed=1, classes=2 if head.trained else 0, slots=TEXT)
    writer = make_writer(make(method), start)
    return Trial(model, writer, head, _rows_for(writer), _SETTINGS, 1e-3, lambda value: Score(0.0, 0.0))


def _rows_for(writer: Writer) -> list[Example]:
    """Rows with a placeholder for each soft slot that the writer fills."""
    with torch.no_grad():
        value = writer.write()
    return [replace(row, input_ids=tuple(behind(value, torch.tensor([row.input_ids]))[0].tolist())) for row in rows()]


def _head(kind: str) -> Head:
    """A head that every base of the kind can be asked through, without a head of its own that is trained already."""
    heads = (head for found in registry().values() for head in found.tried())
    return next(head for head in heads if kind in head.kinds and getattr(head, "mask", None) is None)


SAVED_CONTRACTS: dict[str, Contract] = {
    "2 save": check_saved,
    "3 resume": check_resumed,
    "9 export": check_exported,
}
