"""Run inside llama-cpp-python's environment: greedy tokens of rows with a foreword. One JSON document in, one out.

In: ``gguf``, ``part`` (``prefix``, ``lora`` or ``prompt``), ``file`` (a state of version 3, an adapter, or embeddings
as ``.npy``), ``length`` (P), ``rows`` (token ids), ``tokens`` (how many), ``cache_type``, ``flash_attention`` and
``logits``.
Out: ``engine``, ``tokens`` of each row and, where asked for, ``logits`` of its first position.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

import llama_cpp
import numpy as np


def load(job: dict[str, Any]) -> Any:
    """The model, with the adapter where the foreword is one."""
    kind = 0 if job["cache_type"] == "f32" else 1
    return llama_cpp.Llama(
        job["gguf"], n_ctx=job.get("context", 1024), verbose=False, flash_attn=job["flash_attention"], type_k=kind,
        type_v=kind, n_threads=job.get("threads", 1), lora_path=job["file"] if job["part"] == "lora" else None,
    )  # fmt: skip


def begin(model: Any, job: dict[str, Any]) -> int:
    """An empty cache with the foreword in it; how many positions it takes."""
    context = model._ctx.ctx
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    if job["part"] == "lora":
        return 0
    if job["part"] == "prompt":
        return embed(context, np.load(job["file"], allow_pickle=False))
    tokens, count = (llama_cpp.llama_token * 4096)(), ctypes.c_size_t()
    size = llama_cpp.llama_state_seq_load_file(
        context, job["file"].encode(), 0, tokens, len(tokens), ctypes.byref(count)
    )
    if not size or count.value != job["length"]:
        raise SystemExit(f"{job['file']}: {count.value} of {job['length']} virtual tokens were restored")
    return int(count.value)


def embed(context: Any, vectors: Any) -> int:
    """A soft prompt ``[P, E]`` in place of tokens, through ``llama_batch.embd``."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    batch = llama_cpp.llama_batch_init(len(vectors), vectors.shape[1], 1)
    batch.n_tokens = len(vectors)
    ctypes.memmove(batch.embd, vectors.ctypes.data, vectors.nbytes)
    place(batch, 0)
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit("llama_decode failed on the soft prompt")
    llama_cpp.llama_batch_free(batch)
    return len(vectors)


def place(batch: Any, position: int) -> None:
    """Positions of a batch from ``position`` on; logits of its last token."""
    for index in range(batch.n_tokens):
        batch.pos[index], batch.n_seq_id[index], batch.seq_id[index][0] = position + index, 1, 0
        batch.logits[index] = index == batch.n_tokens - 1


def decode(model: Any, ids: list[int], position: int) -> Any:
    """Logits behind ``ids``, ``[V]``."""
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for index, token in enumerate(ids):
        batch.token[index] = token
    place(batch, position)
    if llama_cpp.llama_decode(model._ctx.ctx, batch):
        raise SystemExit("llama_decode failed")
    llama_cpp.llama_batch_free(batch)
    return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1), (model.n_vocab(),)).copy()


def main() -> None:
    """The answers to the document on standard input."""
    job = json.load(sys.stdin)
    stdout = os.dup(1)
    os.dup2(2, 1)  # what the library prints is not the answer
    model = load(job)
    answers, first = [], []
    for ids in job["rows"]:
        position, answer = begin(model, job), []
        for step in range(job["tokens"]):
            logits = decode(model, ids, position)
            if step == 0 and job.get("logits"):
                first.append(logits.tolist())
            position, ids = position + len(ids), [int(logits.argmax())]
            answer += ids
        answers.append(answer)
    result = {"engine": f"llama-cpp-python {llama_cpp.__version__}", "tokens": answers, "logits": first}
    os.write(stdout, json.dumps(result).encode())


if __name__ == "__main__":
    main()
