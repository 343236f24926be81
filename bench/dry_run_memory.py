"""The peak memory that `foreword train --dry-run` foresees, beside that of the run.

    python bench/dry_run_memory.py [--base MODEL] [--json]

For several batch sizes and row lengths (Reuters R8, cut or filled to that many words), the dry run and a run of a few
steps are made, each in a process of its own, and the peak resident memory of the run's process is compared with the
estimate. The aim: within 15%.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from foreword import samples

SHAPES = ((4, 30), (16, 30), (4, 200), (16, 200))


def data(folder: Path, words: int, rows: int = 64) -> Path:
    """``rows`` rows of R8 with exactly ``words`` words."""
    path = folder / f"r8-{words}.csv"
    with samples.reuters_r8()[0].open(encoding="utf-8", newline="") as source, path.open("w", newline="") as target:
        writer = csv.DictWriter(target, ["text", "label"])
        writer.writeheader()
        long = (row for row in csv.DictReader(source) if len(row["text"].split()) >= words)
        for _, row in zip(range(rows), long, strict=False):
            writer.writerow({"text": " ".join(row["text"].split()[:words]), "label": row["label"]})
    return path


def run(*arguments: str) -> tuple[str, int]:
    """What a foreword command prints, and the peak resident memory of its process in MiB."""
    process = subprocess.Popen([sys.executable, "-m", "foreword", *arguments, "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"foreword {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return printed, usage.ru_maxrss // (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="a model's folder or hub id; default: SmolLM2-135M-Instruct")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base, found = options.base or str(samples.smollm2()), []
    with tempfile.TemporaryDirectory() as place:
        for batch, words in SHAPES:
            asked = ["train", str(data(Path(place), words)), "--base", base, "--batch", str(batch), "--set",
                     "sweep=[0.005,0.02]", "--set", "max_steps=4", "--set", "test_fraction=0"]  # fmt: skip
            told, _ = run(*asked, "--output-dir", f"{place}/dry", "--dry-run")
            _, real = run(*asked, "--output-dir", f"{place}/run-{batch}-{words}")
            estimate = json.loads(told)["peak_memory_mib"]
            found.append({"batch": batch, "words": words, "estimate_mib": estimate, "run_mib": real,
                          "estimate_vs_run": round(estimate / real, 3)})  # fmt: skip
            if not options.json:
                print("  ".join(f"{name} {value:g}" for name, value in found[-1].items()), flush=True)
    if options.json:
        print(json.dumps({"rows": found, "worst": max(abs(one["estimate_vs_run"] - 1) for one in found)}))


if __name__ == "__main__":
    main()
