"""Run inside MLX-LM's environment: greedy tokens of rows behind a prompt cache. One JSON document in, one out.

In: ``base`` (a folder), ``config`` (what the base's config lacks), ``file``, ``rows`` (token ids), ``tokens``.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import load_prompt_cache

job = json.load(sys.stdin)
mx.set_default_device(mx.cpu)
model, _ = load(job["base"], model_config=job.get("config") or {})
answers = []
for ids in job["rows"]:
    cache = load_prompt_cache(job["file"])
    steps = generate_step(mx.array(ids), model, max_tokens=job["tokens"], prompt_cache=cache)
    answers.append([int(token) for token, _ in steps])
json.dump({"engine": f"mlx-lm {version('mlx-lm')}", "tokens": answers}, sys.stdout)
