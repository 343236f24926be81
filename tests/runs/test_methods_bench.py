"""bench/methods.py on tiny bases: every method has its row, what did not learn is named, and the page has them all."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreword.core.base.load import load_base
from foreword.methods.base import registry
from foreword.runs.prepare.prepare import say_nothing

ROOT = Path(__file__).parents[2]
RowsOf = Callable[[str, int], list[dict[str, str]]]


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_methods", ROOT / "bench" / "methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rows(bench: Any, rows_of: RowsOf) -> Any:
    names = dict(zip(("no", "yes"), bench.TOPICS, strict=False))
    made = [{"text": row["text"], "label": names[row["label"]]} for row in rows_of("words", 48)]
    return {"train": made[:16], "dev": made[16:24], "test": made[24:]}


def test_every_method_says_when_to_choose_it_and_what_it_cannot_do() -> None:
    for name, method in registry().items():
        for text in (method.choose, method.limits):
            assert text, f"the method {name} says nothing of itself: give it `choose` and `limits`"
            assert re.fullmatch(r"[^A-Z|\n][^|\n]*[^.;|\n]", text), name


def test_a_row_for_every_method(bench: Any, base: Callable[[str], str], rows: Any, tmp_path: Path) -> None:
    setups = [replace(setup, epochs=0.5, batch=8) for setup in (bench.DECODER, bench.ENCODER)]
    bases = [(setup, load_base(base(family))) for setup, family in zip(setups, ("llama", "bert"), strict=True)]
    results = bench.measured(bases, rows, tmp_path, say_nothing)
    trained = [name for name, method in registry().items() if method.learning_rates]
    assert [one["method"] for one in results] == [*registry(), *trained]
    assert json.loads(json.dumps(results)) == results
    for one in results:
        assert one["beats"] is (one["difference"]["interval"]["low"] > 0 if one["difference"] else None)
        assert one["rows"] == {"train": 16, "dev": 8, "test": 24}
    # Given again, it reads what is there.
    again = bench.measured(bases, rows, tmp_path, say_nothing)
    assert [{**one, "seconds": 0} for one in again] == [{**one, "seconds": 0} for one in results]
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{bench.BEGIN}\nTHE LAST TABLE\n{bench.END}\n\nafter\n", encoding="utf-8")
    bench.write(page, bench.table(results, setups, ("llama", "lstm")))
    text = page.read_text(encoding="utf-8")
    assert re.fullmatch(r"(?s)before\n.*\nafter\n", text)
    assert "THE LAST TABLE" not in text
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == list(registry())
    assert len({line.count("|") for line in lines}) == 1
    assert "decoders; not lstm |" in next(line for line in lines if "`lora`" in line)
    assert "all but classes by a head and tags" in next(line for line in lines if "`text`" in line)


def test_who_does_not_beat_its_start_is_named(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = [{"method": m, "base": "b", "beats": beats} for m, beats in (("a", True), ("c", False), ("text", None))]
    assert bench.failures(results) == ["c on b"]
    for found, code in ((results, 1), (results[:1], 0)):
        monkeypatch.setattr(bench, "measured", lambda *_, found=found: found)
        monkeypatch.setattr(bench, "table", lambda *_: "the table")
        monkeypatch.setattr(bench, "load_base", lambda *_, **__: None)
        monkeypatch.setattr(bench, "stories", lambda _: {})
        monkeypatch.setattr(sys, "argv", ["methods.py", "--base", "x", "--encoder", "y"])
        assert bench.main() == code


def test_labels_are_drawn_in_turns_and_no_text_comes_twice(bench: Any) -> None:
    rows = [{"text": f"{label}{i % 20}", "label": label} for label, n in (("a", 40), ("b", 3)) for i in range(n)]
    drawn = bench.draw(rows, 12)
    assert Counter(row["label"] for row in drawn) == {"a": 9, "b": 3}
    assert len({row["text"] for row in drawn}) == 12
    assert drawn == bench.draw(rows, 12)


def test_a_page_without_the_marks_stays_as_it_is(bench: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing to fill in\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        bench.write(page, "a table")
    assert page.read_text(encoding="utf-8") == "nothing to fill in\n"


def test_the_page_has_every_method(bench: Any) -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    made = text.partition(bench.BEGIN)[2].partition(bench.END)[0]
    rows = dict(re.findall(r"(?m)^\| `(\w+)` (\|.*\|)$", made))
    assert list(rows) == list(registry()), "run `python bench/methods.py --write docs/methods.md`"
    for name, method in registry().items():
        assert rows[name].endswith(f"| {method.choose} | {method.limits} |"), name
