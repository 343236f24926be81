"""The floor under a training step on this machine, and how near each method comes to it.

    python bench/roofline.py [--base MODEL] [--rows 96] [--rounds 5] [--json]

Measures the rate of matrix products and of memory, counts the arithmetic that a step over the rows needs (forward, and
backward through activations; full fine-tuning also has the gradients of the weights), and prints for each method the
share of that floor, on the batches of ``bench/train_speed.py``: the same in turns, medians.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import train_speed

from foreword import samples
from foreword.core.base.load import load_base
from foreword.core.passes.flops import matrix_rate, memory_rate, operations, weights


def measure(base: str, count: int, rounds: int) -> dict[str, Any]:
    """Rates, the arithmetic of a step, and each method's time and share of the floor."""
    loaded = load_base(base, device="cpu")
    examples, objective = train_speed.rows_of(loaded.tokenizer, count, 5, 50)
    batches = train_speed.drawn(examples)
    steps = {m: train_speed.make_step(m, copy.deepcopy(loaded.model), objective) for m in train_speed.METHODS}
    times: dict[str, list[float]] = {m: [] for m in steps}
    rates = [matrix_rate()]
    for number in range(rounds + 1):
        for batch in batches if number else batches[:1]:
            for method, step in steps.items():
                began = time.perf_counter()
                step(batch)
                if number:
                    times[method].append(time.perf_counter() - began)
        rates.append(matrix_rate())
    tokens = [sum(len(row.input_ids) for row in batch) for batch in batches] * rounds
    methods = {}
    for method, taken in times.items():
        floors = [operations(loaded.model, n, trained=method == "full") / max(rates) for n in tokens]
        methods[method] = {
            "seconds": statistics.median(taken),
            "floor_seconds": statistics.median(floors),
            "share_of_floor": statistics.median(f / t for f, t in zip(floors, taken, strict=True)),
        }
    return {
        "matrix_gflops": max(rates) / 1e9,
        "memory_gb_per_second": memory_rate() / 1e9,
        "weights": weights(loaded.model),
        "gflop_per_token": operations(loaded.model, 1) / 1e9,
        "methods": methods,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.base or str(samples.smollm2()), arguments.rows, arguments.rounds)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for key, value in result.items():
        if key != "methods":
            print(f"{key:<24}{value:14,.2f}")
    print(f"\n{'method':<20}{'seconds':>10}{'floor':>10}{'share':>8}")
    for method, one in result["methods"].items():
        print(f"{method:<20}{one['seconds']:>10.3f}{one['floor_seconds']:>10.3f}{one['share_of_floor']:>8.2f}")


if __name__ == "__main__":
    main()
