"""Is a foreword that was learned on a base in bfloat16 as good as one from the same base in float32?

    python bench/precision.py --data FOLDER [--tasks sst2,r8] [--seeds 3] [--train 256] [--test 400] [--json]

FOLDER holds ``sst2/{train,test}.jsonl`` (see ``bench/quality.py``); R8 is fetched. The same rows, seeds and settings
are trained in both precisions, with the default recipe, each run in a folder of its own below ``--output``: the same
command goes on with what was interrupted. The difference on test is paired, with rows and seeds as chance. It also says
how many tokens a second both trained; that is wall time, so only a quiet machine's counts.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quality import rows_of

from foreword import samples
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.statistics.repeated_seeds import paired_difference_of_runs
from foreword.runs.series import Member, member
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings

OPTIONS = {
    "sst2": TaskOptions(
        template="Review: {{ text }}\nSentiment:", inputs=("text",), target="label", test_fraction=0.0,
        guidance="Decide whether the sentiment of a movie review is positive or negative.\n\n",
    ),
    "r8": TaskOptions(
        template="Story: {{ text }}\nTopic:", inputs=("text",), target="label", test_fraction=0.0,
        guidance="Name the topic of each story: acquisitions, currency, earnings, grain, interest, oil, shipping or"
        " trade.\n\n",
        labels={"acq": "acquisitions", "crude": "oil", "earn": "earnings", "grain": "grain", "interest": "interest",
                "money-fx": "currency", "ship": "shipping", "trade": "trade"},
    ),
}  # fmt: skip


def rows(task: str, data: Path, split: str, count: int) -> list[dict[str, Any]]:
    """A seeded sample of a task's split; of R8 the stories of at most 50 words."""
    if task == "sst2":
        return rows_of(data / "sst2", split, count)
    file = samples.reuters_r8()[0 if split == "train" else 1]
    with file.open(encoding="utf-8", newline="") as stream:
        short = [row for row in csv.DictReader(stream) if len(row["text"].split()) <= 50]
    random.Random(13).shuffle(short)
    return short[:count]


def files(task: str, given: argparse.Namespace) -> dict[str, str]:
    """The rows of a task as files, written once."""
    folder = Path(given.output) / task
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for split, count in (("train", given.train), ("test", given.test)):
        path = folder / f"{split}.jsonl"
        if not path.exists():
            lines = [json.dumps(row, ensure_ascii=False) for row in rows(task, given.data, split, count)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths[split] = str(path)
    return paths


def runs(task: str, dtype: str, base: str, given: argparse.Namespace) -> Iterator[Member]:
    """The run of every seed, made where it is not there yet."""
    paths = files(task, given)
    for seed in range(1, given.seeds + 1):
        settings = TrainSettings(dtype=dtype, seed=seed, num_train_epochs=given.epochs)  # type: ignore[arg-type]
        request = TrainRequest(
            paths["train"], base, str(Path(given.output) / task / f"{dtype}-{seed}"), test=paths["test"],
            task_options=OPTIONS[task], settings=settings, skip_bad=True,
        )  # fmt: skip
        yield member(request, f"{task} {dtype} {seed}", lambda name, done, total, **fields: None)


def compared(task: str, base: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both precisions on one task."""
    found = {dtype: list(runs(task, dtype, base, given)) for dtype in ("float32", "bfloat16")}
    outputs = {dtype: [[answer.output for answer in one.answers] for one in some] for dtype, some in found.items()}
    references = [answer.accepted for answer in found["float32"][0].answers]
    difference = paired_difference_of_runs(
        get_metric("accuracy"), outputs["bfloat16"], outputs["float32"], references
    ).to_json()
    speed = {d: [one.report["training"]["tokens_per_second"] for one in some] for d, some in found.items()}
    scores = {d: [one.figure()["value"] for one in some] for d, some in found.items()}
    return {"rows": len(references), "accuracy": scores, "difference": difference, "tokens_per_second": speed}


def main() -> None:
    """Run what is not there yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", default=None)
    parser.add_argument("--tasks", default="sst2,r8")
    parser.add_argument("--output", default="bench/results/precision")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=256)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    base = given.base or str(samples.smollm2())
    for task in given.tasks.split(","):
        result = compared(task, base, given)
        if given.json:
            print(json.dumps({"task": task, **result}), flush=True)
            continue
        interval = result["difference"]["interval"]
        print(f"{task}: accuracy on {result['rows']} rows")
        for dtype, scores in result["accuracy"].items():
            speeds = ", ".join(f"{speed:.0f}" for speed in result["tokens_per_second"][dtype])
            print(f"  {dtype:<10}{', '.join(f'{s:.4f}' for s in scores)}   ({speeds} tokens/s)")
        print(
            f"  bfloat16 - float32 {result['difference']['estimate']:+.4f}"
            f"  [{interval['low']:+.4f}, {interval['high']:+.4f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
