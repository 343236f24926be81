"""A written PEFT checkpoint, read back by PEFT itself: it must answer as the foreword does here.

PEFT and transformers rename layers of some families between their own versions (mixtures of experts), and PEFT's soft
prompts do not fit every class; only the tools themselves know. The base's weights are shared with the copy that PEFT
changes, so nothing of the base is touched and nothing large is copied.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, LowRank
from foreword.errors import SettingsError

_ROWS, _LENGTH = 2, 6
_HINT = "it stays a .foreword; a prefix can be exported where low-rank changes cannot"


def refuse_unless_peft_agrees(folder: Path, foreword: Foreword, model: PreTrainedModel) -> None:
    """Load the checkpoint in ``folder`` in PEFT and compare its answers, where PEFT is installed.

    Raises:
        SettingsError: PEFT cannot load it, leaves a part of it out, or answers differently; or PEFT is missing and the
            base's layers are of those that it renames.
    """
    if importlib.util.find_spec("peft") is None:
        _refuse_renamed(foreword, model)
        return
    ids = torch.arange(3, 3 + _ROWS * _LENGTH, device=model.device).view(_ROWS, _LENGTH)
    ids = ids % model.config.get_text_config().vocab_size
    with torch.no_grad(), injected(model, [foreword]):
        expected = _answers(model, ids, find_sites(model).kind)
    try:
        theirs = _loaded(folder, model)
        with torch.no_grad():
            got = _answers(theirs, ids, find_sites(model).kind)[:, -expected.shape[1] :]
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as problem:
        raise _disagree(f"PEFT cannot load or run it on {type(model).__name__}", problem) from problem
    left_out = [name for name, pair in foreword.adapters.items() if not _took(theirs, name, pair)]
    if left_out:
        raise _disagree(f"PEFT leaves out {len(left_out)} of its {len(foreword.adapters)} changed layers", left_out[0])
    off = float((got.float() - expected.float()).abs().max() / expected.float().abs().max().clamp(min=1.0))
    allowed = min(1e4 * torch.finfo(expected.dtype).eps, 0.1)
    if not off <= allowed:
        raise _disagree(f"PEFT answers differently with it on {type(model).__name__}", f"a difference of {off:.1e}")


def _loaded(folder: Path, model: PreTrainedModel) -> Any:
    """The checkpoint in PEFT, around a copy of the base that shares its weights."""
    import peft

    held = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in held})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it leaves out; that is looked for below
        return peft.PeftModel.from_pretrained(twin, str(folder)).eval()


def _answers(model: Any, ids: Tensor, kind: str) -> Tensor:
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if kind == "encoder-decoder":
        given["decoder_input_ids"] = ids
    states: Tensor = model(**given)[0]
    return states


def _took(theirs: Any, name: str, pair: LowRank) -> bool:
    """Whether PEFT's layer of that name has these factors."""
    layer = dict(theirs.base_model.model.named_modules()).get(name)
    factors: Mapping[str, Any] = getattr(layer, "lora_A", {})
    if "default" not in factors:
        return False
    a, b = factors["default"].weight, layer.lora_B["default"].weight  # type: ignore[union-attr]
    return a.shape == pair.a.shape and torch.allclose(a.float(), pair.a.to(a).float()) and b.shape == pair.b.shape


def _refuse_renamed(foreword: Foreword, model: PreTrainedModel) -> None:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    if foreword.adapters and get_checkpoint_conversion_mapping(model.config.model_type) is not None:
        raise SettingsError(
            f"PEFT renames layers of {type(model).__name__}, and without PEFT it cannot be seen which",
            expected="peft, to read the checkpoint back",
            hint="pip install peft, and export again",
        )


def _disagree(why: str, received: object) -> SettingsError:
    return SettingsError(
        f"PEFT and foreword cannot exchange this: {why}",
        expected="the same answers in both",
        received=str(received)[:200],
        hint=_HINT,
    )
