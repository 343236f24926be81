"""Forewords on small bases that are trained here from scratch: Chinese reviews, translation, headlines.

    python bench/small_models.py --data FOLDER [--task zh_hotel ...] [--minutes 3] [--output RUNS] [--seed 1] [--json]

Each task trains a base on one part of the data (a GRU, or a T5 of 2+2 layers) and then learns from a few rows of
another part: a prefix (at all three kinds of sites of an encoder-decoder), a soft prompt, and full fine-tuning, beside
the base that was taught nothing more. The test rows are in no part.

- ``zh_hotel``: short hotel reviews, good or bad in words; the base has read 1,900 reviews with their answers.
- ``zh_products``: the same base; a foreword is to bring it to reviews of things that are sold, one sentence each.
- ``zh_hotel_head``: the base has read the hotel reviews without answers, and a trained head answers.
- ``translation``: short sentences, English to Chinese. The pairs mix both scripts; a foreword is to bring traditional
  characters.
- ``headlines``: Reuters stories of seven topics; a foreword is to bring the headlines of an eighth, ``earn``. So that
  the base learns to copy words, it also repeats the beginnings of stories where asked to.

FOLDER holds ``zh_chnsenticorp_htl``, ``fewclue`` and ``translation_en_zh_tatoeba``; what is missing is said and left
out.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from small_bases import EncoderDecoder, Kind, Recurrent, make_base
from tasks import Missing, rows_of, start_of

from foreword import samples
from foreword.core.base.load import Base, load_base
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import compare, evaluate, figure_text
from foreword.progress import Progress
from foreword.runs.series import member
from foreword.settings.schema import BaseSettings, TaskOptions, TrainRequest, TrainSettings

Rows = list[dict[str, Any]]
Parts = dict[str, Rows]
# Reviews that the base reads, and pairs of which it sees none: they are kept for the forewords.
_READ, _KEPT = 1900, 1400
# For time: characters of a review, words of a sentence to translate, of a story's beginning, and of that what the base
# repeats.
_REVIEW_LENGTH, _SENTENCE, _STORY, _REPEATED = 80, 7, 24, 8


class Learner(NamedTuple):
    """A line of the table: a method, its settings, the rates to try, and what it changes of the task."""

    method: str
    settings: dict[str, Any]
    rates: tuple[float, ...]
    task: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Spec:
    """One task.

    Args:
        base: what is trained first.
        rows: FOLDER -> the parts ``base``, ``base_dev``, ``train``, ``dev``, ``test``, shuffled.
        limits: rows of each part at most.
        figures: what the table shows.
        methods: what the line is called -> what is learned.
        wanted: of outputs: what a foreword is to bring; the table shows its share.
    """

    base: Kind
    rows: Callable[[Path], Parts]
    limits: dict[str, int]
    task: dict[str, Any]
    figures: tuple[str, ...]
    epochs: float
    methods: dict[str, Learner] = field(default_factory=dict)
    wanted: Callable[[str], bool] | None = None


def _can(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def traditional(text: str) -> bool:
    """Whether a Chinese text is in traditional characters: Big5 has all of them, and GB 2312 has not."""
    return _can(text, "big5") and not _can(text, "gb2312")


def simplified(text: str) -> bool:
    """Whether a Chinese text is in simplified characters: the other way round."""
    return _can(text, "gb2312") and not _can(text, "big5")


def headline(text: str) -> dict[str, str] | None:
    """A Reuters story, whose words come without punctuation, as headline and beginning; None where they blend.

    A story mostly begins with the first word of its headline again ("hadson to acquire seaxe | hadson corp said ...").
    """
    words = text.split()
    for place in range(3, 16):
        if len(words) - place >= 15 and words[place] == words[0]:
            return {"story": " ".join(words[place : place + _STORY]), "headline": " ".join(words[:place])}
    return None


def hotel(data: Path) -> Parts:
    folder = data / "zh_chnsenticorp_htl"
    parts = ([r for r in rows_of(folder / f"{name}.jsonl") if _brief(r["text"])] for name in ("train", "dev", "test"))
    rows, dev, test = parts
    return {
        "base": rows[:_READ], "base_dev": dev[::2],
        "train": _even(rows[_READ:]), "dev": _even(dev[1::2]), "test": _even(test),
    }  # fmt: skip


def _even(rows: Rows) -> Rows:
    """As many rows of each label: three quarters of the reviews are good, and saying so is hard to beat."""
    piles = {label: [row for row in rows if row["label"] == label] for label in {row["label"] for row in rows}}
    least = min(map(len, piles.values()), default=0)
    kept = {id(row) for pile in piles.values() for row in pile[:least]}
    return [row for row in rows if id(row) in kept]


def products(data: Path) -> Parts:
    """The base's rows are those of :func:`hotel`; the others are FewCLUE's, which has no large part for training."""
    names = ("train32", "dev32", "test")
    rows = [row for name in names for row in rows_of(data / "fewclue" / "eprstmt" / f"{name}.jsonl")]
    random.Random(13).shuffle(rows)
    found = [{"text": row["sentence"], "label": row["label"].lower()} for row in rows if _brief(row["sentence"])]
    return {**hotel(data), "train": found[:300], "dev": found[300:374], "test": found[374:]}


def translation(data: Path) -> Parts:
    folder = data / "translation_en_zh_tatoeba"
    parts = ([r for r in rows_of(folder / f"{name}.jsonl") if _short(r["en"])] for name in ("train", "dev", "test"))
    rows, dev, test = parts
    random.Random(13).shuffle(rows)
    kept, base = _in_script(rows[-_KEPT:]), rows[:-_KEPT]
    return {
        "base": [{"en": row["en"], "zh": text} for row in base for text in row["zh"][:1]],
        "base_dev": [{"en": row["en"], "zh": row["zh"][0]} for row in dev[::2]],
        "train": kept, "dev": _in_script(dev[1::2]), "test": _in_script(test),
    }  # fmt: skip


def _brief(text: str) -> bool:
    return len(text) <= _REVIEW_LENGTH


def _short(text: str) -> bool:
    return len(text.split()) <= _SENTENCE


def _in_script(rows: Rows) -> Rows:
    """The rows with a reference in traditional characters, and that one alone."""
    found = ((row["en"], [text for text in row["zh"] if traditional(text)]) for row in rows)
    return [{"en": english, "zh": chinese[0]} for english, chinese in found if chinese]


def headlines(_: Path) -> Parts:
    found: dict[str, list[tuple[bool, dict[str, str]]]] = {}
    repeated: Rows = []
    for name, path in zip(("train", "test"), samples.reuters_r8(), strict=True):
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        pairs = [(row["label"] == "earn", headline(row["text"])) for row in rows]
        if name == "train":
            # Stories whose headlines are kept for the forewords are not read at all.
            others = (row["text"] for row, (earn, pair) in zip(rows, pairs, strict=True) if pair is None or not earn)
            repeated = [_repeated(text.split()) for text in others]
        found[name] = [(earn, pair) for earn, pair in pairs if pair is not None]
        random.Random(13).shuffle(found[name])
    other, earn = ([pair for is_earn, pair in found["train"] if is_earn is one] for one in (False, True))
    return {
        "base": [*other[:-150] * 2, *repeated[::2]], "base_dev": other[-150:], "train": earn[:-150], "dev": earn[-150:],
        "test": [pair for is_earn, pair in found["test"] if is_earn],
    }  # fmt: skip


def _repeated(words: list[str]) -> dict[str, str]:
    """What the base repeats of a story: its first words."""
    return {"story": " ".join(["repeat", *words[:_STORY]]), "headline": " ".join(words[:_REPEATED])}


# Two rates each, for time. Full fine-tuning's own are for big pretrained models.
_PREFIX = Learner("prefix", {}, (2e-2, 1e-1))
_FULL = Learner("full", {}, (1e-3, 2e-4))
_SOFT = Learner("prompt", {"num_virtual_tokens": 20}, (1e-2, 1e-1))
_LOW = (3e-2, 5e-3)
_WRITTEN: dict[str, Learner] = {
    "prefix": Learner("prefix", {}, _LOW),
    "prefix, random start": Learner("prefix", {"init": "random"}, _LOW),
    "prefix, decoder self only": Learner("prefix", {"sites": "decoder.self.*"}, _LOW),
    "soft prompt": _SOFT,
    "full": Learner("full", {}, (2e-4, 5e-5)),
}
_REVIEW = {
    "guidance": "判断酒店评论是好评还是差评。\n\n", "template": "评论：{{ text }}\n标签：",
    "labels": {"positive": "好评", "negative": "差评"},
}  # fmt: skip
_GRU = BaseSettings(
    hidden_size=128, num_hidden_layers=1, tokenizer="char", vocab_size=2500, num_train_epochs=10, max_length=100
)
# What stands in front of a whole review a state has forgotten at its end: soft tokens next to the answer.
_BEHIND = Learner("slots", {}, (3e-2, 1e-1), {"template": "评论：{{ text }}{{ soft(8) }}\n标签："})
_ANSWERS: dict[str, Learner] = {"prefix": _PREFIX, "soft prompt": _SOFT, "soft slots behind": _BEHIND, "full": _FULL}
_READER, _SHOWN = Recurrent("gru", _GRU), ("accuracy", "macro_f1")
SPECS: dict[str, Spec] = {
    "zh_hotel": Spec(_READER, hotel, {}, _REVIEW, _SHOWN, 12, _ANSWERS),
    "zh_products": Spec(_READER, products, {}, _REVIEW, _SHOWN, 12, _ANSWERS),
    "zh_hotel_head": Spec(
        Recurrent("gru", replace(_GRU, answers=False)), hotel, {},
        {"head": True, "guidance": _REVIEW["guidance"], "template": "{{ text }}"}, _SHOWN, 12,
        {"head alone": Learner("full", {"train": "head"}, (2e-2, 1e-1)), "prefix": _PREFIX, "full": _FULL},
    ),
    "translation": Spec(
        EncoderDecoder(vocab_size=3000, epochs=16), translation, {"train": 500, "dev": 100, "test": 300},
        {"guidance": "in Chinese: ", "template": "{{ en }}", "inputs": ("en",), "target": "zh",
         "metric": "perplexity", "max_new_tokens": 40},
        ("perplexity", "bleu", "chrf"), 8, _WRITTEN, traditional,
    ),
    "headlines": Spec(
        EncoderDecoder(epochs=30), headlines, {"train": 400, "dev": 100, "test": 300},
        {"guidance": "headline: ", "template": "{{ story }}", "inputs": ("story",), "target": "headline",
         "metric": "perplexity", "max_new_tokens": 24},
        ("perplexity", "rouge_l", "rouge_1", "chrf"), 8, _WRITTEN,
    ),
}  # fmt: skip


def parts_of(spec: Spec, data: Path) -> Parts:
    """The parts, cut to the spec's limits: the same rows at every call."""
    return {name: rows[: spec.limits.get(name)] for name, rows in spec.rows(data).items()}


def scaled(parts: Parts, share: float) -> Parts:
    """A share of the rows that forewords learn from and are measured on; the base reads all of its own."""
    return {
        name: rows if name.startswith("base") else rows[: max(8, round(share * len(rows)))]
        for name, rows in parts.items()
    }


def learn(
    spec: Spec, method: str, base: Base, parts: Parts, folder: Path, seed: int, progress: Progress
) -> dict[str, Any]:
    """One method on the base: the figures of the start and of what was learned."""
    name, settings, sweep, changed = spec.methods[method]
    folder = folder / f"{method.replace(', ', '-').replace(' ', '_')}-{seed}"
    more = tuple(figure for figure in spec.figures if figure != spec.task.get("metric"))
    request = TrainRequest(
        data=parts["train"], dev=parts["dev"], test=parts["test"], base=base, output_dir=folder, skip_bad=True,
        method=name, method_settings=settings,
        settings=TrainSettings(seed=seed, num_train_epochs=spec.epochs, sweep=sweep),
        task_options=TaskOptions(**{**spec.task, **changed}, metrics=more),
    )  # fmt: skip
    one = member(request, f"{folder.parent.name}, {method}", progress)
    _, start = start_of(request, one)
    report = one.report
    return {
        "rows": {name: part["rows"] for name, part in report["data"].items()},
        "values": report["file"]["values"], "bytes": report["file"]["bytes"], "outcome": report["file"]["outcome"],
        "rate": report["training"].get("learning_rate"), "seconds": round(report["training"]["seconds"]),
        "warnings": report["warnings"], "start": _figures(spec, report, start),
        "learned": _figures(spec, report, one.answers),
        "difference": compare(one.answers, start, report["training"]["metric"]).to_json(),
    }  # fmt: skip


def _figures(spec: Spec, report: dict[str, Any], answers: Sequence[Prediction]) -> dict[str, Any]:
    found = evaluate(answers, report["task"]["kind"], spec.figures, tuple(report["task"]["verbalizer"]))["metrics"]
    figures = {key: {part: found[key][part] for part in ("value", "low", "high")} for key in spec.figures}
    if spec.wanted is not None:
        figures["wanted"] = {"value": sum(spec.wanted(row.output) for row in answers) / len(answers)}
    return figures


def run(name: str, asked: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """One block of the table."""
    spec, folder, began = SPECS[name], asked.output / name, time.monotonic()
    parts = scaled(parts_of(spec, asked.data), asked.share)
    options = TaskOptions(**{**spec.task, "head": False}) if spec.task.get("head") else TaskOptions(**spec.task)
    facts = make_base(spec.base, parts["base"], parts["base_dev"], options, folder / "base", asked.minutes, progress)
    base = load_base(folder / "base")
    methods = asked.method or spec.methods
    learned = {
        method: learn(spec, method, base, parts, folder, asked.seed, progress)
        for method in spec.methods
        if method in methods
    }
    seconds = round(time.monotonic() - began)
    return {"task": name, "base": facts, "seed": asked.seed, "methods": learned, "seconds": seconds}


def render(results: Sequence[dict[str, Any]], missing: Sequence[str]) -> str:
    """The table for people."""
    lines = []
    for one in results:
        base, methods = one["base"], one["methods"]
        first = next(iter(methods.values()))
        lines.append(
            f"{one['task']}: {base['cell']} trained here on {base['rows']['train']:,} rows ({base['values']:,} values, "
            f"{base['vocabulary']:,} tokens, {base['steps']} steps), then "
            f"{'/'.join(str(count) for count in first['rows'].values())} rows, seed {one['seed']}, {one['seconds']} s"
        )
        lines.append(f"  {'nothing learned':<26} {_cells(first['start'])}")
        for method, found in methods.items():
            note = f"{found['values']:,} values, rate {found['rate']}" if found["outcome"] == "learned" else "no gain"
            lines.append(f"  {method:<26} {_cells(found['learned'])} ({_gain(found['difference'])}; {note})")
    return "\n".join([*lines, *(f"missing, left out: {what}" for what in missing)])


def _gain(difference: dict[str, Any]) -> str:
    ends = (difference["estimate"], difference["interval"]["low"], difference["interval"]["high"])
    gain, low, high = (figure_text(difference["metric"], one, True) for one in ends)
    return f"{gain} [{low}, {high}]"


def _cells(figures: dict[str, Any]) -> str:
    cells = []
    for key, figure in figures.items():
        ends = [figure_text(key, figure[end]) for end in ("low", "high") if figure.get(end) is not None]
        value = f"{figure['value']:.3f}" if key == "wanted" else figure_text(key, figure["value"])
        cells.append(f"{key} {value}" + (f" [{', '.join(ends)}]" if ends else ""))
    return ", ".join(cells)


def main() -> None:
    """Run what is asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=SPECS, action="append")
    parser.add_argument("--method", action="append", help="a line of the table (prefix, full, ...); else all of them")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training an encoder-decoder's base at most")
    parser.add_argument("--output", type=Path, default=Path("bench/results/small_models"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the forewords' rows, for a slow machine")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results, missing = [], []
    with Progress() as progress:
        for name in arguments.task or SPECS:
            try:
                results.append(run(name, arguments, progress))
            except Missing as problem:
                missing.append(f"{name}: {problem}")
    shown = {"results": results, "missing": missing}
    print(json.dumps(shown, indent=1, ensure_ascii=False) if arguments.json else render(results, missing))
    sys.exit(0 if results else 1)


if __name__ == "__main__":
    main()
