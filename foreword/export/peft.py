"""PEFT's format: ``adapter_config.json``, and ``adapter_model.safetensors`` with one tensor, ``prompt_embeddings``.

Prefix tuning: ``[P, 2 * L * H * D]``, seen as ``[P, L, 2, H, D]``: layer l's keys at ``[:, l, 0]``, its values at
``[:, l, 1]`` (peft/peft_model.py, ``get_prompt``). PEFT puts them in the cache, so its content starts at position P, as
ours does in a decoder, and keys need no rotation. It has one shape for all layers. Its prefixes of encoders and of
encoder-decoders move the content or reach other layers than ours, so those would give other answers and are refused.
Prompt tuning and P-tuning: ``[P, E]``, in front of the embeddings. LoRA has two tensors a layer: see ``peft_lora``.

``foreword.json`` beside them, which PEFT does not read, keeps what its format has no place for: the guidance text and
the manifest with the template.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.artifact.manifest import Manifest
from foreword.artifact.peek import MAX_VIRTUAL_TOKENS
from foreword.core.base.architecture import kind_of
from foreword.core.inject.value import Foreword, KeyValue
from foreword.errors import FileFormatError, SettingsError
from foreword.export.foreign_checkpoint import object_of, tensors_of, whole_number
from foreword.export.peft_check import refuse_unless_peft_agrees
from foreword.export.peft_lora import CONFIG, KIND, from_peft, to_peft
from foreword.storage import write_atomically

WEIGHTS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
SIDECAR = "foreword.json"
TENSOR = "prompt_embeddings"
_TASK_TYPES = {"decoder": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION", "encoder-decoder": "SEQ_2_SEQ_LM"}
_PREFIX, _PROMPT = ("PREFIX_TUNING", "CARTRIDGE"), ("PROMPT_TUNING", "P_TUNING")


def export_peft(foreword: Foreword, manifest: Manifest | None, folder: str | Path, model: PreTrainedModel) -> Path:
    """Write a foreword as a PEFT checkpoint that ``PeftModel.from_pretrained(base, folder)`` loads.

    Args:
        foreword: keys and values ``[P, H, D]`` for every layer of a decoder, a soft prompt ``[P, E]``, or LoRA.
        manifest: kept in ``foreword.json``; names the base.
        folder: made if it is not there; the three files in it are replaced.
        model: the base. Where PEFT is installed the checkpoint is read back on it and compared, before anything is
            written to ``folder``.

    Returns:
        The folder.

    Raises:
        SettingsError: PEFT's format cannot hold this foreword, or PEFT would answer differently with it.
        ForewordError: the folder cannot be written.
    """
    base_config = model.config
    kind = kind_of(base_config)
    tensors, fields = _checkpoint(foreword, kind, "cache" if manifest is None else manifest.positions, base_config)
    name = manifest.base.id if manifest is not None else getattr(base_config, "_name_or_path", "")
    config = {
        **fields,
        "task_type": _TASK_TYPES[kind],
        "base_model_name_or_path": name or None,
        "revision": None if manifest is None else manifest.base.revision,
        "inference_mode": True,
    }
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    weights = safetensors.torch.save(held, {"format": "pt"})
    sidecar = {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "text": foreword.text,
        "manifest": None if manifest is None else manifest.model_dump(mode="json"),
    }
    # The config last, because PEFT takes a folder with a config for a checkpoint.
    files = {WEIGHTS: weights, SIDECAR: _json(sidecar), CONFIG: _json(config)}
    with tempfile.TemporaryDirectory(prefix="foreword-peft-") as trial:
        for file, content in files.items():
            (Path(trial) / file).write_bytes(content)
        refuse_unless_peft_agrees(Path(trial), foreword, model)
    target = Path(folder)
    for file, content in files.items():
        write_atomically(target / file, content)
    return target


def import_peft(
    folder: str | Path, sites: Sequence[str], layers: Mapping[str, tuple[int, int]] | None = None
) -> Foreword:
    """Read a PEFT checkpoint of prefix tuning, cartridges, prompt tuning, P-tuning or LoRA; no code in it is run.

    Args:
        folder: what PEFT's ``save_pretrained`` wrote, or :func:`export_peft`.
        sites: the names of the base's self-attention sites in the order of its layers; not used for a soft prompt.
        layers: the base's linear layers, name -> (in, out), which LoRA needs.

    Returns:
        The foreword on the CPU, in the precision of the checkpoint.

    Raises:
        FileFormatError: a file is missing, damaged or hostile, or its parts do not fit each other or the base.
        SettingsError: the checkpoint is of a kind that gives other answers here than in PEFT.
    """
    root = Path(folder)
    where = root / CONFIG
    config = object_of(where)
    kind = config.get("peft_type")
    if kind == KIND:
        tensors, digest = _tensors(root)
        return Foreword(_text(root, digest), adapters=from_peft(config, tensors, layers or {}, root))
    if kind not in (*_PREFIX, *_PROMPT):
        names, problem = ", ".join((*_PREFIX, *_PROMPT, KIND)), "this kind of PEFT checkpoint is not a foreword"
        raise FileFormatError(problem, where=str(where), expected=names, received=repr(kind)[:40])
    tensor, digest = _tensor(root)
    P = whole_number(config, "num_virtual_tokens", where)
    submodules = config.get("num_transformer_submodules")
    if P > MAX_VIRTUAL_TOKENS:
        raise FileFormatError("too many virtual tokens", where=str(where), expected=MAX_VIRTUAL_TOKENS, received=P)
    if submodules not in (None, 1):
        raise _unsuitable(
            "it also stands in the decoder of an encoder-decoder, in PEFT's own way", "train it here instead"
        )
    text = _text(root, digest)
    if kind in _PROMPT:
        _expect(tensor, (P, whole_number(config, "token_dim", where)), root)
        return Foreword(text, tensor)
    if config.get("task_type") == "SEQ_2_SEQ_LM" or not all(site.startswith("decoder.self.") for site in sites):
        raise _unsuitable(
            "it is a prefix of an encoder, where PEFT counts positions differently", "train it here instead"
        )
    return Foreword(text, None, _unflat(tensor, config, P, sites, root))


def _checkpoint(
    foreword: Foreword, kind: str, positions: str, base_config: Any
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """PEFT's tensors and the fields of its config that depend on the method."""
    if foreword.weights:
        raise _unsuitable("it has the base's own weights, changed", "PEFT has no place for them; it stays a .foreword")
    if not foreword.adapters:
        tensor, fields = _front(foreword, kind, positions, base_config)
        front = {"num_virtual_tokens": foreword.num_virtual_tokens, "num_transformer_submodules": 1}
        return {TENSOR: tensor}, {**fields, **front}
    if foreword.head or foreword.slots is not None or foreword.sites:
        raise _unsuitable("it has more than low-rank changes", "PEFT keeps one kind in a checkpoint")
    return to_peft(foreword.adapters, base_config.model_type)


def _front(foreword: Foreword, kind: str, positions: str, base_config: Any) -> tuple[Tensor, dict[str, object]]:
    """PEFT's one tensor for what stands in front, and its fields."""
    if foreword.head:
        raise _unsuitable("it has a classification head", "PEFT keeps the base's own head; use a verbalizer instead")
    if foreword.slots is not None:
        raise _unsuitable("it has soft slots inside the rows", "PEFT knows soft tokens in front only")
    if foreword.prompt is not None:
        size = foreword.prompt.shape[1]
        return foreword.prompt, {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "RANDOM", "token_dim": size}
    if not foreword.sites:
        raise _unsuitable("it is a text", "put the text in front of the input; nothing has to be exported")
    if any(".state." in site for site in foreword.sites):
        raise _unsuitable("it is the state of a recurrent base, which PEFT does not know", "it stays a .foreword")
    if kind != "decoder" or positions != "cache":
        raise _unsuitable(f"it is a prefix of an {kind}, where PEFT counts positions differently", "use prompt tuning")
    return _flat(foreword, base_config)


def _flat(foreword: Foreword, base_config: Any) -> tuple[Tensor, dict[str, object]]:
    """The tensor ``[P, 2 * L * H * D]`` and the fields that describe it; one shape for all layers, or refused."""
    config = base_config.get_text_config()
    layers = config.num_hidden_layers
    names = [f"decoder.self.{layer}" for layer in range(layers)]
    if foreword.sites.keys() != set(names):
        raise _unsuitable(
            "it does not have keys and values for every layer", "train it on all layers", layers, len(foreword.sites)
        )
    pairs = [foreword.sites[name] for name in names]
    kinds = {(tuple(t.shape), t.dtype) for kv in pairs for t in (kv.keys, kv.values)}
    if len(kinds) > 1:
        shapes = ", ".join(sorted({str(list(shape)) for shape, _ in kinds}))
        raise _unsuitable(
            "its layers or its keys and values have different shapes", "it stays a .foreword", "one", shapes
        )
    P, H, D = pairs[0].keys.shape
    # PEFT takes both numbers from the base's config again when it loads, so what differs would not load.
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or D
    if (heads, size) != (H, D):
        hint = "export it with its own base; latent attention (MLA) is beyond PEFT"
        raise _unsuitable("the base's config names other heads", hint, f"{heads} of size {size}", f"{H} of size {D}")
    flat = torch.stack([torch.stack([kv.keys, kv.values], 1) for kv in pairs], 1).reshape(P, -1)
    fields: dict[str, object] = {
        "peft_type": "PREFIX_TUNING",
        "num_layers": layers,
        "num_attention_heads": H,
        "token_dim": H * D,
        "encoder_hidden_size": H * D,
        "prefix_projection": False,
    }
    return flat, fields


def _unflat(
    tensor: Tensor, config: Mapping[str, object], P: int, sites: Sequence[str], root: Path
) -> dict[str, KeyValue]:
    where = root / CONFIG
    layers, heads, width = (
        whole_number(config, key, where) for key in ("num_layers", "num_attention_heads", "token_dim")
    )
    if layers != len(sites) or width % heads:
        raise FileFormatError(
            "the checkpoint is for a base of another shape",
            where=str(where),
            expected=f"{len(sites)} layers, a token_dim that the heads divide",
            received=f"{layers} layers, {heads} heads, token_dim {width}",
            hint="give the base that base_model_name_or_path names",
        )
    _expect(tensor, (P, 2 * layers * width), root)
    whole = tensor.view(P, layers, 2, heads, width // heads)
    return {site: KeyValue(whole[:, i, 0].clone(), whole[:, i, 1].clone()) for i, site in enumerate(sites)}


def _tensors(root: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint, and the digest of its file."""
    if not (root / WEIGHTS).exists() and (root / PICKLE).exists():
        raise FileFormatError(
            "the checkpoint is a pickle, which can run code when it is opened",
            where=str(root / PICKLE),
            expected=WEIGHTS,
            hint="if you trust it, load it in PEFT and save it again with save_pretrained, which writes safetensors",
        )
    return tensors_of(root / WEIGHTS)


def _tensor(root: Path) -> tuple[Tensor, str]:
    """The one tensor of what stands in front, and the digest of its file."""
    tensors, digest = _tensors(root)
    if list(tensors) != [TENSOR] or tensors[TENSOR].ndim != 2:
        raise FileFormatError(
            "not a prefix or a prompt",
            where=str(root / WEIGHTS),
            expected=f"one tensor, {TENSOR}",
            received=", ".join(repr(name[:60]) for name in list(tensors)[:5]),
            hint="heads and other trained modules of PEFT have no place in a foreword",
        )
    return tensors[TENSOR], digest


def _text(root: Path, digest: str) -> str:
    """The guidance text beside an export of ours; empty for a checkpoint of PEFT's own."""
    path = root / SIDECAR
    if not path.exists():
        return ""
    fields = object_of(path)
    text = fields.get("text")
    if not isinstance(text, str) or fields.get("weights_sha256") != digest:
        raise FileFormatError(
            f"{SIDECAR} does not belong to {WEIGHTS}",
            where=str(path),
            hint=f"delete {SIDECAR} if the checkpoint was trained further in PEFT",
        )
    return text


def _expect(tensor: Tensor, shape: tuple[int, int], root: Path) -> None:
    if tuple(tensor.shape) != shape:
        raise FileFormatError(
            f"{TENSOR} has another shape than {CONFIG} says",
            where=str(root / WEIGHTS),
            expected=shape,
            received=tuple(tensor.shape),
        )


def _unsuitable(why: str, hint: str, expected: object = None, received: object = None) -> SettingsError:
    return SettingsError(
        f"PEFT and foreword cannot exchange this: {why}", expected=expected, received=received, hint=hint
    )


def _json(fields: Mapping[str, object]) -> bytes:
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()
