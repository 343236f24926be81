"""Eight learning rates at once beside eight runs one after another.

    python bench/many.py [--base MODEL] [--trials 8] [--batch 4] [--rounds 5] [--json]

The same steps are made both ways in one process, in turns: a round of the group (one step of every trial, in shared
passes), then the same step of each trial alone. The ratio is the median over rounds of the time of the eight steps
alone to the time of the group's round. The values of both are compared at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from train_speed import rows_of

from foreword import samples
from foreword.core.base.load import load_base
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.training.loop import Score, Trial, advance


def trials_of(base: Any, rows: Any, objective: Any, count: int, batch: int) -> list[Trial]:
    """Trials that differ in their rates, started alike."""
    settings = TrainSettings(per_device_train_batch_size=batch, warmup_ratio=0.0, lr_scheduler_type="constant",
                             num_train_epochs=1000, eval_steps=10**6, early_stopping_patience=0)  # fmt: skip
    start = Start(base.model, "g", tuple(rows[0].input_ids[:20]))
    return [
        Trial(base.model, make_writer(make("prefix"), start), objective, rows, settings, 5e-3 * 1.3**i,
              lambda value: Score(0.0, 0.0))
        for i in range(count)
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="a model's folder or hub id; default: SmolLM2-135M-Instruct")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4, help="rows of a trial's step")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = load_base(options.base or str(samples.smollm2()))
    rows, objective = rows_of(base.tokenizer, options.rows, 1, 50)
    together, alone = (trials_of(base, rows, objective, options.trials, options.batch) for _ in range(2))
    ratios, seconds = [], []
    for number in range(1, options.rounds + 2):
        began = time.perf_counter()
        list(advance(together, number))
        middle = time.perf_counter()
        for trial in alone:
            list(trial.run(number))
        ended = time.perf_counter()
        if number > 1:  # the first round warms up
            ratios.append((ended - middle) / (middle - began))
            seconds.append((middle - began, ended - middle))
    pairs = zip(together, alone, strict=True)
    apart = max(
        float((one.current().tensors()[name] - tensor).abs().max())
        for one, other in pairs
        for name, tensor in other.current().tensors().items()
    )
    count = options.trials * options.batch
    found = {
        "trials": options.trials,
        "batch": options.batch,
        "rounds": len(ratios),
        "together_examples_per_second": round(count / statistics.median(t for t, _ in seconds), 2),
        "alone_examples_per_second": round(count / statistics.median(a for _, a in seconds), 2),
        "together_vs_alone": round(statistics.median(ratios), 3),
        "largest_difference_of_values": apart,
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:32} {value:g}")


if __name__ == "__main__":
    main()
