"""How the cost of a training step grows: twice the rows, the tokens, the virtual tokens, the layers, the forewords.

    python bench/growth.py [--base MODEL] [--rounds 5] [--json]

Steps of the starting point and of each doubling are made in turns in one process; a ratio is the median over rounds of
a doubling's time to the starting point's of the same round. 2 is linear. Below 2, part of the cost does not grow; above
it, something grows faster (attention over a row's own tokens, which is quadratic, shows in ``tokens``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from foreword import samples
from foreword.core.base import load_base
from foreword.data.batch import Example
from foreword.methods.base import Start, make, make_writer
from foreword.settings import TrainSettings
from foreword.training.loop import Score, Trial, advance
from foreword.training.objective import Choose

ROWS, TOKENS, VIRTUAL = 8, 64, 20
DOUBLINGS = ("rows", "tokens", "virtual tokens", "layers", "forewords")


def trials_of(base: Any, what: str) -> list[Trial]:
    """The trials whose one round is measured, with ``what`` doubled."""
    twice = {name: 1 + (name == what) for name in DOUBLINGS}
    count, length = ROWS * twice["rows"], TOKENS * twice["tokens"]
    depth, words = base.model.config.num_hidden_layers, base.model.config.vocab_size
    rows = [Example(str(i), tuple(3 + (7 * i + 13 * j) % (words - 3) for j in range(length)), (), i % 2, "ab"[i % 2])
            for i in range(count)]  # fmt: skip
    settings = TrainSettings(per_device_train_batch_size=count, warmup_ratio=0.0, lr_scheduler_type="constant",
                             num_train_epochs=1000, eval_steps=10**6, early_stopping_patience=0)  # fmt: skip
    # Half of the layers at the starting point: gradients stop at the first layer that trains.
    layers = ":" if what == "layers" else f"{depth - depth // 2}:"
    method = make("prefix", {"num_virtual_tokens": VIRTUAL * twice["virtual tokens"], "layers": layers,
                             "init": "random"})  # fmt: skip
    start, objective = Start(base.model), Choose(((40,), (50,)), 0)
    return [
        Trial(base.model, make_writer(method, start), objective, rows, settings, 5e-3, lambda _: Score(0.0, 0.0))
        for _ in range(twice["forewords"])
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="a model's folder or hub id; default: SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = load_base(options.base or str(samples.smollm2()))
    groups = {what: trials_of(base, what) for what in ("start", *DOUBLINGS)}
    seconds: dict[str, list[float]] = {what: [] for what in groups}
    for number in range(1, options.rounds + 2):
        for what, trials in groups.items():
            began = time.perf_counter()
            list(advance(trials, number))
            seconds[what].append(time.perf_counter() - began)
    rounds = range(1, options.rounds + 1)  # the first warms up
    ratios = {
        f"{what} x2": round(statistics.median(seconds[what][i] / seconds["start"][i] for i in rounds), 2)
        for what in DOUBLINGS
    }
    found = {"seconds_at_start": round(statistics.median(seconds["start"][1:]), 3), **ratios}
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {value:g}")


if __name__ == "__main__":
    main()
