"""The official scores of a system's outputs on the E2E NLG test set, computed offline.

    python bench/e2e_scores.py --data FOLDER [--system FILE] [--json]

FOLDER holds ``e2e_nlg/test.jsonl`` (mr, refs). FILE has tab-separated ``MR`` and ``output``; without it the outputs of
the challenge's baseline in ``e2e_nlg/tgen_baseline.tsv`` are scored, whose published scores stand beside ours.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nlg import e2e_scores

# Dušek, Novikova & Rieser 2020, table 3; also in the README of e2e-metrics.
PUBLISHED = {"bleu": 0.6593, "meteor": 0.4483, "rouge_l": 0.6850, "cider": 2.2338}


def system_outputs(path: Path) -> dict[str, str]:
    """MR -> output, both without the quotes that spreadsheets put around them."""
    pairs = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    found = {pair[0].strip().strip('"'): pair[1].strip().strip('"') for pair in pairs if len(pair) == 2}
    return {mr: output for mr, output in found.items() if mr.lower() != "mr"}


def main() -> None:
    """Print the scores to four digits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--system", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.data / "e2e_nlg"
    system = arguments.system or folder / "tgen_baseline.tsv"
    for path in (folder / "test.jsonl", system):
        if not path.exists():
            sys.exit(f"missing: {path}")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").split("\n") if line]
    outputs = system_outputs(system)
    absent = [row["mr"] for row in rows if row["mr"] not in outputs]
    if absent:
        sys.exit(f"{system} has no output for {len(absent)} of {len(rows)} MRs, such as {absent[0]!r}")
    scores = e2e_scores([outputs[row["mr"]] for row in rows], [row["refs"] for row in rows])
    published = {} if arguments.system else PUBLISHED
    if arguments.json:
        print(json.dumps({"rows": len(rows), **scores, "published": published}, indent=1))
        return
    for name in (*PUBLISHED, "nist"):
        shown = f"{scores[name]:.4f}" if scores[name] is not None else f"skipped: {scores['skipped'][name]}"
        print(f"{name:<8} {shown}" + (f"  (published {published[name]:.4f})" if name in published else ""))


if __name__ == "__main__":
    main()
