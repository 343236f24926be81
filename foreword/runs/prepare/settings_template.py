"""A settings file to begin with: what the data say about the task, and the settings that people change first."""

from __future__ import annotations

from foreword.runs.prepare.ready_data import read_splits, shown, task_of
from foreword.settings.json_schema import field_docs
from foreword.settings.schema import TaskOptions, TrainSettings
from foreword.settings.yaml import to_yaml

_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_FIRST = ("num_train_epochs", "per_device_train_batch_size", "early_stopping_patience", "seed", "dtype", "device")


def settings_template(data: str | None, base: str | None) -> tuple[str, list[str]]:
    """The text of a settings file, and what was recognised, a line each.

    Args:
        data: a data file whose task is written down; None leaves examples.
        base: the base to name; None names one to replace.

    Raises:
        DataError: the data cannot be read.
    """
    notes: list[str] = []
    task: dict[str, object] = {"template": "Text: {{ text }}\nLabel:", "guidance": "Which label fits?\n\n"}
    if data is not None:
        table = read_splits(data, None, None, TaskOptions(), None)["train"]
        inferred = task_of(table, TaskOptions())
        notes = shown(inferred)
        task = {"template": inferred.template, "guidance": inferred.guidance}
        if inferred.has_labels:
            task["labels"] = {label: str(words).strip() for label, words in inferred.verbalizer.items()}
        task["metric"] = inferred.metric
    docs, training = field_docs(TaskOptions), TrainSettings()
    lines = [
        "# Settings of foreword. Flags of the command line win over this file, --set wins over both.",
        "# Paths are relative to the folder in which the command is called.",
        f"data: {data or 'reviews.csv'}  # dev and test are split off, unless files are given as dev: and test:",
        f"base: {base or _HUB}  # hub id, folder, GGUF file; lstm or gru to train one from scratch",
        "output_dir: run",
        "",
        "task:",
    ]
    for key, value in task.items():
        lines += [f"  # {docs[key]}", *("  " + line for line in to_yaml({key: value}).splitlines())]
    lines += ["", "method:", "  name: prefix  # prefix, prompt, ptuning, slots, lora, full, text", "", "training:"]
    lines += ["  # learning_rate: 0.02  # one rate, instead of trying several"]
    about = field_docs(TrainSettings)
    for key in _FIRST:
        lines.append(f"  {to_yaml({key: getattr(training, key)}).strip()}  # {about[key]}")
    return "\n".join(lines) + "\n", notes
