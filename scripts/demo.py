"""The main job from end to end, on a real model and real data: what does a learned foreword gain over a good prompt?

    make demo                       SmolLM2-135M-Instruct and Reuters R8, both fetched once
    make demo BASE=any/hub-id       another decoder: a hub id, a local folder or a GGUF file

The last line on standard output is JSON; everything before it, and standard error, is for people.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo_clock import Clock, Stage, say
from demo_stories import Sizes, choose

from foreword import check, samples, train
from foreword.api import TrainResult
from foreword.cli.failure import report as report_error
from foreword.core.base.load import Base, load_base
from foreword.errors import DataError, SettingsError
from foreword.evaluation.predictions import Prediction, read_jsonl
from foreword.settings.schema import ProgressCall, TaskOptions, TrainRequest, TrainSettings

# Words that say what the newsroom's own codes mean; the prompt and the foreword answer with the same ones.
TOPICS = {
    "acq": "acquisitions", "crude": "oil", "earn": "earnings", "grain": "grain", "interest": "interest",
    "money-fx": "currency", "ship": "shipping", "trade": "trade",
}  # fmt: skip
# The opponent is the best of these on dev: the topics in a list, the topics explained, and the topics with examples.
PROMPTS = (
    TaskOptions(
        guidance="Classify each news story by its topic. Possible topics: acquisitions, currency, earnings, grain,"
        " interest, oil, shipping, trade.\n\n",
        template="News: {{ text }}\nThe topic of this news is",
    ),
    TaskOptions(
        guidance="Read the news story and name its topic: earnings (results and dividends of a company), acquisitions"
        " (companies bought, sold or merged), interest (interest rates), currency (exchange rates and money markets),"
        " oil, grain, shipping, or trade (imports and exports).\n\n",
        template="Story: {{ text }}\nTopic:",
    ),
    TaskOptions(
        guidance="Name the topic of each story: acquisitions, currency, earnings, grain, interest, oil, shipping or"
        " trade.\n\nStory: the bank lowered its prime rate to pct\nTopic: interest"
        "\n\nStory: the dollar fell against the yen in late trading\nTopic: currency"
        "\n\nStory: the refinery raised the price it pays for crude\nTopic: oil"
        "\n\nStory: the company agreed to buy its rival for mln dlrs in cash\nTopic: acquisitions"
        "\n\nStory: net profit rose to mln dlrs in the first quarter\nTopic: earnings\n\n",
        template="Story: {{ text }}\nTopic:",
    ),
)
# Log-probabilities may differ by this much after reloading; answers may not differ at all.
CHANGE = 1e-3

FETCH = Stage("get the model and the data", 0.0)
CHOOSE = Stage("check the data and choose the stories", 5.0)
# A prompt is read again for every story, so a longer one takes longer.
_LENGTHS = {f"prompt {number}": 45 + len((one.guidance or "").split()) for number, one in enumerate(PROMPTS, 1)}
PROMPT = Stage(
    "measure the untrained model with text prompts", 42.0,
    {part: length / sum(_LENGTHS.values()) for part, length in _LENGTHS.items()},
)  # fmt: skip
LEARN = Stage(
    "learn a prefix that starts from the best prompt, and test both", 270.0,
    {"measure the prompt": 0.04, "train": 0.82, "test: prompt": 0.09, "test: foreword": 0.05},
)  # fmt: skip
RELOAD = Stage("reload the file in a fresh process", 22.0)
_OURS = (
    {f"{name}.csv" for name in ("train", "dev", "test")}
    | {"run", "reloaded.jsonl"}
    | {part.replace(" ", "-") for part in PROMPT.parts}
)


def best_prompt(base: Base, files: Mapping[str, Path], folder: Path, progress: ProgressCall) -> TaskOptions:
    """The prompt with the best accuracy on dev."""
    scores = []
    for part, prompt in zip(PROMPT.parts, PROMPTS, strict=True):
        request = TrainRequest(
            str(files["train"]), base, str(folder / part.replace(" ", "-")), dev=str(files["dev"]), method="text",
            task_options=replace(prompt, labels=TOPICS, test_fraction=0.0), progress=_under(part, progress),
        )  # fmt: skip
        scores.append(train(request).dev or 0.0)
        say(f"{part}: {100 * scores[-1]:.1f}% right on dev")
    best = max(range(len(scores)), key=scores.__getitem__)
    say(f"the best, and the opponent from here on, is prompt {best + 1}:\n")
    say("\n".join(f"    {line}" for line in f"{PROMPTS[best].guidance}{PROMPTS[best].template}".splitlines()))
    return PROMPTS[best]


def _under(part: str, progress: ProgressCall) -> ProgressCall:
    """The same progress, all work being called ``part``."""

    def show(name: str, done: int, total: int, **fields: object) -> None:
        progress(part, done, total, **fields)

    return show


def learn(
    base: Base, prompt: TaskOptions, files: Mapping[str, Path], run: Path, settings: TrainSettings, show: ProgressCall
) -> TrainResult:
    """Learn the foreword; the same task as the prompt's, in the same words."""
    request = TrainRequest(
        str(files["train"]), base, str(run), dev=str(files["dev"]), test=str(files["test"]), method="prefix",
        settings=settings, task_options=replace(prompt, labels=TOPICS), progress=show,
    )  # fmt: skip
    result = train(request)
    say(result.render())
    return result


def reload(file: str, data: Path, output: Path) -> list[Prediction]:
    """The answers of the saved file, in a process that knows nothing of this one; [] when it failed."""
    command = [sys.executable, "-m", "foreword", "predict", file, str(data), "--output", str(output), "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return read_jsonl(output) if done.returncode == 0 else []


def same_answers(before: Sequence[Prediction], after: Sequence[Prediction]) -> bool:
    """Whether every row got the same answer with the same log-probabilities (within ``CHANGE``); says how many did."""
    pairs = list(zip(before, after, strict=False))
    equal = sum(a.id == b.id and a.output == b.output for a, b in pairs)
    changes = [abs(a.scores[name] - b.scores.get(name, float("inf"))) for a, b in pairs for name in a.scores]
    change = max(changes, default=0.0)
    say(f"{equal} of {len(before)} answers are the same; the largest change of a log-probability is {change:.1g}")
    return bool(before) and len(before) == len(after) == equal and change <= CHANGE


def claim(folder: Path) -> None:
    """An empty folder for the demo; an earlier demo's is replaced, anything else is left alone."""
    if folder.exists():
        if not folder.is_dir() or {path.name for path in folder.iterdir()} - _OURS:
            raise SettingsError(
                "the folder holds other things than an earlier demo",
                where=str(folder),
                hint="name another one with --folder",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def demo(
    base: str | None, sources: tuple[Path, Path] | None, folder: Path, sizes: Sizes, settings: TrainSettings, seed: int
) -> dict[str, Any]:
    """The whole demo.

    Args:
        base: a hub id, folder or GGUF file; None: SmolLM2.
        sources: a training and a test file with R8's labels; None: Reuters R8.
        folder: where everything is written; an earlier demo's is replaced.

    Returns:
        what the last line says.
    """
    claim(folder)
    clock = Clock((FETCH, CHOOSE, PROMPT, LEARN, RELOAD))
    with clock.during(FETCH) as progress:
        sources = sources or samples.reuters_r8(progress)
        base = base or str(samples.smollm2(progress))
        say(f"model {base}\ndata  {sources[0]}, {sources[1]}")
    with clock.during(CHOOSE):
        files = choose(sources, folder, sizes, seed)
        report = check(files["train"], dev=files["dev"], test=files["test"], task_options=TaskOptions(labels=TOPICS))
        say(report.render())
        if report.refuses:
            raise DataError("the chosen rows have problems", where=str(folder))
    with clock.during(PROMPT) as progress:
        loaded = load_base(base, dtype="auto", progress=progress)
        prompt = best_prompt(loaded, files, folder, progress)
    with clock.during(LEARN) as progress:
        result = learn(loaded, prompt, files, folder / "run", settings, progress)
    with clock.during(RELOAD):
        again = reload(result.file, files["test"], folder / "reloaded.jsonl")
        equal = same_answers(read_jsonl(folder / "run" / "predictions" / "foreword.jsonl"), again)
    say(f"\nwhere the time went:\n{clock.table()}")
    return summary(result, equal, clock.seconds)


def summary(result: TrainResult, equal: bool, seconds: float) -> dict[str, Any]:
    """The last line. Where nothing beat the prompt on dev the prompt itself was saved, and the difference is 0."""
    figures = {name: system["metrics"][result.metric]["value"] for name, system in result.systems.items()}
    interval = result.difference["interval"] if result.difference else {"low": 0.0, "high": 0.0}
    return {
        "prompt": figures.get("prompt", figures["foreword"]),
        "foreword": figures["foreword"],
        "difference": result.difference["estimate"] if result.difference else 0.0,
        "interval": [interval["low"], interval["high"]],
        "rows": result.rows["test"],
        "file": result.file,
        "bytes": result.bytes,
        "reloaded_equal": equal,
        "seconds": round(seconds, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when the reloaded file gives the same answers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", help="a hub id, a local folder or a GGUF file (default: SmolLM2-135M-Instruct)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/demo"), help="where everything is written (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=13, help="of the chosen stories and of training (default: %(default)s)"
    )
    given = parser.parse_args(argv)
    settings = TrainSettings(sweep=(5e-2, 2e-2), num_train_epochs=2, seed=given.seed)
    try:
        found = demo(given.base, None, given.folder, Sizes(), settings, given.seed)
    except (Exception, KeyboardInterrupt) as error:
        return report_error(error, machine=False, verbose=False)
    say(json.dumps(found))
    return 0 if found["reloaded_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
