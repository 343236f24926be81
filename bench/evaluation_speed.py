"""How many rows a second are classified, beside transformers with one pass a label.

    python bench/evaluation_speed.py [--base MODEL] [--rows 64] [--rounds 3] [--json]

Reuters R8, rows of at most 50 words, eight labels. Ours: the scores of all labels in one pass over the rows, a prefix
of 20 virtual tokens in front, in the precision that ``dtype: auto`` chooses. Theirs: for each batch of 32 rows and each
label one padded pass of the same base in bfloat16 with PEFT's prefix of 20 in front, the log-probability of the label's
tokens read from the logits at its places (``logits_to_keep``), as the loop in many examples does it. Both in turns,
batch by batch; the ratio is the median over batches. ``--float32`` runs both in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from peft import PrefixTuningConfig, get_peft_model
from torch import Tensor
from train_speed import rows_of

from foreword import samples
from foreword.core.base.load import load_base
from foreword.core.inject.injection import injected
from foreword.data.tokens.examples import Example
from foreword.methods.base import Start, make, make_writer
from foreword.training.objective import Choose

BATCH, P = 32, 20


def label_by_label(model: Any, rows: list[Example], objective: Choose) -> Tensor:
    """log p(label | row) ``[B, C]``: a pass a label, rows padded on the left, so that labels stand at the end."""
    scores = []
    for choice in objective.choices:
        whole = [(*row.input_ids, *choice) for row in rows]
        width = max(map(len, whole))
        ids = torch.tensor([[objective.fill] * (width - len(row)) + list(row) for row in whole])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in whole])
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=len(choice) + 1).logits[
            :, -len(choice) - 1 : -1
        ]
        logp = logits.float().log_softmax(-1)
        scores.append(logp.gather(2, ids[:, -len(choice) :, None])[..., 0].sum(1))
    return torch.stack(scores, 1)


def measure(base: str, count: int, rounds: int, dtypes: tuple[str, str]) -> dict[str, Any]:
    """Rows a second of both, and the median ratio of the same batches."""
    ours, theirs = (load_base(base, device="cpu", dtype=dtype) for dtype in dtypes)
    rows, objective = rows_of(ours.tokenizer, count, 5, 50)
    with torch.no_grad():
        value = make_writer(make("prefix", {"num_virtual_tokens": P, "init": "random"}), Start(ours.model)).write()
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P)
    peft = get_peft_model(theirs.model, config).eval()
    times: list[tuple[float, float]] = []
    with torch.no_grad():
        for number in range(rounds + 1):
            for start in range(0, len(rows) if number else BATCH, BATCH):
                batch = rows[start : start + BATCH]
                began = time.perf_counter()
                with injected(ours.model, [value]):
                    objective.outputs(ours.model, batch)
                middle = time.perf_counter()
                label_by_label(peft, batch, objective)
                if number:
                    times.append((middle - began, time.perf_counter() - middle))
    return {
        "precision": [str(ours.dtype).removeprefix("torch."), dtypes[1]],
        "rows_per_second": [len(rows) * rounds / sum(pair[i] for pair in times) for i in (0, 1)],
        "ratio": statistics.median(b / a for a, b in times),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--float32", action="store_true", help="both in float32")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    dtypes = ("float32", "float32") if given.float32 else ("auto", "bfloat16")
    result = measure(given.base or str(samples.smollm2()), given.rows, given.rounds, dtypes)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    for name, speed, dtype in zip(
        ("foreword", "pass a label"), result["rows_per_second"], result["precision"], strict=True
    ):
        print(f"{name:<14}{speed:8.2f} rows/s in {dtype}")
    print(f"{'ratio':<14}{result['ratio']:8.2f}")


if __name__ == "__main__":
    main()
