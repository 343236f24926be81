"""Work that no step changes, done once: layers below those that train, and words in front of soft slots.

    python bench/cached.py [--base MODEL] [--rounds 5] [--quality FOLDER] [--json]

``layers``: a step of a prefix that trains in the last half of the layers, with the first half kept, beside a step of
one that trains in all layers. ``slots``: a step of five soft slots behind inputs of 200 tokens, with the inputs' keys
and values kept, beside the same step over whole rows. Steps are made in turns, one of each kind a round; ratios are
medians over rounds. What filling the cache takes is shown beside them.

``--quality FOLDER`` trains prefixes from layer 0, a quarter, a half and three quarters on, on FOLDER/train.jsonl and
scores FOLDER/dev.jsonl (rows with text and label; SST-2, for example): accuracy against the first trained layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from train_speed import rows_of

from foreword import samples, train
from foreword.core.base.load import load_base
from foreword.core.passes.tensor_cache import TensorCache
from foreword.methods.base import Method, Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.training.loop import Score, Trial
from foreword.training.reuse import prepare_reuse

BATCH, ROOM = 16, 4 * 2**30


def trial_of(base: Any, method: Method, start: Start, rows: Any, objective: Any, keep: bool) -> tuple[Trial, float]:
    """A trial, and the seconds that filling its cache took."""
    settings = TrainSettings(per_device_train_batch_size=BATCH, warmup_ratio=0.0, lr_scheduler_type="constant",
                             num_train_epochs=1000, eval_steps=10**6, early_stopping_patience=0)  # fmt: skip
    trial = Trial(base.model, make_writer(method, start), objective, rows, settings, 5e-3, lambda _: Score(0.0, 0.0))
    began = time.perf_counter()
    if keep:
        found = prepare_reuse(base.model, trial.writer.write(), objective, rows, TensorCache(ROOM))
        assert found.frozen or found.past, found.why_not
        found.give(trial)
    return trial, time.perf_counter() - began


def in_turns(plain: Trial, kept: Trial, rounds: int) -> dict[str, float]:
    """Steps of both, one of each a round, the first not counted."""
    seconds: list[tuple[float, float]] = []
    for number in range(1, rounds + 2):
        began = time.perf_counter()
        list(plain.run(number))
        middle = time.perf_counter()
        list(kept.run(number))
        seconds.append((middle - began, time.perf_counter() - middle))
    seconds = seconds[1:]
    return {
        "plain_examples_per_second": round(BATCH / statistics.median(p for p, _ in seconds), 2),
        "kept_examples_per_second": round(BATCH / statistics.median(k for _, k in seconds), 2),
        "kept_vs_plain": round(statistics.median(p / k for p, k in seconds), 2),
    }


def layers(base: Any, rounds: int) -> dict[str, float]:
    """The last half of the layers, the first half kept, beside all layers."""
    rows, objective = rows_of(base.tokenizer, 4 * BATCH, 1, 50)
    start, half = Start(base.model, "g", tuple(rows[0].input_ids[:20])), base.model.config.num_hidden_layers // 2
    whole, _ = trial_of(base, make("prefix"), start, rows, objective, False)
    last, filling = trial_of(base, make("prefix", {"layers": f"{half}:"}), start, rows, objective, True)
    return {"first_trained_layer": half, **in_turns(whole, last, rounds), "seconds_to_fill": round(filling, 1)}


def slots(base: Any, rounds: int, tokens: int = 200) -> dict[str, float]:
    """Five soft slots behind ``tokens`` tokens."""
    rows, objective = rows_of(base.tokenizer, 2 * BATCH, 300, 300)
    rows = [replace(row, input_ids=(*row.input_ids[: tokens - 5], *range(-1, -6, -1))) for row in rows]
    start = Start(base.model, slots=(None,) * 5)
    whole, _ = trial_of(base, make("slots"), start, rows, objective, False)
    behind, filling = trial_of(base, make("slots"), start, rows, objective, True)
    return {"tokens": tokens, **in_turns(whole, behind, rounds), "seconds_to_fill": round(filling, 1)}


def quality(base: Any, folder: Path, rows: int) -> list[dict[str, float]]:
    """Accuracy on dev against the first layer that trains."""
    missing = [name for name in ("train.jsonl", "dev.jsonl") if not (folder / name).exists()]
    if missing:
        raise SystemExit(f"{folder} has no {' and no '.join(missing)}")
    read = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")][:rows]
            for name in ("train", "dev")}  # fmt: skip
    depth, found = base.model.config.num_hidden_layers, []
    for first in (0, depth // 4, depth // 2, 3 * depth // 4):
        with tempfile.TemporaryDirectory() as place:
            began = time.perf_counter()
            made = train(read["train"], base, place + "/run", dev=read["dev"], test_fraction=0, layers=f"{first}:",
                         learning_rate=2e-2, num_train_epochs=2)  # fmt: skip
            found.append({"first_trained_layer": first, "dev_accuracy": made.dev or 0.0, "dev_rows": len(read["dev"]),
                          "seconds": round(time.perf_counter() - began, 1)})  # fmt: skip
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="a model's folder or hub id; default: SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=Path, default=None, help="a folder with train.jsonl and dev.jsonl")
    parser.add_argument("--rows", type=int, default=256, help="rows of each file that --quality uses")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = load_base(options.base or str(samples.smollm2()))
    found: dict[str, Any] = {"layers": layers(base, options.rounds), "slots": slots(base, options.rounds)}
    if options.quality:
        found["quality"] = quality(base, options.quality, options.rows)
    if options.json:
        print(json.dumps(found))
        return
    for part in ("layers", "slots"):
        print(part)
        for name, value in found[part].items():
            print(f"  {name:28} {value:g}")
    for line in found.get("quality", []):
        print("  ".join(f"{name} {value:g}" for name, value in line.items()))


if __name__ == "__main__":
    main()
