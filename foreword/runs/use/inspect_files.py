"""What can be said without loading a model: what a file holds, what a folder holds, what this machine can do."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foreword.artifact.peek import peek
from foreword.errors import FileFormatError
from foreword.evaluation.report.text_table import text_table
from foreword.messages import Message, say, say_if_known
from foreword.runs.train.result import versions
from foreword.settings.schema import TrainSettings
from foreword.storage import cache_folder


class FileFacts(dict[str, Any]):
    """What :func:`show` found; :meth:`render` says the most of it on one screen."""

    def render(self) -> str:
        """For people: what it is, what it asks, how good it was, how it was learned."""
        settings, task, base = self["settings"], self["task"], self["base"]
        size = Message("{value:,} values, {a:,} bytes", value=self["num_values"], a=self["bytes"])
        tokens = self["num_virtual_tokens"]
        lines: list[tuple[str, str]] = [("file", f"{self['file']} ({say(size)})")]
        length = Message("{n} virtual token{n!p}", n=tokens)
        lines.append(("method", f"{self['method']}, {say(length)}" if tokens else self["method"]))
        revision = f" at {base['revision']}" if base["revision"] else ""
        lines.append(("base", f"{base['id']}{revision} ({base['architecture']})"))
        lines += [(name, repr(task[name])) for name in ("template", "guidance") if task.get(name)]
        if task.get("verbalizer"):
            lines.append(("label words", ", ".join(f"{k} -> {_words(v)}" for k, v in task["verbalizer"].items())))
        lines += [
            (Message("{name} on test", name=name), _with_interval(figure)) for name, figure in self["metrics"].items()
        ]
        chosen = _chosen(settings)
        lines.append(("settings", ", ".join(f"{k}={v}" for k, v in chosen.items()) or say("the defaults")))
        lines.append(("golden rows", Message("{value}, replayed by foreword verify", value=self["golden_rows"])))
        lines.append(
            ("made", Message("{value} with torch {a}", value=self["created"], a=self["libraries"].get("torch", "?")))
        )
        if self["license"] or self["notes"]:
            lines.append(("notes", " ".join(part for part in (self["license"], self["notes"]) if part)))
        return "\n".join(text_table([(say(name), say_if_known(value)) for name, value in lines]))


def _words(words: object) -> str:
    return " or ".join(map(repr, words)) if isinstance(words, list) else repr(words)


def _with_interval(figure: dict[str, Any]) -> str:
    between = "" if figure["low"] is None else f" [{figure['low']:.3g}, {figure['high']:.3g}]"
    return Message("{value:.3g}{between} over {a} rows", value=figure["value"], between=between, a=figure["rows"])


def _chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not the defaults, and the method's own."""
    usual = TrainSettings().to_json()
    training = {k: v for k, v in (settings.get("training") or {}).items() if usual.get(k) != v}
    rate = settings.get("learning_rate")
    return {**(settings.get("method") or {}), **training, **({} if rate is None else {"learning_rate": rate})}


def show(file: str | Path) -> FileFacts:
    """A file's manifest and table of tensors. Raises FileFormatError for a file that is not a foreword.

    >>> from foreword.api import show
    >>> facts = show("model.foreword")
    >>> facts["method"], facts["num_virtual_tokens"], facts["task"]["kind"]
    ('prefix', 4, 'classification')
    """
    found = peek(file)
    manifest = found.manifest.model_dump()
    golden = manifest.pop("golden")
    return FileFacts(
        {
            "file": str(file),
            "bytes": Path(file).stat().st_size,
            "num_virtual_tokens": found.num_virtual_tokens,
            "num_values": found.num_values,
            "golden_rows": len(golden),
            **manifest,
        }
    )


def ls(folder: str | Path = ".") -> list[dict[str, Any]]:
    """The ``.foreword`` files below ``folder``, one dict each; a damaged file is listed with what is wrong.

    >>> from foreword.api import ls
    >>> [(row["file"], row["method"]) for row in ls("saved")]
    [('saved/model.foreword', 'prefix')]
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(Path(folder).rglob("*.foreword")):
        try:
            facts = show(path)
        except FileFormatError as problem:
            rows.append({"file": str(path), "problem": problem.problem})
            continue
        figures = {name: figure["value"] for name, figure in facts["metrics"].items()}
        rows.append(
            {
                "file": str(path),
                "method": facts["method"],
                "base": facts["base"]["id"].rsplit("/", 1)[-1],
                "virtual_tokens": facts["num_virtual_tokens"],
                "bytes": facts["bytes"],
                "metrics": figures,
                "created": facts["created"],
            }
        )
    return rows


@dataclass(frozen=True)
class _Memory:
    total: int
    free: int


def doctor() -> dict[str, Any]:
    """Versions, devices, memory, threads and caches; offline settings that are in force.

    torch is not imported, which takes longer than all of this: the devices are those that the system names.

    >>> from foreword.api import doctor
    >>> sorted(doctor())[:3]
    ['cache', 'devices', 'environment']
    """
    memory = _memory()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "devices": ["cpu", *_accelerators()],
        "torch_build": _torch_build(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0)),
        "memory_gib": None if memory is None else {"total": memory.total / 2**30, "free": memory.free / 2**30},
        "cache": str(cache_folder()),
        "environment": {
            k: v
            for k, v in sorted(os.environ.items())
            if k in ("HF_HOME", "HF_HUB_OFFLINE") or k.startswith("FOREWORD_")
        },
    }


def _accelerators() -> list[str]:
    """The graphics processors that the driver names, and Apple's."""
    if platform.system() == "Darwin":
        return ["mps"] if platform.machine() == "arm64" else []
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [line.partition(":")[2].strip() for path in files for line in _lines(path) if line.startswith("Model:")]
    return [f"cuda:{index} {model}" for index, model in enumerate(models)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _torch_build() -> str:
    """What torch was built for: ``cpu``, ``CUDA 12.8`` and so on, as its own file says."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return "not installed"
    text = "\n".join(_lines(Path(spec.origin).with_name("version.py")))
    built = dict(re.findall(r"(?m)^(\w+)(?:: [^=\n]+)? = '([^']+)'", text))
    names = {"cuda": "CUDA", "hip": "ROCm", "xpu": "XPU"}
    return next((f"{name} {built[key]}" for key, name in names.items() if key in built), "cpu")


def _memory() -> _Memory | None:
    """Bytes of memory, where the system says so (Linux)."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    kib = {name: int(value.split()[0]) for name, value in lines.items()}
    return _Memory(kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024)
