"""Which start helps which task on real rows: two tasks of news topics, and film reviews as a stranger.

    python bench/transfer.py --data FOLDER [--seeds 3] [--output RUNS] [--json]

``news`` has 200 rows of four topics of Reuters R8, ``money`` 32 rows of three others, ``film`` 32 rows of SST-2
(FOLDER/sst2): the case where a start could help is a task with few rows. all-MiniLM-L6-v2 with a head answers; the head
is each task's own and drawn anew, a prefix is what goes from one task to the other. Each seed draws its own rows and is
one ``foreword transfer --together``. Gains are means over seeds, with intervals over test rows that hold together.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from choices import difference_of_lines, sst2

from foreword import samples
from foreword.core.base.load import Base, load_base
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import figure_text
from foreword.progress import Progress
from foreword.runs.series import finished
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.studies.transfer.transfer import DEFAULT, transfer

Rows = list[dict[str, Any]]
TOPICS = {"news": ("acq", "earn", "crude", "trade"), "money": ("interest", "money-fx", "ship")}
GUIDANCE = {
    "news": "Name the topic of the news story: acquisitions, earnings, oil or trade.\n\n",
    "money": "Name the topic of the news story: interest rates, currencies or shipping.\n\n",
    "film": "Decide whether the sentiment of a movie review is positive or negative.\n\n",
}
# Rows of train, dev and test.
SIZES = {"news": (200, 80, 300), "money": (32, 40, 150), "film": (32, 80, 300)}
_WORDS = 40


def all_rows(data: Path) -> dict[str, dict[str, Rows]]:
    """Task -> split -> rows; those of a task by topics are short stories."""
    films = sst2(data)
    found: dict[str, dict[str, Rows]] = {"film": {"train": films["train"], "test": films["test"]}}
    for split, path in zip(("train", "test"), samples.reuters_r8(), strict=True):
        with path.open(encoding="utf-8", newline="") as stream:
            stories = [row for row in csv.DictReader(stream) if len(row["text"].split()) >= 10]
        for task, topics in TOPICS.items():
            rows = [
                {"text": " ".join(row["text"].split()[:_WORDS]), "label": row["label"]}
                for row in stories
                if row["label"] in topics
            ]
            found.setdefault(task, {})[split] = list({row["text"]: row for row in rows}.values())
    return found


def drawn(rows: dict[str, Rows], sizes: tuple[int, int, int], seed: int) -> dict[str, Rows]:
    """Train and dev drawn evenly from all labels, anew for each seed; the test rows are the same for every seed."""
    train, dev, test = sizes
    taken = _evenly(rows["train"], train + dev, random.Random(seed))
    return {"train": taken[:train], "dev": taken[train:], "test": _evenly(rows["test"], test, random.Random(13))}


def _evenly(rows: Rows, count: int, dice: random.Random) -> Rows:
    piles: dict[str, Rows] = defaultdict(list)
    for row in dice.sample(rows, len(rows)):
        piles[row["label"]].append(row)
    taken: Rows = []
    while len(taken) < count and any(piles.values()):
        taken += [piles[label].pop() for label in sorted(piles) if piles[label]]
    taken = taken[:count]
    return dice.sample(taken, len(taken))


def requests_for(rows: dict[str, dict[str, Rows]], base: Base, seed: int, epochs: float) -> dict[str, TrainRequest]:
    """The three tasks as a user's settings files would say them."""
    requests = {}
    for task, sizes in SIZES.items():
        parts = drawn(rows[task], sizes, seed)
        requests[task] = TrainRequest(
            data=parts["train"], dev=parts["dev"], test=parts["test"], base=base, output_dir="",
            # One length for all: a prefix can only start from one with as many tokens.
            method_settings={"num_virtual_tokens": 16}, skip_bad=True,
            settings=TrainSettings(
                learning_rate=1e-2, num_train_epochs=epochs if task == "news" else 4 * epochs, seed=seed,
                early_stopping_patience=0, eval_steps=10,
            ),
            task_options=TaskOptions(
                guidance=GUIDANCE[task], template="{{ text }}", head=True, inputs=("text",), target="label",
                metric="accuracy",
            ),
        )  # fmt: skip
    return requests


def measured(folders: Sequence[Path]) -> dict[str, Any]:
    """Task -> its default figure and each start's gain, over all seeds."""
    starts: dict[str, dict[str, list[list[Prediction]]]] = {}
    for task in SIZES:
        names = sorted(path.parent.name for path in (folders[0] / task).glob("*/report.json"))
        starts[task] = {name: [finished(folder / task / name).answers for folder in folders] for name in names}
    cells = sum(len(found) - 1 for found in starts.values())
    return {
        task: {
            name: difference_of_lines("accuracy", runs, found[DEFAULT], 1 - 0.05 / cells)
            for name, runs in found.items()
        }
        for task, found in starts.items()
    }


def render(result: dict[str, Any]) -> str:
    """The matrix for people."""
    lines = []
    for task, found in result["tasks"].items():
        lines.append(f"{task}: {'/'.join(map(str, SIZES[task]))} rows, seeds {result['seeds']}")
        for name in sorted(found, key=lambda one: one != DEFAULT):
            one = found[name]
            gain, low, high = (figure_text("accuracy", one[key], True) for key in ("gain", "low", "high"))
            more = "" if name == DEFAULT else f"  {gain} [{low}, {high}]"
            lines.append(f"  {name:<12} {figure_text('accuracy', one['value'])}{more}")
    return "\n".join(lines)


def main() -> None:
    """Run every seed and print the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=4, help="of news; the small tasks take four times as many")
    parser.add_argument("--output", type=Path, default=Path("bench/results/transfer"))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    seeds = list(range(1, asked.seeds + 1))
    rows = all_rows(asked.data)
    with Progress(sys.stderr) as progress:
        base = load_base(samples.minilm(progress), progress=progress)
        for seed in seeds:
            transfer(
                requests_for(rows, base, seed, asked.epochs), asked.output / str(seed), joint=True, progress=progress
            )
    result = {"seeds": seeds, "tasks": measured([asked.output / str(seed) for seed in seeds])}
    print(json.dumps(result, indent=1) if asked.json else render(result))


if __name__ == "__main__":
    main()
