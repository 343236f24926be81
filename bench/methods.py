"""Does every method learn something? Each one on a small real set, against its own untrained start, as one table.

    python bench/methods.py [--base MODEL] [--encoder MODEL] [--output RUNS] [--json] [--write docs/methods.md]

The data are short news stories of Reuters R8, drawn as evenly over five topics as there are stories. On a decoder
(SmolLM2-135M-Instruct) the model answers in words, on an encoder (all-MiniLM-L6-v2) a head answers. Each method trains
once, at the first of its rates; its start is what its writer writes before the first step, on the same test rows. Given
again with the same RUNS, it goes on where it was. Fails (exit 1) when the paired 95% interval of a method's gain does
not lie above zero. What is not measured (families, tasks, when to choose, limits) is asked of the methods themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword import samples
from foreword.core.base.architecture import Kind
from foreword.core.base.load import Base, Outline, load_base
from foreword.core.inject.sites import find_sites
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.errors import SettingsError, TemplateError
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.evaluation.report.summary import compare, evaluate, figure_text
from foreword.methods.base import Method, make, make_writer, registry
from foreword.progress import Progress
from foreword.runs.prepare.compatibility import refuse_mismatch
from foreword.runs.prepare.prepare import prepare
from foreword.runs.series import member
from foreword.settings.schema import ProgressCall, TaskOptions, TrainRequest, TrainSettings
from foreword.testing.method_contracts import FAMILIES, byte_tokenizer, reaches, tiny

TOPICS = {"acq": "acquisitions", "crude": "oil", "earn": "earnings", "interest": "interest", "money-fx": "currency"}
SLOTS = '{{ soft("The topic of this news story is") }}'
BEGIN, END = "<!-- made by bench/methods.py -->", "<!-- end of what bench/methods.py made -->"
KINDS: tuple[Kind, ...] = ("decoder", "encoder", "encoder-decoder")
Rows = dict[str, list[dict[str, str]]]


@dataclass(frozen=True)
class Setup:
    """How every method is trained on one base.

    Args:
        title: of the base, in the table.
        template: of a row; a method that fills slots has ``SLOTS`` in it, in the place of ``%s``.
        epochs: passes over the training rows.
        head: whether a trained head answers.
        batch: rows a step.
    """

    title: str
    template: str
    epochs: float
    head: bool = False
    batch: int = 8
    seed: int = 1

    def request(self, method: Method, base: Base, rows: Rows, folder: Path) -> TrainRequest:
        """The run as any user would ask for it, at the first of the method's rates."""
        return TrainRequest(
            data=rows["train"], dev=rows["dev"], test=rows["test"], base=base, output_dir=folder, skip_bad=True,
            method=method.name,
            settings=TrainSettings(
                learning_rate=next(iter(method.learning_rates), None), num_train_epochs=self.epochs, seed=self.seed,
                per_device_train_batch_size=self.batch, early_stopping_patience=0,
            ),
            task_options=TaskOptions(
                template=self.template % (SLOTS if method.fills_slots else ""), head=self.head, metric="accuracy",
                guidance="Name the topic of each news story: acquisitions, oil, earnings, interest or currency.\n\n",
                labels=None if self.head else {k: v for k, v in TOPICS.items() if k in _labels(rows)},
            ),
        )  # fmt: skip


DECODER = Setup("SmolLM2-135M-Instruct", "News: {{ text }}\n%sTopic:", 2)
ENCODER = Setup("all-MiniLM-L6-v2", "%s{{ text }}", 6, head=True)


def _labels(rows: Rows) -> set[str]:
    return {row["label"] for row in rows["train"]}


def stories(progress: ProgressCall | None = None, words: int = 30) -> Rows:
    """96 training, 32 dev and 80 test stories of at most ``words`` words: the same at every call."""
    found = {}
    for name, path in zip(("train", "test"), samples.reuters_r8(progress), strict=True):
        with path.open(encoding="utf-8", newline="") as stream:
            short = [row for row in csv.DictReader(stream) if len(row["text"].split()) <= words]
        found[name] = draw([row for row in short if row["label"] in TOPICS], {"train": 128, "test": 80}[name])
    return {"train": found["train"][32:], "dev": found["train"][:32], "test": found["test"]}


def draw(rows: list[dict[str, str]], wanted: int) -> list[dict[str, str]]:
    """``wanted`` rows, from each label in turns as long as it has any; no text twice."""
    dice = random.Random(13)
    piles: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in {row["text"]: row for row in rows}.values():
        piles[row["label"]].append(row)
    for label in sorted(piles):
        dice.shuffle(piles[label])
    drawn: list[dict[str, str]] = []
    while len(drawn) < wanted and any(piles.values()):
        drawn += [piles[label].pop() for label in sorted(piles) if piles[label]]
    dice.shuffle(drawn)
    return drawn[:wanted]


def measure(method: Method, setup: Setup, base: Base, rows: Rows, output: Path, report: ProgressCall) -> dict[str, Any]:
    """A method on one base: its start and what it learned on the same test rows, and what that takes."""
    folder, began = output / method.name, time.monotonic()
    request = setup.request(method, base, rows, folder)
    run = member(request, f"{setup.title}, {method.name}", report)
    found = {
        "method": method.name, "base": setup.title, "rate": request.settings.learning_rate,
        "rows": {name: split["rows"] for name, split in run.report["data"].items()},
        "values": run.report["file"]["values"], "bytes": run.report["file"]["bytes"], "learned": run.figure(),
        "start": None, "difference": None, "beats": None,
    }  # fmt: skip
    if method.learning_rates:
        answers = start_of(request, folder / "predictions" / "start.jsonl")
        difference = compare(run.answers, answers, "accuracy")
        found["start"] = evaluate(answers, "classification", ("accuracy",))["metrics"]["accuracy"]
        found["difference"] = difference.to_json()
        found["beats"] = difference.decided and difference.estimate > 0
    return {**found, "seconds": round(time.monotonic() - began)}


def start_of(request: TrainRequest, kept: Path) -> list[Prediction]:
    """What the method's writer answers to the test rows before the first step."""
    if not kept.exists():
        prepared = prepare(request)
        value = make_writer(prepared.method, prepared.start).write().detach()
        write_jsonl(kept, prepared.asker.answer(value, prepared.examples["test"]))
    return read_jsonl(kept)


def measured(
    bases: Sequence[tuple[Setup, Base]], rows: Rows, output: Path, report: ProgressCall
) -> list[dict[str, Any]]:
    """Every method of the registry on every base that it takes; a text cannot have a head."""
    results = []
    for setup, base in bases:
        for name in registry():
            method = make(name)
            if base.kind in method.kinds and (method.learning_rates or not setup.head):
                results.append(measure(method, setup, base, rows, output / base.kind, report))
    return results


# --- what nobody has to measure


def families_of(name: str, families: Sequence[str] = tuple(FAMILIES)) -> str:
    """The kinds of base that a method reaches, and the families of the contract tests that it does not."""
    # A text is nothing but tokens, which every base reads; there is nothing to reach.
    missed = [one for one in families if registry()[name].learning_rates and not reaches(name, one)]
    kinds = dict.fromkeys(find_sites(tiny(one)).kind for one in families if one not in missed)
    text = "all kinds" if len(kinds) == len(KINDS) else ", ".join(f"{kind}s" for kind in KINDS if kind in kinds)
    return f"{text}; not {', '.join(missed)}" if missed else text


_LABELLED = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
PROBES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "classes by words": (_LABELLED, {}),
    "classes by a head": (_LABELLED, {"head": True, "template": "{{ text }}"}),
    "words at a mask": (_LABELLED, {"template": "{{ text }} {{ mask }}"}),
    "writing": ([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}], {}),
    "tags": ([{"tokens": ["a", "b"], "tags": ["B-x", "O"]}, {"tokens": ["c"], "tags": ["O"]}], {}),
}


def tasks_of(name: str) -> str:
    """The tasks that a method can be trained for on one kind of base or another."""
    found = [task for task in PROBES if any(_possible(name, task, kind) for kind in KINDS)]
    missing = [task for task in PROBES if task not in found]
    return f"all but {' and '.join(missing)}" if missing else "all"


def _possible(name: str, probe: str, kind: Kind) -> bool:
    rows, options = PROBES[probe]
    method, table = make(name), read(rows)
    try:
        task = make_task(table, guidance="?", **options)
        if method.fills_slots:
            task = make_task(table, guidance="?", **{**options, "template": "{{ soft(2) }}" + task.template})
        refuse_mismatch(task, method, Outline("", kind, byte_tokenizer(mask=kind == "encoder")))
    except (SettingsError, TemplateError):
        return False
    return True


# --- the table


def table(results: Sequence[dict[str, Any]], setups: Sequence[Setup], families: Sequence[str] = tuple(FAMILIES)) -> str:
    """One row a method, in Markdown, with what it was measured on in front."""
    at = {(one["method"], one["base"]): one for one in results}
    columns = [column for s in setups for column in (f"{s.title}: values, file", f"{s.title}: accuracy (%)")]
    head = ["method", "bases", "tasks", *columns, "choose it when", "limits"]
    lines = [caption(results, setups), "", _line(head), _line(["---"] * len(head))]
    for name, kind in registry().items():
        cells = [cell for setup in setups for cell in _cells(at.get((name, setup.title)))]
        lines.append(
            _line([f"`{name}`", families_of(name, families), tasks_of(name), *cells, kind.choose, kind.limits])
        )
    return "\n".join(lines)


def caption(results: Sequence[dict[str, Any]], setups: Sequence[Setup]) -> str:
    """What the figures are of."""
    said = []
    for setup in setups:
        rows = next((one["rows"] for one in results if one["base"] == setup.title), None)
        if rows is None:
            continue
        how = "a trained head answers" if setup.head else "the model answers in words"
        said.append(
            f"{setup.title} ({how}): {rows['train']} training, {rows['dev']} dev and {rows['test']} test rows, "
            f"{setup.epochs:g} epochs, {setup.batch} rows a step"
        )
    return (
        f"{'; '.join(said)}. Stories of Reuters R8 of at most 30 words, {len(TOPICS)} topics, one seed, the first of "
        "each method's rates. Accuracy on test of the untrained start and of what was learned; in brackets the paired "
        "difference with its 95% interval."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(one: dict[str, Any] | None) -> tuple[str, str]:
    if one is None:
        return "-", "-"
    learned = figure_text("accuracy", one["learned"]["value"])
    size = f"{one['values']:,}, {_bytes(one['bytes'])}"
    if one["difference"] is None:
        return size, learned
    interval = one["difference"]["interval"]
    gain, low, high = (
        figure_text("accuracy", value, True)
        for value in (one["difference"]["estimate"], interval["low"], interval["high"])
    )
    return size, f"{figure_text('accuracy', one['start']['value'])} → {learned} ({gain} [{low}, {high}])"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def write(page: Path, made: str) -> None:
    """Put the table between the page's two marks. Raises ValueError where it has none."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{begin}\n\n{made}\n\n{end}{after}", encoding="utf-8")


def failures(results: Sequence[dict[str, Any]]) -> list[str]:
    """The methods that did not beat their own start."""
    return [f"{one['method']} on {one['base']}" for one in results if one["beats"] is False]


def main() -> int:
    """Run every method and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help=f"a decoder; {DECODER.title} if not given")
    parser.add_argument("--encoder", help=f"an encoder; {ENCODER.title} if not given")
    parser.add_argument("--output", type=Path, default=Path("bench/results/methods"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page with the two marks")
    asked = parser.parse_args()
    with Progress() as progress:
        chosen = (
            (DECODER, asked.base, partial(samples.smollm2, progress)),
            (ENCODER, asked.encoder, partial(samples.minilm, progress)),
        )
        bases = [
            (replace(setup, title=Path(name).name) if name else setup, load_base(name or sample(), progress=progress))
            for setup, name, sample in chosen
        ]
        results = measured(bases, stories(progress), asked.output, progress)
    failed = failures(results)
    made = table(results, [setup for setup, _ in bases])
    if asked.write:
        write(asked.write, made)
    print(json.dumps({"results": results, "failed": failed}, indent=1) if asked.json else made)
    if failed:
        print(f"not better than its own start: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
