"""Run inside llama-cpp-python's environment: greedy tokens behind a sequence state. One JSON document in, one out."""

import ctypes
import json
import os
import sys

import llama_cpp

job = json.load(sys.stdin)
stdout = os.dup(1)
os.dup2(2, 1)  # what the library prints is not the answer
model = llama_cpp.Llama(
    job["gguf"], n_ctx=1024, logits_all=False, verbose=False, flash_attn=job["flash_attention"],
    type_k=0 if job["cache_type"] == "f32" else 1, type_v=0 if job["cache_type"] == "f32" else 1,
)  # fmt: skip
context = model._ctx.ctx
memory = llama_cpp.llama_get_memory(context)
answers = []
for row in job["rows"]:
    llama_cpp.llama_memory_clear(memory, True)
    tokens = (llama_cpp.llama_token * 4096)()
    count = ctypes.c_size_t()
    size = llama_cpp.llama_state_seq_load_file(
        context, row["state"].encode(), 0, tokens, len(tokens), ctypes.byref(count)
    )
    if not size or count.value != row["length"]:
        raise SystemExit(f"{row['state']}: {count.value} of {row['length']} tokens were restored")
    ids, position, answer = row["ids"], row["length"], []
    for _ in range(job["tokens"]):
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index], batch.pos[index] = token, position + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = index == len(ids) - 1
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        llama_cpp.llama_batch_free(batch)
        position += len(ids)
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        best = max(range(model.n_vocab()), key=logits.__getitem__)
        answer.append(best)
        ids = [best]
    answers.append(answer)
os.write(stdout, json.dumps(answers).encode())
