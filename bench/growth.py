"""How the cost of a training step grows: twice the rows, the tokens, the virtual tokens, the layers, the forewords.

    python bench/growth.py [--base MODEL] [--rounds 5] [--json]

Steps of the starting point and of each doubling are made in turns in one process; a ratio is the median over rounds of
a doubling's time to the starting point's of the same round. 2 is linear. Below 2, part of the cost does not grow; above
it, something grows faster (attention over a row's own tokens, which is quadratic, shows in ``tokens``).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from typing import Any

from foreword import samples
from foreword.core.base.load import load_base
from foreword.data.tokens.examples import Example
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.training.loop import Score, Trial, advance
from foreword.training.objective import Choose

ROWS, TOKENS, VIRTUAL = 8, 64, 20
DOUBLINGS = ("rows", "tokens", "virtual tokens", "forewords")


def half_as_deep(model: Any) -> Any:
    """A random model of the same shapes with half of the layers; the cost does not depend on the weights."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers //= 2
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    return type(model)(config).eval().requires_grad_(False)


def trials_of(model: Any, what: str) -> list[Trial]:
    """The trials whose one round is measured, with ``what`` doubled."""
    twice = {name: 1 + (name == what) for name in DOUBLINGS}
    count, length = ROWS * twice["rows"], TOKENS * twice["tokens"]
    words = model.config.vocab_size
    rows = [Example(str(i), tuple(3 + (7 * i + 13 * j) % (words - 3) for j in range(length)), (), i % 2, "ab"[i % 2])
            for i in range(count)]  # fmt: skip
    settings = TrainSettings(per_device_train_batch_size=count, warmup_ratio=0.0, lr_scheduler_type="constant",
                             num_train_epochs=1000, eval_steps=10**6, early_stopping_patience=0)  # fmt: skip
    method = make("prefix", {"num_virtual_tokens": VIRTUAL * twice["virtual tokens"], "init": "random"})
    start, objective = Start(model), Choose(((40,), (50,)), 0)
    return [
        Trial(model, make_writer(method, start), objective, rows, settings, 5e-3, lambda _: Score(0.0, 0.0))
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
    groups = {what: trials_of(base.model, what) for what in ("start", *DOUBLINGS)}
    groups["half the layers"] = trials_of(half_as_deep(base.model), "start")
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
    deeper = (seconds["start"][i] / seconds["half the layers"][i] for i in rounds)
    ratios["layers x2"] = round(statistics.median(deeper), 2)
    found = {"seconds_at_start": round(statistics.median(seconds["start"][1:]), 3), **ratios}
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {value:g}")


if __name__ == "__main__":
    main()
