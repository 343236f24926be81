"""Run inside MLX-LM's environment: greedy tokens behind a prompt cache. One JSON document in, one out."""

import json
import sys

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import load_prompt_cache

job = json.load(sys.stdin)
mx.set_default_device(mx.cpu)
model, _ = load(job["base"])
answers = []
for row in job["rows"]:
    cache = load_prompt_cache(row["state"])
    steps = generate_step(mx.array(row["ids"]), model, max_tokens=job["tokens"], prompt_cache=cache)
    answers.append([int(token) for token, _ in steps])
json.dump(answers, sys.stdout)
