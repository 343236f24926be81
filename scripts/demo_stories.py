"""Which stories of Reuters R8 the demo uses, by a rule that it prints; every story is counted."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from demo_clock import say

from foreword import check, read
from foreword.data.quality.check_report import CheckReport
from foreword.data.quality.split import split
from foreword.data.row import Row
from foreword.data.table import Table


@dataclass(frozen=True)
class Sizes:
    """How many stories are used and how long they may be, so that two cores need a few minutes."""

    train: int = 480
    dev: int = 96
    test: int = 300
    max_words: int = 50


def choose(sources: tuple[Path, Path], folder: Path, sizes: Sizes, seed: int) -> dict[str, Path]:
    """Check the training and the test file, draw the stories, and write ``train.csv``, ``dev.csv`` and ``test.csv``.

    Raises:
        DataError: a file cannot be read, or too few stories are left.
    """
    tables = {"train": read(sources[0]), "test": read(sources[1])}
    flagged = _flagged(check(sources[0], test=sources[1]))
    say(
        f"The rule: stories of at most {sizes.max_words} words that the check does not complain about; of these,"
        f" drawn with seed {seed},\nas even over the topics as there are stories. The figures below are therefore those"
        " of short stories and\nevener topics, not of R8 as a whole."
    )
    dice, drawn = Random(seed), {}
    for name, wanted in (("train", sizes.train + sizes.dev), ("test", sizes.test)):
        table, bad = tables[name], flagged.get(name, {})
        good = [row for row in table.rows if row.id not in bad]
        short = [row for row in good if len(str(row.fields["text"]).split()) <= sizes.max_words]
        drawn[name] = table.with_rows(draw(short, wanted, dice))
        reasons = ", ".join(f"{kind} {count:,}" for kind, count in Counter(bad.values()).most_common()) or "none"
        say(
            f"{table.name}: {len(table):,} stories, of which {len(table) - len(good):,} the check complains about"
            f" ({reasons}),\n  {len(good) - len(short):,} too long, {len(short) - len(drawn[name]):,} not drawn,"
            f" {len(drawn[name]):,} used"
        )
    parts = split(drawn["train"], dev=sizes.dev, test=0, seed=seed)
    files = {}
    for name, table in {"train": parts.train, "dev": parts.dev, "test": drawn["test"]}.items():
        files[name] = folder / f"{name}.csv"
        write_csv(files[name], table)
    return files


def _flagged(report: CheckReport) -> dict[str, dict[str, str]]:
    """Split -> id of a row -> the first problem that the check has with it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for problem in report.problems:
        if problem.row_id:
            found[problem.split].setdefault(problem.row_id, problem.kind)
    return found


def even_counts(available: Mapping[str, int], wanted: int) -> dict[str, int]:
    """``wanted`` rows over the labels, as even as the available rows allow: small labels give all, the others alike."""
    counts = dict.fromkeys(available, 0)
    left = min(wanted, sum(available.values()))
    while left:
        unfilled = sorted((label for label in available if counts[label] < available[label]), key=counts.__getitem__)
        for label in unfilled[:left]:
            counts[label] += 1
        left -= min(left, len(unfilled))
    return counts


def draw(rows: Sequence[Row], wanted: int, dice: Random) -> list[Row]:
    """``wanted`` rows at random, as even over their labels as can be, in the order of the file."""
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_label[str(row.fields["label"])].append(row)
    counts = even_counts({label: len(found) for label, found in by_label.items()}, wanted)
    chosen = {row.id for label in sorted(counts) for row in dice.sample(by_label[label], counts[label])}
    return [row for row in rows if row.id in chosen]


def write_csv(path: Path, table: Table) -> None:
    """A table's texts and labels."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows((row.fields["text"], row.fields["label"]) for row in table.rows)
