"""How many tokens of a film review are enough? SST-2 on the first k tokens, for an LSTM from scratch and a real model.

    python bench/first_k.py --data FOLDER --output DIR [--base lstm] [--method full] [--train 3000] [--json]

An LSTM learns with all of its weights, on a language model of whole reviews; SmolLM2 learns a prefix from the prompt.
FOLDER holds ``sst2/{train,dev,test}.jsonl`` (text, label). Given again with the same DIR, it goes on where it was.
Fails where whole inputs are answered no better than by one label for all rows, or than their first tokens: such a curve
says nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from foreword import samples
from foreword.progress import Progress
from foreword.settings.schema import SCRATCH, BaseSettings, TaskOptions, TrainRequest, TrainSettings
from foreword.studies.input_length import sweep

GUIDANCE = "Decide whether the sentiment of a movie review is positive or negative.\n\n"
TEMPLATE = "Review: {{ text }}\nSentiment:"


def rows(path: Path, count: int) -> list[dict[str, str]]:
    """The first ``count`` rows; 0: all of them."""
    if not path.exists():
        raise SystemExit(f"{path} is missing: give the folder that holds sst2/ with --data")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in (lines[:count] if count else lines)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--base", default="lstm", help="also smollm2, from packages; or any folder")
    parser.add_argument("--method", help="[default: full for a base from scratch, else prefix]")
    parser.add_argument("--input-prefix", default="2,4,8,16")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--dev", type=int, default=200)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=float, help="[default: 4 for full, else 2]")
    parser.add_argument("--learning-rate", type=float, help="[default: 1e-3 for full, else 2e-2]")
    parser.add_argument("--seed", type=int, default=13, help="of what is learned; the base stays the same")
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--base-epochs", type=float, default=6.0)
    parser.add_argument("--head", action="store_true", help="classify by a trained head on the last state")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    method = args.method or ("full" if args.base in SCRATCH else "prefix")
    epochs, rate = (4.0, 1e-3) if method == "full" else (2.0, 2e-2)
    folder = args.data / "sst2"
    with Progress(sys.stderr) as progress:
        request = TrainRequest(
            data=rows(folder / "train.jsonl", args.train),
            dev=rows(folder / "dev.jsonl", args.dev),
            test=rows(folder / "test.jsonl", args.test),
            base=samples.smollm2(progress) if args.base == "smollm2" else args.base,
            output_dir=args.output,
            method=method,
            settings=TrainSettings(
                num_train_epochs=args.epochs or epochs, learning_rate=args.learning_rate or rate, seed=args.seed
            ),
            base_settings=BaseSettings(
                hidden_size=args.hidden_size, num_hidden_layers=1, num_train_epochs=args.base_epochs
            ),
            task_options=TaskOptions(
                guidance=GUIDANCE,
                template=TEMPLATE,
                inputs=("text",),
                target="label",
                head=args.head,
                pooling="last" if args.head else "mean",
            ),
            skip_bad=True,
            progress=progress,
        )
        result = sweep(request, args.input_prefix)
    print(json.dumps(result.to_json()) if args.json else result.render())
    first, whole = result.points[0].foreword["value"], result.points[-1].foreword["value"]
    return 0 if result.informative and whole > first else 1


if __name__ == "__main__":
    sys.exit(main())
