"""From a data file to a verdict: seconds of ``foreword train``, and of a script as a user of PEFT writes it.

    python bench/verdict_time.py --data FOLDER [--base MODEL] [--train 512] [--test 400] [--output FOLDER] [--json]

FOLDER holds ``sst2/{train,test}.jsonl`` (see ``bench/quality.py``). Both get the same rows as CSV files and the same
words, each in a process of its own, one after the other.

- **foreword**: ``foreword train`` with the default recipe, to the finished report.
- **PEFT**: transformers' Trainer, the base in bfloat16, prefix tuning with 20 virtual tokens, three epochs at each of
  four rates, the best on dev kept, test rows classified with it and with the text prompt alone, the difference with a
  bootstrap interval.

The dev losses stand beside the times: a verdict that comes sooner because less was learned is no gain. Theirs is that
of the label words' tokens among the two, as ours is.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PrefixTuningConfig, get_peft_model
from quality import rows_of
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from foreword import samples

GUIDANCE = "Decide whether the sentiment of a movie review is positive or negative.\n\n"
TEMPLATE = "Review: {text}\nSentiment:"
RATES, EPOCHS, P, BATCH = (1e-3, 5e-3, 1e-2, 5e-2), 3, 20, 16
Encoded = list[dict[str, list[int]]]


def write(data: Path, folder: Path, train: int, test: int) -> dict[str, Path]:
    """The rows as CSV files; a tenth of the training rows is dev."""
    found = rows_of(data / "sst2", "train", train + train // 10)
    splits = {"train": found[:train], "dev": found[train:], "test": rows_of(data / "sst2", "test", test)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, rows in splits.items():
        paths[name] = folder / f"{name}.csv"
        with paths[name].open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("text", "label"))
            writer.writerows((row["text"], row["label"]) for row in rows)
    return paths


def timed(command: Sequence[str]) -> dict[str, float]:
    """Seconds and CPU seconds of a process."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.monotonic() - began, "cpu_seconds": cpu}


def ours(base: str, paths: dict[str, Path], folder: Path) -> dict[str, Any]:
    """``foreword train``, and what it came to."""
    command = [
        sys.executable, "-m", "foreword", "train", str(paths["train"]), "--dev", str(paths["dev"]),
        "--test", str(paths["test"]), "--base", base, "--output-dir", str(folder), "--guidance", GUIDANCE,
        "--template", TEMPLATE.replace("{text}", "{{ text }}"), "--overwrite", "--json",
    ]  # fmt: skip
    times = timed(command)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [row["eval_loss"] for row in log if "eval_loss" in row]
    accuracy = report["systems"]["foreword"]["metrics"]["accuracy"]["value"]
    return {
        **times,
        "accuracy": accuracy,
        "dev_loss": min(losses, default=math.nan),
        "precision": report["base"]["precision"],
    }


# What the user of PEFT writes.


def encoded(tokenizer: Any, path: Path, front: str = "") -> tuple[Encoded, list[str]]:
    """Rows with labels at the answer alone, and the answers."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    out = []
    for row in rows:
        ids = tokenizer(front + TEMPLATE.format(text=row["text"]), add_special_tokens=False)["input_ids"]
        answer = tokenizer(f" {row['label']}", add_special_tokens=False)["input_ids"]
        out.append({"input_ids": ids + answer, "labels": [-100] * len(ids) + answer})
    return out, [row["label"] for row in rows]


def collate(rows: Encoded) -> dict[str, torch.Tensor]:
    """A batch, padded on the left, so that answers stand at the end."""
    width = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor([[fill] * (width - len(row[name])) + row[name] for row in rows])

    mask = torch.tensor([[0] * (width - len(r["input_ids"])) + [1] * len(r["input_ids"]) for r in rows])
    return {"input_ids": padded("input_ids", 0), "attention_mask": mask, "labels": padded("labels", -100)}


@torch.no_grad()
def classified(model: Any, rows: Encoded, words: Sequence[int]) -> torch.Tensor:
    """log p of each label's word ``[N, C]`` among them: labels of one token, read before the last place."""
    found = []
    for start in range(0, len(rows), 32):
        batch = collate(rows[start : start + 32])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], logits_to_keep=2).logits
        found.append(logits[:, 0, list(words)].float().log_softmax(-1))
    return torch.cat(found)


def theirs(base: str, folder: Path) -> dict[str, float]:
    """The script: four rates, the best on dev, test with an interval."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    train, _ = encoded(tokenizer, folder / "train.csv")
    dev, dev_gold = encoded(tokenizer, folder / "dev.csv")
    test, test_gold = encoded(tokenizer, folder / "test.csv")
    labels = sorted(set(dev_gold))
    words = [tokenizer(f" {label}", add_special_tokens=False)["input_ids"][0] for label in labels]
    prompted, _ = encoded(tokenizer, folder / "test.csv", GUIDANCE)
    prompt = classified(model.eval(), prompted, words).argmax(1)
    gold = torch.tensor([labels.index(label) for label in dev_gold])
    best, state = math.inf, None
    wrapped = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P))
    start = {name: p.detach().clone() for name, p in wrapped.named_parameters() if p.requires_grad}
    for rate in RATES:
        wrapped.load_state_dict(start, strict=False)
        arguments = TrainingArguments(
            tempfile.mkdtemp(), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, learning_rate=rate,
            warmup_steps=int(0.1 * EPOCHS * len(train) / BATCH), report_to=[], save_strategy="no", disable_tqdm=True,
            use_cpu=True, remove_unused_columns=False, logging_strategy="no",
        )  # fmt: skip
        Trainer(model=wrapped, args=arguments, train_dataset=train, data_collator=collate).train()
        loss = float(F.nll_loss(classified(wrapped.eval(), dev, words), gold))
        if loss < best:
            best = loss
            state = {name: p.detach().clone() for name, p in wrapped.named_parameters() if p.requires_grad}
    wrapped.load_state_dict(state or start, strict=False)
    right = np.array([labels.index(label) for label in test_gold])
    hits = classified(wrapped.eval(), test, words).argmax(1).numpy() == right
    gains = hits.astype(float) - (prompt.numpy() == right)
    rng = np.random.default_rng(0)
    low, high = np.quantile(
        [gains[rng.integers(0, len(gains), len(gains))].mean() for _ in range(2000)], (0.025, 0.975)
    )
    return {"accuracy": float(hits.mean()), "dev_loss": best, "gain": float(gains.mean()), "low": low, "high": high}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--base", default=None)
    parser.add_argument("--train", type=int, default=512)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("bench/results/verdict_time"))
    parser.add_argument("--only", choices=("foreword", "peft"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--script", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    base = given.base or str(samples.smollm2())
    if given.script:
        (given.script / "peft.json").write_text(json.dumps(theirs(base, given.script)), encoding="utf-8")
        return
    if given.data is None:
        parser.error("--data is needed")
    paths, result = write(given.data, given.output, given.train, given.test), {}
    if given.only != "peft":
        result["foreword"] = ours(base, paths, given.output / "run")
    if given.only != "foreword":
        times = timed([sys.executable, __file__, "--script", str(given.output), "--base", base])
        result["peft"] = {**times, **json.loads((given.output / "peft.json").read_text(encoding="utf-8"))}
    if len(result) == 2:
        result["ratio"] = result["peft"]["seconds"] / result["foreword"]["seconds"]
        result["cpu_ratio"] = result["peft"]["cpu_seconds"] / result["foreword"]["cpu_seconds"]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
