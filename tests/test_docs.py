"""What the documents show is run: Python blocks, commands and the files they need, page by page, on tiny models.

A page's blocks are run in their order in one folder and one namespace:

- ``python``: run; a ``text`` block right behind it is what it prints. A block that begins with ``>>>`` is a doctest,
  and one whose first line is a comment with a path under ``foreword/`` is a file of the package and is put there.
- ``console``: each ``$`` line is a command; what stands below it is what it prints. ``$ echo $?`` shows the exit code,
  and ``$ export NAME=VALUE`` holds to the end of the page.
- any language with a file's name behind it (``csv reviews.csv``) is written to that file.
- ``form`` behind ``text`` or ``console``: the page shows a real model's figures, so only the form is compared: numbers,
  labels and verdicts may differ.

Blocks of other languages (``bash`` for installing, plain ones for drawings) are read by people only. Hub ids resolve to
folders of the same name, in which a tiny random model stands.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from foreword import errors
from foreword.cli.commands import COMMANDS
from foreword.cli.main import main
from foreword.methods.base import registry
from foreword.settings.schema import BaseSettings, TaskOptions, TrainSettings
from foreword.testing.method_contracts import FAMILIES, REFUSED, byte_tokenizer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages that show nothing to run.
PROSE = {"families.md", "architecture.md", "log.md", "scale.md", "screens.md"}
# The bases that pages name, and the family of the tiny model that stands for each.
BASES = {"HuggingFaceTB/SmolLM2-135M-Instruct": "llama", "answerdotai/ModernBERT-base": "modernbert"}
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: language, words behind the language, text, and whether only white space stands before it."""

    language: str
    words: tuple[str, ...]
    text: str
    follows: bool
    line: int


def blocks_of(page: Path) -> list[Block]:
    source, found, end = page.read_text("utf-8"), [], 0
    for match in _FENCE.finditer(source):
        language, *words = match.group(1).split() or [""]
        follows = not source[end : match.start()].strip()
        found.append(Block(language, tuple(words), match.group(2), follows, source.count("\n", 0, match.start()) + 1))
        end = match.end()
    return found


_VERDICT = re.compile(
    "note: |warning: |the foreword (is|cannot)|The foreword (is|cannot)|Nothing (useful|learned)|"
    "Beside the prompt alone|That was shown of this|There are only|By another metric|No (dev|test) row|"
    "The .* rows make|Paired difference in|.* of the test rows are|.* nearly repeat|.* fell from"
)
"""Lines of a verdict: which of them a tiny base gets is chance."""


def form(text: str) -> str:
    """A text without what depends on the model: numbers, labels, verdicts, notes, widths."""
    lines = [line for line in text.splitlines() if not _VERDICT.match(line)]
    text = "\n".join(lines)
    text = re.sub(r"is better than|is worse than|cannot be told from", "VERDICT", text)
    text = re.sub(r"positive|negative", "LABEL", text)
    text = re.sub(r"p [<=] ", "p ", text)
    text = re.sub(r"[+-]?\d[\d,.]*", "0", text)
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in text.splitlines()).strip()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny bases, data files, and a learned ``model.foreword``."""
    folder = tmp_path_factory.mktemp("docs")
    for name, family in BASES.items():
        spec = FAMILIES[family]
        # An encoder has the language head that it was pretrained with.
        architecture = re.sub("Model$", "ForMaskedLM", spec.model)
        config = getattr(transformers, spec.config)(**{**spec.settings, "max_position_embeddings": 512})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(transformers, architecture)(config)
        model.save_pretrained(folder / name)
        byte_tokenizer(chat=True, mask=True).save_pretrained(folder / name)
    for name, rows, seed in (("reviews.csv", 160, 1), ("test.csv", 20, 2)):
        (folder / name).write_text("text,label\n" + "".join(_reviews(rows, seed)), encoding="utf-8")
    with _inside(folder), contextlib.redirect_stdout(io.StringIO()):
        base = next(iter(BASES))
        flags = ["--learning-rate", "0.02", "--set", "max_steps=12", "--test", "test.csv"]
        assert main(["train", "reviews.csv", "--base", base, "--output-dir", "made", *flags]) == 0
    shutil.copy(folder / "made" / "model.foreword", folder / "model.foreword")
    shutil.rmtree(folder / "made")
    return folder


def _reviews(rows: int, seed: int) -> Iterator[str]:
    """Rows of ``text,label`` without near duplicates. More of one class: that much the tiny model can learn."""
    dice = random.Random(seed)
    for index in range(rows):
        words = ["".join(dice.choices("aeioubdgklmnprst", k=dice.randint(3, 7))) for _ in range(6)]
        yield f"{' '.join(words)},{'positive' if index % 3 < 2 else 'negative'}\n"


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before, environment = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


def test_every_page_shows_something() -> None:
    for page in PAGES:
        assert page.name in PROSE or any(b.language in ("python", "console") for b in blocks_of(page)), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, prepared: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    if any(_package_file(b) for b in blocks):
        _run_with_package_files(blocks, tmp_path)
        return
    folder = tmp_path / "page"
    shutil.copytree(prepared, folder)
    with _inside(folder):
        run_page(page.name, blocks)


def run_page(page: str, blocks: list[Block]) -> None:
    """Run a page's blocks in the working folder."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks:
        where = f"{page}:{block.line}"
        if block.language == "text" and block.follows and printed is not None:
            _compare(printed, block.text, block, where)
            printed = None
        elif block.language == "python":
            printed = _python(block, names, where)
        elif block.language == "console":
            _console(block, where)
        elif block.words and "." in block.words[0]:
            Path(block.words[0]).write_text(block.text, encoding="utf-8")


def _compare(got: str, expected: str, block: Block, where: str) -> None:
    if "form" in block.words:
        got, expected = form(got), form(expected)
    assert got.rstrip("\n") == expected.rstrip("\n"), f"{where}: the page shows something else than is printed"


def _python(block: Block, names: dict[str, Any], where: str) -> str:
    if block.text.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(block.text, names, where, None, 0)
        out = io.StringIO()
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        assert not runner.run(test, out=out.write, clear_globs=False).failed, out.getvalue()
        names.update(test.globs)
        return ""
    with contextlib.redirect_stdout(io.StringIO()) as out, warnings.catch_warnings():
        # Other people's loops warn about what they like; the page shows what is printed.
        warnings.simplefilter("ignore")
        exec(compile(block.text, where, "exec"), names)
    return out.getvalue()


def _console(block: Block, where: str) -> None:
    parts = re.split(r"(?m)^\$ ", block.text)
    code = 0
    for part in parts[1:]:
        lines = part.split("\n")
        end = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
        command, expected = " ".join(line.rstrip("\\") for line in lines[: end + 1]), "\n".join(lines[end + 1 :])
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            os.environ[name] = value
            continue
        if command == "echo $?":
            _compare(str(code), expected, block, where)
            continue
        code, printed = _command(command)
        assert code == 0 or expected.strip(), f"{where}: {command} ends with {code}:\n{printed}"
        if expected.strip():
            _compare(printed, expected.strip("\n"), block, f"{where}: {command}")


def _command(command: str) -> tuple[int, str]:
    """The exit code of a foreword command, and what a reader sees of it: its output, then its error."""
    program, *words = shlex.split(command)
    assert program == "foreword"
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    said = err.getvalue()
    return code, out.getvalue() + (said[said.index("foreword: ") :] if "foreword: " in said else "")


def _package_file(block: Block) -> str:
    """The path that a block's first line names, for a block that is a file of the package."""
    found = re.match(r"# (foreword/\S+\.(?:py|toml))\n", block.text)
    return found.group(1) if found and block.language in ("python", "toml") else ""


_RUNNER = """
import sys, importlib
from pathlib import Path
for package in sys.argv[2:]:
    module = importlib.import_module(package.replace("/", "."))
    module.__path__.append(str(Path(sys.argv[1]) / package))
exec(compile(Path(sys.argv[1], "page.py").read_text(), "page.py", "exec"), {"__name__": "__main__"})
"""


def _run_with_package_files(blocks: list[Block], folder: Path) -> None:
    """In a process of its own, so that no other test finds the page's files in the package."""
    rooms, page, expected = set(), "", ""
    for block in blocks:
        path = _package_file(block)
        if path:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(block.text, encoding="utf-8")
            room = Path(path).parent
            rooms.add(str(room if path.endswith(".py") else room.parent))
        elif block.language == "python":
            page += block.text + "\n"
        elif block.language == "text" and block.follows:
            expected += block.text
    (folder / "page.py").write_text(page, encoding="utf-8")
    command = [sys.executable, "-c", _RUNNER, str(folder), *sorted(rooms)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = _FENCE.sub("", page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_families_are_named() -> None:
    """Every tiny family that the contracts run on, and every one that is refused, stands in the README's table."""
    for readme in PAGES[:2]:
        words = re.sub(r"[\W_]+", "", readme.read_text("utf-8").lower())
        for name in (*FAMILIES, *REFUSED):
            assert re.sub(r"\W|_", "", name) in words, f"{readme.name} does not name {name}"


def test_error_tree_is_the_one_in_the_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    tree = re.search(r"(?s)^    ForewordError.*?(?=\n\n)", errors.__doc__ or "", re.MULTILINE)
    assert tree is not None
    assert re.sub(r"(?m)^ {4}", "", tree.group(0)) in page
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.ForewordError):
            line = re.search(rf"(?m)^\s*{name} +(?:exit code )?(\d+)", tree.group(0))
            assert line is not None, f"{name} is not in the tree"
            assert int(line.group(1)) == kind.exit_code


def test_names_are_described() -> None:
    """Every public name, command and setting has its place in the documents."""
    import foreword

    api = (ROOT / "docs" / "python-api.md").read_text("utf-8")
    assert len(foreword.__all__) <= 12
    for name in foreword.__all__:
        assert f"`{name}" in api, f"{name} is not described in python-api.md"
    quickstart = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    for name in COMMANDS:
        assert f"foreword {name}" in quickstart, f"{name} is not in quickstart.md"


# Settings whose default says less than what follows from it.
CHOSEN = {"metric"}


def _shown(default: float | str) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return default if isinstance(default, str) else f"{default:g}"


def test_settings_are_described() -> None:
    """Each setting is in the table of its section with its default, and no other stands there."""
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for section, kind in (("task", TaskOptions), ("training", TrainSettings), ("base", BaseSettings)):
        table = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        rows = dict(re.findall(r"(?m)^\| `(\w+)` \| ([^|]*?) \|", table))
        assert set(rows) == {field.name for field in fields(kind)}
        for field in fields(kind):
            if field.name not in CHOSEN and isinstance(field.default, int | float | str):
                assert rows[field.name] == _shown(field.default), field.name
    methods = page.partition("\n## method\n")[2]
    for name, method in registry().items():
        assert f"| `{name}` |" in methods, f"the method {name} is not in settings.md"
        for field in fields(method):
            assert f"`{field.name}`" in methods, f"{name}'s setting {field.name} is not in settings.md"
