"""The model card of a foreword: what it does, on which base, and what was measured with which interval."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from foreword.artifact.manifest import Manifest
from foreword.core.inject.value import Foreword

_NOT_STATED = "not stated"
_PIPELINES = {"classification": "text-classification", "tagging": "token-classification"}


@dataclass(frozen=True)
class Licences:
    """What may be done with the foreword, the data that it was trained on, and its base; empty: not stated."""

    foreword: str = ""
    data: str = ""
    base: str = ""


def model_card(value: Foreword, manifest: Manifest, repo: str, licences: Licences) -> str:
    """The card as Markdown with the hub's front matter."""
    parts = [_front_matter(manifest, licences), f"# {repo.rpartition('/')[2]}", _about(value, manifest)]
    parts += ["## Figures", _figures(manifest), "## Limits", _limits(manifest), "## Licences"]
    rows = (("this foreword", licences.foreword or manifest.license), ("the data", licences.data))
    parts.append(_table(["of", "licence"], [[what, _line(text) or _NOT_STATED] for what, text in
                                           (*rows, ("the base", licences.base))]))  # fmt: skip
    parts += ["## How to load it", _loading(repo, manifest)]
    return "\n\n".join(parts) + "\n"


def _front_matter(manifest: Manifest, licences: Licences) -> str:
    kind = str(manifest.task.get("kind", "generation"))
    fields: dict[str, Any] = {
        "library_name": "foreword",
        "base_model": manifest.base.id,
        "base_model_relation": "adapter",
        "pipeline_tag": _PIPELINES.get(kind, "text-generation"),
        "tags": ["foreword", manifest.method],
    }
    if licences.foreword or manifest.license:
        fields["license"] = licences.foreword or manifest.license
    # JSON is YAML, and quotes what would be read as something else.
    return "\n".join(
        ["---", *(f"{key}: {json.dumps(item, ensure_ascii=False)}" for key, item in fields.items()), "---"]
    )


def _about(value: Foreword, manifest: Manifest) -> str:
    task = manifest.task
    size = f"{value.num_virtual_tokens} virtual tokens, " if value.num_virtual_tokens else ""
    kind = _line(str(task.get("kind", "generation")))
    lines = [
        f"A foreword for `{_code(manifest.base.id)}`: {size}{value.num_values:,} numbers, trained with the method "
        f"`{_code(manifest.method)}`. The base itself stays as it is. Task: {kind}."
    ]
    lines.append("What a row looks like behind it:\n\n" + _block(str(task.get("template", ""))))
    if manifest.text:
        lines.append("Text in front of it:\n\n" + _block(manifest.text))
    labels = task.get("verbalizer")
    if isinstance(labels, dict) and labels:
        lines.append("Labels: " + ", ".join(f"`{_code(str(label))}`" for label in labels) + ".")
    return "\n\n".join(lines)


def _figures(manifest: Manifest) -> str:
    if not manifest.metrics:
        return "None: it was not evaluated on rows that it had not seen."
    rows = []
    for name, figure in manifest.metrics.items():
        interval = _NOT_STATED
        if figure.low is not None and figure.high is not None:
            level = "" if figure.level is None else f" ({figure.level:.0%})"
            interval = f"{figure.low:.4g} to {figure.high:.4g}{level}"
        rows.append([_line(name), f"{figure.value:.4g}", interval, str(figure.rows)])
    return _table(["metric on the test split", "value", "interval", "rows"], rows)


def _limits(manifest: Manifest) -> str:
    lines = [
        "- It works on this base alone; whoever loads it has the base's fingerprint compared and is refused otherwise.",
        "- Figures are of the test split of one data set. Text of another kind was not measured.",
        "- What the base knows wrongly or judges unfairly is still there: a foreword does not correct it.",
    ]
    rows = {name: split.get("rows") for name, split in manifest.data_lock.items() if isinstance(split, dict)}
    if rows:
        lines.append("- Rows: " + ", ".join(f"{_line(name)} {count}" for name, count in rows.items()) + ".")
    if manifest.golden:
        lines.append(
            f"- The file holds {len(manifest.golden)} rows of the data with their answers, to verify it: they are "
            "public where the file is."
        )
    if manifest.notes:
        lines.append(f"- {_line(manifest.notes)}")
    return "\n".join(lines)


def _loading(repo: str, manifest: Manifest) -> str:
    verify = f"pip install foreword\nforeword verify hf://{repo}\n"
    kind = str(manifest.task.get("kind", "generation"))
    call = "generate" if kind == "generation" else "predict"
    code = (
        "import foreword\n\n"
        f'value, manifest = foreword.load("hf://{repo}")\n'
        "base = foreword.load_base(manifest.base.id)\n"
        "with foreword.injected(base.model, [value]):\n"
        "    ...  # every pass of base.model has it in front\n"
    )
    return f"```bash\n{verify}foreword {call} hf://{repo} rows.csv\n```\n\n```python\n{code}```"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(text: str) -> str:
    """A text on one line that is nothing but text in Markdown."""
    flat = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in flat)


def _code(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")


def _block(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text.rstrip()}\n{fence}"
