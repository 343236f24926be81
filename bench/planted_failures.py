"""Trainings of a tiny model that go wrong on purpose, and good ones: which raise an alarm?

    python bench/planted_failures.py [--minutes 1]

The task is to say whether a text has an x (yes) or a z (no) among other letters. The base is a random Llama of a few
thousand values; a good training with prefix and head gets nine of ten rows right. Each
failure is planted alone; where the data are refused before training, that counts as an alarm.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timed_rounds import rounds
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from foreword import api
from foreword.core.inject.value import Foreword, KeyValue
from foreword.errors import DataError, NothingLearnedError
from foreword.methods.prefix import PrefixWriter
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.testing.method_contracts import FAMILIES, byte_tokenizer

Row = dict[str, str]
Settings = dict[str, Any]
GOOD: Settings = {"per_device_train_batch_size": 16, "num_train_epochs": 4.0, "learning_rate": 5e-2}


def tiny_base(folder: Path, seed: int = 0) -> Path:
    """A random Llama that reads 512 tokens, with a byte tokenizer."""
    spec = FAMILIES["llama"]
    make_config, make_model = spec.parts()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(make_config(**{**spec.settings, "max_position_embeddings": 512}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    byte_tokenizer(False).save_pretrained(folder)
    return folder


def rows(rng: random.Random, count: int) -> list[Row]:
    """Eight letters; an x among them means yes, a z no."""
    out = []
    for number in range(count):
        letters = [rng.choice("abcdefghijklmnop") for _ in range(8)]
        letters[rng.randrange(8)] = "zx"[number % 2]
        out.append({"text": "".join(letters), "label": ["no", "yes"][number % 2]})
    return out


Splits = tuple[list[Row], list[Row], list[Row], Settings]


def good(rng: random.Random) -> Splits:
    """Nothing is wrong."""
    return rows(rng, 96), rows(rng, 40), rows(rng, 40), GOOD


def rate(factor: float) -> Callable[[random.Random], Splits]:
    """The learning rate times ``factor``."""

    def plant(rng: random.Random) -> Splits:
        train, dev, test, settings = good(rng)
        return train, dev, test, {**settings, "learning_rate": factor * GOOD["learning_rate"]}

    return plant


def shuffled(rng: random.Random) -> Splits:
    """The labels of every split are dealt out anew."""
    splits = good(rng)
    for table in splits[:3]:
        labels = [row["label"] for row in table]
        rng.shuffle(labels)
        for row, label in zip(table, labels, strict=True):
            row["label"] = label
    return splits


def skewed(rng: random.Random) -> Splits:
    """Four of five rows have the same label, dealt out at random."""
    splits = good(rng)
    for table in splits[:3]:
        labels = ["yes"] * (len(table) // 5) + ["no"] * (len(table) - len(table) // 5)
        rng.shuffle(labels)
        for row, label in zip(table, labels, strict=True):
            row["label"] = label
    return splits


def constant(rng: random.Random) -> Splits:
    """Every training row has the same label."""
    train, dev, test, settings = good(rng)
    return [{**row, "label": "yes"} for row in train], dev, test, settings


def one_label_on_dev(rng: random.Random) -> Splits:
    """Dev has only rows with a yes."""
    train, dev, test, settings = good(rng)
    return train, [row for row in dev if row["label"] == "yes"], test, settings


NO_GRADIENT, UNKNOWN = "a writer without gradient", "text that the tokenizer does not know"
FAILURES: dict[str, Callable[[random.Random], Splits]] = {
    "learning rate 100 times too high": rate(100),
    "learning rate 100 times too low": rate(0.01),
    "shuffled labels": shuffled,
    "shuffled labels, four of five alike": skewed,
    "constant labels": constant,
    NO_GRADIENT: good,  # see severed()
    "dev of one label": one_label_on_dev,
    UNKNOWN: good,  # see blind()
}


@contextmanager
def severed() -> Iterator[None]:
    """Prefix writers whose parameters do not reach the loss, as after a forgotten ``detach``."""
    real = PrefixWriter.write

    def write(self: PrefixWriter) -> Foreword:
        nothing = sum((p * 0).sum() for p in self.parameters() if p.requires_grad)
        sites = {
            name: KeyValue(kv.keys.detach() + nothing, kv.values.detach()) for name, kv in real(self).sites.items()
        }
        return Foreword(sites=sites)

    PrefixWriter.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        PrefixWriter.write = real  # type: ignore[method-assign]


def blind(base: Path, folder: Path) -> Path:
    """The base with a tokenizer to which every word is unknown."""
    shutil.copytree(base, folder)
    words = {"<unk>": 0, "<pad>": 1, "</s>": 2}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder


def train(splits: Splits, base: Path, folder: Path, seed: int, head: bool = True) -> list[str]:
    """The alarms of one training with prefix tuning.

    Args:
        head: with a trained head; else the base says yes or no.
    """
    training, dev, test, settings = splits
    options = TaskOptions(template="{{ text }}", head=True)
    words = TaskOptions(template="{{ text }}:", guidance="Say yes or no.\n")
    request = TrainRequest(
        data=training, dev=dev, test=test, base=str(base), output_dir=folder, method="prefix",
        settings=TrainSettings(**{**settings, "seed": seed}), task_options=options if head else words,
    )  # fmt: skip
    try:
        return api.train(request).alarms
    except (DataError, NothingLearnedError) as error:
        return [str(error)]


def planted(name: str, base: Path, folder: Path, seed: int) -> list[str]:
    """The alarms of one failure."""
    splits = FAILURES[name](random.Random(seed))
    if name == UNKNOWN:
        base = blind(base, folder.with_name(f"{folder.name}-base"))
    if name == NO_GRADIENT:
        with severed():
            return train(splits, base, folder, seed, head=False)
    return train(splits, base, folder, seed)


def run(seconds: float, each: int = 3, most: int = 100) -> dict[str, Any]:
    """``alarm_missed``: the share of failures without an alarm; ``alarm_false``: of good trainings with one.

    Args:
        seconds: for good trainings, as many as there is time for.
        each: trainings of each failure.
        most: good trainings at most.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        base = tiny_base(root / "base")
        fired = {
            name: sum(bool(planted(name, base, root / f"{number}-{seed}", seed)) for seed in range(each)) / each
            for number, name in enumerate(FAILURES)
        }
        numbers = itertools.islice(rounds(seconds), most)
        told = [train(good(random.Random(seed)), base, root / f"good-{seed}", seed) for seed in numbers]
    return {
        "alarm_missed": 1 - sum(fired.values()) / len(fired),
        "alarm_false": sum(map(bool, told)) / len(told),
        "good_trainings": len(told),
        "alarms_fired": fired,
        "false_alarms": sorted({alarm for alarms in told for alarm in alarms}),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="for good trainings")
    parser.add_argument("--each", type=int, default=3, help="trainings of each failure")
    arguments = parser.parse_args()
    print(json.dumps(run(60 * arguments.minutes, arguments.each), indent=1))
