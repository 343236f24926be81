"""Run where transformers is (and PEFT, for an adapter): greedy tokens of rows. One JSON document in, one out.

In: ``base`` (a folder or hub id), ``adapter`` (a PEFT folder, or null), ``rows`` (token ids), ``tokens`` (how many).
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import torch
from transformers import AutoModelForCausalLM

job = json.load(sys.stdin)
model: Any = AutoModelForCausalLM.from_pretrained(job["base"], dtype=getattr(torch, job["dtype"]))
engine = f"transformers {version('transformers')}"
if job["adapter"] is not None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, job["adapter"])
    engine = f"peft {version('peft')}"
answers = []
for row in job["rows"]:
    ids = list(row)
    for _ in range(job["tokens"]):
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    answers.append(ids[len(row) :])
json.dump({"engine": engine, "tokens": answers}, sys.stdout)
