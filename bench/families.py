"""Which of transformers' text families can be given a foreword: each tried as a tiny random model, none from a list.

    python bench/families.py                         # prints the table
    python bench/families.py --write docs/families.md
    python bench/families.py --only llama bert t5

A family **works** when a prefix in front of some rows leaves the others alone (1e-3 of the largest value) and every
value of it has a gradient; for decoders the prefix of a text must also equal the text in front, where nothing but
attention carries it. Families whose classes cannot be made or run this small are listed as not tried.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto as auto

from foreword.core.base.architecture import kind_of
from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers
from foreword.core.inject.sites import find_sites
from foreword.errors import ForewordError
from foreword.methods.base import Start, make, make_writer
from foreword.testing.method_contracts import moved, output, sample_ids, trained_for

SECONDS, LARGEST = 60, 30_000_000
TEXT = (7, 11, 23, 31, 47)
SIZES: dict[str, Any] = {
    "vocab_size": 264, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embedding_size": 32, "d_embed": 32,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "hidden_dim": 48,
    "n_inner": 48, "intermediate_size_mlp": 48, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "num_decoder_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "attention_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8,
    "kv_channels": 8, "num_kv_heads": 2, "max_position_embeddings": 128, "n_positions": 128, "n_ctx": 128,
    "max_seq_len": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "moe_topk": 2, "top_k": 2, "moe_k": 2,
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": 8,
    "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "rotary_dim": 4,
    "word_embed_proj_dim": 32, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8,
    "mamba_n_groups": 1, "mamba_chunk_size": 4, "mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8,
    "state_size": 8, "n_groups": 1, "chunk_size": 4, "linear_num_value_heads": 2, "linear_num_key_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "lru_width": 32, "attention_window_size": 64,
    "expert_capacity": 64, "adapter_size": 16, "local_num_attention_heads": 4, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "cls_token_id": 1, "sep_token_id": 2, "num_nextn_predict_layers": 0,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 264, "global_head_dim": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What became of a family."""

    family: str
    kind: str
    prefix: str
    prompt: str = ""
    lora: str = ""
    why: str = ""

    def line(self) -> str:
        return "| " + " | ".join((self.family, self.kind, self.prefix, self.prompt, self.lora, self.why)) + " |"


def families() -> list[str]:
    """Every family with a causal, a masked or a sequence-to-sequence language model."""
    tables: tuple[Any, ...] = (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )
    return sorted({name for table in tables for name in table})


def small(family: str) -> Any:
    """The family's configuration with every size that it knows made small, and a layer of each kind that it has."""
    kind: Any = transformers.CONFIG_MAPPING[family]
    usual = kind()
    known = {*usual.to_dict(), *getattr(kind, "attribute_map", {})}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    if "qk_rope_head_dim" in known:  # latent attention: its heads have sizes of their own
        sizes.pop("head_dim", None)
        sizes |= {name: 4 for name in ("num_key_value_heads",) if name in known}
    layers = list(dict.fromkeys(getattr(usual, "layer_types", None) or ()))
    if len(layers) > 1:
        sizes |= {"layer_types": layers, "num_hidden_layers": len(layers)}
    config = kind(**sizes)
    if getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = 0
    return config


def build(config: Any, kind: str) -> Any:
    """The family's model with weights large enough that a difference shows."""
    loaders: dict[str, Any] = {
        "decoder": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
    }
    with torch.device("meta"):
        size = sum(p.numel() for p in loaders[kind].from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} values at its smallest here")
    torch.manual_seed(0)
    model = loaders[kind].from_config(config).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
        ids = sample_ids(2, 6)
        model(input_ids=ids, **({"decoder_input_ids": ids} if kind == "encoder-decoder" else {}))
    return model


def tried(family: str) -> Row:
    """The family's row of the table."""
    try:
        config = small(family)
        kind = kind_of(config)
    except ForewordError:
        return Row(family, "", "no text model")
    except Exception as problem:
        return Row(family, "", "not tried", why=brief(problem))
    try:
        model = build(config, kind)
    except Exception as problem:
        return Row(family, kind, "not tried", why=brief(problem))
    try:
        sites = find_sites(model)
    except ForewordError as refused:
        return Row(family, kind, "refused", why=(refused.problem.partition(": ")[2] or refused.problem)[:160])
    except Exception as problem:
        return Row(family, kind, "fails", why=brief(problem))
    try:
        wrong = prefix_problem(model, kind)
        layers = linear_layers(model)
        note = "a state beside attention" if sites.recurrent else ""
        return Row(
            family, kind, "wrong" if wrong else "works", prompt_of(model), f"{len(layers)} layers", wrong or note
        )
    except ForewordError as refused:
        return Row(family, kind, "refused", why=refused.problem)
    except Exception as problem:
        return Row(family, kind, "fails", why=brief(problem))


def prefix_problem(model: Any, kind: str) -> str:
    """What is wrong with a prefix on this model; empty for nothing."""
    ids = sample_ids(2, 6)
    writer = make_writer(make("prefix"), Start(model, "g", TEXT))
    value = writer.write()
    if kind == "decoder" and not find_sites(model).recurrent:
        with torch.no_grad():
            behind = output(model, torch.cat([torch.tensor([TEXT] * 2), ids], 1))[:, len(TEXT) :]
            with injected(model, [value.detach()]):
                off = apart(output(model, ids), behind)
        if off > 1e-3:
            return f"the prefix of a text differs from the text by {off:.0e}"
    moved(writer)
    value = writer.write()
    with injected(model, [value]):
        output(model, ids).float().pow(2).mean().backward()
    silent = [n for n, p in writer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    if silent:
        return f"{len(silent)} of its values have no gradient"
    value = writer.write().detach()
    with torch.no_grad():
        alone = output(model, ids[1:])
        with injected(model, [value], [0, None]):
            off = apart(output(model, ids)[1:], alone)
    return f"a row beside it differs by {off:.0e}" if off > 1e-3 else ""


def prompt_of(model: Any) -> str:
    """Whether a soft prompt can be put in front."""
    try:
        with torch.no_grad(), injected(model, [trained_for("prompt", model)]):
            output(model, sample_ids(2, 6))
        return "works"
    except ForewordError:
        return "refused"
    except Exception as problem:
        return f"fails ({type(problem).__name__})"


def apart(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def brief(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}".splitlines()[0].replace("|", "/")[:110]


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """A family that takes too long is not waited for."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def page(rows: list[Row]) -> str:
    """docs/families.md."""
    count = {
        what: sum(row.prefix == what for row in rows) for what in ("works", "refused", "wrong", "fails", "not tried")
    }
    said = ", ".join(f"{number} {what}" for what, number in count.items() if number)
    head = ("family", "kind", "prefix", "soft prompt", "LoRA", "why")
    lines = [
        "# Families",
        "",
        f"Every text family of transformers {transformers.__version__}, as a tiny random model: {said}.",
        "Written by `bench/families.py --write docs/families.md` (`make compat`); its docstring says what is tried.",
        "Refused means an error that names the family before anything is trained. Not tried: its class could not be",
        "made or run by the small sizes that the bench knows, which says nothing of the family itself.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *(row.line() for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", help="families to try; default: all")
    parser.add_argument("--write", type=Path, help="a file for the table")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    rows = []
    for family in given.only or families():
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                with limited():
                    row = tried(family)
            except TimeoutError as problem:
                row = Row(family, "", "not tried", why=str(problem))
        if row.prefix != "no text model":
            rows.append(row)
        print(row.line(), file=sys.stderr if given.write else sys.stdout, flush=True)
    if given.write:
        given.write.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
