"""Small bases trained from scratch for bench/small_models.py, saved as folders that load like any other."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from foreword.api import base as recurrent_base
from foreword.core.passes.scoring import pad
from foreword.data.tokens.examples import Encoder, Example, lead_ids
from foreword.runs.prepare.ready_data import ready_data
from foreword.settings.schema import BaseSettings, ProgressCall, TaskOptions, TrainRequest
from foreword.training.from_scratch.make_tokenizer import make_tokenizer

Rows = Sequence[dict[str, Any]]
_IGNORED = -100


@dataclass(frozen=True)
class EncoderDecoder:
    """A T5 of a small size, and how it is trained.

    Args:
        vocab_size: tokens of its byte-level BPE at most.
        width, heads, layers, inner: E, H, layers a stack, width of the feed-forward part.
        epochs: passes over the pairs; the time at hand may end them before.
    """

    vocab_size: int = 4000
    width: int = 128
    heads: int = 4
    layers: int = 2
    inner: int = 384
    dropout: float = 0.0
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 13


@dataclass(frozen=True)
class Recurrent:
    """A GRU or LSTM by ``foreword base``."""

    cell: str
    settings: BaseSettings


Kind = EncoderDecoder | Recurrent


def make_base(
    kind: Kind, rows: Rows, dev: Rows, options: TaskOptions, folder: Path, minutes: float, progress: ProgressCall
) -> dict[str, Any]:
    """Train a base into ``folder``, or find it there; what is worth knowing of it (``small.json``, written last).

    Args:
        rows, dev: what it learns, and what its training is watched on.
        options: the task; its guidance stands in front of every row.
        minutes: of this thread's time in training at most, for an encoder-decoder; other processes do not count.
    """
    facts = folder / "small.json"
    if facts.exists():
        found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        return found
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    if isinstance(kind, Recurrent):
        request = TrainRequest(
            list(rows), kind.cell, folder, dev=list(dev), base_settings=kind.settings, task_options=options,
            skip_bad=True, progress=progress,
        )  # fmt: skip
        made = recurrent_base(request).to_json()
    else:
        made = _encoder_decoder(kind, rows, dev, options, folder, minutes, progress)
    made |= {"rows": {"train": len(rows), "dev": len(dev)}, "seconds": round(time.monotonic() - began)}
    facts.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return made


def _encoder_decoder(
    kind: EncoderDecoder, rows: Rows, dev: Rows, options: TaskOptions, folder: Path, minutes: float,
    progress: ProgressCall,
) -> dict[str, Any]:  # fmt: skip
    options = replace(options, test_fraction=0)
    request = TrainRequest(list(rows), "", "", dev=list(dev), task_options=options, skip_bad=True)
    ready = ready_data(request)
    task, tables = ready.task, ready.tables
    texts = [text for row in tables["train"].rows for text in map(str, row.fields.values())]
    tokenizer = make_tokenizer([*texts, task.guidance], "bpe", kind.vocab_size)
    lead = tuple(lead_ids(task, tokenizer, special_tokens=True))
    pairs = {
        name: [one.behind(lead) for one in Encoder(task, tokenizer, True).encode(table.rows)]
        for name, table in tables.items()
    }
    torch.manual_seed(kind.seed)
    fill = int(tokenizer.pad_token_id)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer), d_model=kind.width, d_kv=kind.width // kind.heads, num_heads=kind.heads,
            d_ff=kind.inner, num_layers=kind.layers, feed_forward_proj="gated-gelu", dropout_rate=kind.dropout,
            pad_token_id=fill, eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=fill,
        )
    )  # fmt: skip
    steps = _train(model, pairs["train"], kind, fill, 60 * minutes, progress)
    loss = _mean_loss(model, pairs["dev"], kind, fill)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    values = sum(p.numel() for p in model.parameters())
    return {"cell": "t5", "values": values, "vocabulary": len(tokenizer), "dev_loss": loss, **steps}


def _train(
    model: nn.Module, pairs: list[Example], kind: EncoderDecoder, fill: int, seconds: float, progress: ProgressCall
) -> dict[str, Any]:
    """AdamW; the rate falls linearly over the epochs or over the thread's time, whichever ends first."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=kind.learning_rate, weight_decay=0.01)
    epoch = math.ceil(len(pairs) / kind.batch_size)
    total, step, began = epoch * kind.epochs, 0, time.thread_time()
    dice = random.Random(kind.seed)
    model.train()
    while True:
        for batch in _grouped(pairs, kind.batch_size, dice):
            done = max(step / total, (time.thread_time() - began) / seconds)
            if done >= 1:
                model.eval()
                return {"steps": step, "epochs": round(step / epoch, 2), "whole": step == total}
            for group in optimizer.param_groups:
                group["lr"] = kind.learning_rate * min((step + 1) / 100, 1 - done)
            loss = _loss(model, batch, fill)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            progress("train the encoder-decoder", step, total, loss=float(loss.detach()))


def _grouped(pairs: list[Example], size: int, dice: random.Random) -> list[list[Example]]:
    """Batches of like length in random order."""
    order = sorted(pairs, key=lambda one: (len(one.input_ids) + 2 * len(one.target_ids)) * (1 + 0.2 * dice.random()))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    dice.shuffle(batches)
    return batches


def _loss(model: nn.Module, batch: Sequence[Example], fill: int) -> Tensor:
    """Mean -log p a token of the answers, their end included."""
    device = torch.device("cpu")
    rows, answers = (pad(ids, fill, device) for ids in ([b.input_ids for b in batch], [b.target_ids for b in batch]))
    labels = answers.ids.masked_fill(~answers.mask.bool(), _IGNORED)
    loss: Tensor = model(input_ids=rows.ids, attention_mask=rows.mask, labels=labels).loss
    return loss


def _mean_loss(model: nn.Module, pairs: list[Example], kind: EncoderDecoder, fill: int) -> float:
    with torch.no_grad():
        batches = _grouped(pairs, kind.batch_size, random.Random(0))
        sums = [(float(_loss(model, b, fill)), sum(len(one.target_ids) for one in b)) for b in batches]
    return sum(loss * count for loss, count in sums) / sum(count for _, count in sums)
