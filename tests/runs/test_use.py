"""A foreword in use: texts, frames and files in; the user's own columns out; rows that cannot be answered counted."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from foreword import api
from foreword.cli.main import main
from foreword.data.task.task import Task
from foreword.errors import BaseMismatchError, DataError, SettingsError
from foreword.evaluation.predictions import read_jsonl
from foreword.methods.base import Start, make, make_writer
from foreword.runs.train.result import TrainResult
from foreword.runs.use.verify import golden_rows


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, base: Callable[[str], str], request_of: Any, rows_of: Any
) -> TrainResult:
    """A text prompt on a tiny base."""
    folder = tmp_path_factory.mktemp("use")
    return api.train(request_of(rows_of("words", 60), base("llama"), folder / "run", method="text"))


TEXTS = ["abcdefgx", "abcdefgz", "zzzzabcd"]


def test_texts_in_a_list_a_frame_a_file_and_standard_input_are_answered_alike(
    run: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [p.output for p in (api.predict(run.file, text=text)[0] for text in TEXTS)]
    assert [p.output for p in api.predict(run.file, TEXTS)] == wanted
    assert [p.output for p in run.predict(pd.DataFrame({"text": TEXTS}))] == wanted
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(TEXTS) + "\n")
    assert [p.output for p in api.predict(run.file, lines)] == wanted
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    assert main(["predict", run.file, "-", "--json"]) == 0
    assert [row["output"] for row in json.loads(capsys.readouterr().out)] == wanted


def test_ids_and_columns_go_through_to_every_kind_of_file(run: TrainResult, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("id,text,price\n" + "".join(f"T-{i},{text},{i}.50\n" for i, text in enumerate(TEXTS)))
    api.predict(run.file, rows, output=tmp_path / "p.jsonl")
    found = read_jsonl(tmp_path / "p.jsonl")
    assert [p.id for p in found] == ["T-0", "T-1", "T-2"]
    assert dict(found[1].columns) == {"price": "1.50"}
    answers = api.predict(run.file, rows, output=tmp_path / "p.csv")
    frame = pd.read_csv(tmp_path / "p.csv")
    assert list(frame.columns[:5]) == ["id", "text", "price", "output", "score"]
    assert list(frame["output"]) == [p.output for p in answers] == list(answers.to_frame()["output"])
    api.predict(run.file, rows, output=tmp_path / "p.parquet")
    assert list(pd.read_parquet(tmp_path / "p.parquet")["id"]) == ["T-0", "T-1", "T-2"]
    with pytest.raises(SettingsError, match=r"\.csv"):
        api.predict(run.file, rows, output=tmp_path / "p.xlsx")


def test_ids_that_are_not_unique_do_not_name_rows(run: TrainResult) -> None:
    answers = api.predict(run.file, [{"id": 1, "text": TEXTS[0]}, {"id": 1, "text": TEXTS[1]}])
    assert len({p.id for p in answers}) == 2
    assert [p.columns["id"] for p in answers] == [1, 1]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_row_that_cannot_be_answered_does_not_keep_the_others(
    run: TrainResult, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(f"text,label\nabcx,yes\n{'long ' * 300},no\nabcz,no\n")
    assert main([command, run.file, str(rows)]) == 3
    assert "--skip-bad" in capsys.readouterr().err
    assert main([command, run.file, str(rows), "--skip-bad", "--json"]) == 0
    out, err = capsys.readouterr()
    shown = json.loads(out)
    if command == "predict":
        assert len(shown) == 2
        assert "1 rows were skipped" in err
        assert f"{rows}:3" in err
    else:
        assert (shown["rows"], shown["skipped"]) == (2, 1)
    with pytest.raises(DataError, match="no row can be answered"):
        api.predict(run.file, ["long " * 300], skip_bad=True)


def test_decoding_is_refused_where_nothing_is_written(run: TrainResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", run.file, "--text", "abc", "--max-new-tokens", "3"]) == 2
    assert "does not write" in capsys.readouterr().err


def test_the_data_are_not_written_over(run: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nabcx,yes\nabcz,no\n")
    (tmp_path / "link.csv").symlink_to(rows)
    before = rows.read_bytes()
    for output in (rows, tmp_path / "link.csv", run.file):
        for command in ("predict", "evaluate"):
            assert main([command, run.file, str(rows), "--output", str(output)]) == 2
    assert rows.read_bytes() == before
    assert "over an input" in capsys.readouterr().err


def test_results_show_themselves_shortly(run: TrainResult, rows_of: Any) -> None:
    figures = api.evaluate(run.file, rows_of("words", 20), progress=False)
    value, manifest = api.load(run.file)
    answers = api.predict(run.file, TEXTS)
    for shown in (run, figures, value, manifest, answers, run.foreword):
        assert len(repr(shown)) < 400
    assert list(figures.to_frame().columns[:3]) == ["value", "low", "high"]
    assert "foreword" in set(run.to_frame()["system"])
    for shown in (run, figures, answers):
        assert "<table>" in shown._repr_html_()
    assert html.escape(run.verdict[0]) in run._repr_html_()


def test_a_run_can_be_replaced_from_python(tmp_path: Path, base: Callable[[str], str], rows_of: Any) -> None:
    asked = {"base": base("llama"), "output_dir": tmp_path / "run", "method": "text", "progress": False}
    first = api.train(rows_of("words", 60), **asked)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="overwrite=True"):
        api.train(rows_of("words", 60), **asked)  # type: ignore[arg-type]
    assert api.train(rows_of("words", 60), **asked, overwrite=True).file == first.file  # type: ignore[arg-type]


def test_progress_is_shown_unless_it_is_not_wanted(
    tmp_path: Path, base: Callable[[str], str], rows_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (asked, shown) in enumerate([({}, True), ({"progress": False}, False)]):
        api.train(rows_of("words", 60), base=base("llama"), output_dir=tmp_path / str(number), method="text", **asked)
        assert bool(capsys.readouterr().err) is shown


def test_a_file_saved_from_another_loop_is_predicted_with_and_verified(
    base: Callable[[str], str], tmp_path: Path
) -> None:
    loaded = api.load_base(base("llama"))
    words = {"no": " no", "yes": " yes"}
    task = Task("classification", "{{ text }}:", "Say yes or no.", "label", verbalizer=words)
    start = Start(loaded.model, ids=tuple(loaded.tokenizer("Say yes or no.").input_ids))
    golden = golden_rows(task, loaded.model, loaded.tokenizer, [{"text": text} for text in TEXTS])
    model = api.attach(loaded.model, make_writer(make("prefix"), start), loaded.tokenizer, task=task, golden=golden)
    model.save_pretrained(tmp_path / "learned")
    model.detach()
    file = tmp_path / "learned" / "model.foreword"
    assert api.verify(file).ok
    assert {p.output for p in api.predict(file, TEXTS)} <= {"no", "yes"}


@pytest.mark.parametrize(
    ("written", "read"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")]
)
def test_a_file_is_read_on_its_base_in_another_number_format(
    base: Callable[[str], str], tmp_path: Path, written: str, read: str
) -> None:
    loaded = api.load_base(base("llama"), dtype=written)
    task = Task("classification", "{{ text }}:", "Say yes or no.", "label", verbalizer={"no": " no", "yes": " yes"})
    start = Start(loaded.model, ids=tuple(loaded.tokenizer("Say yes or no.").input_ids))
    golden = golden_rows(task, loaded.model, loaded.tokenizer, [{"text": text} for text in TEXTS])
    model = api.attach(loaded.model, make_writer(make("prefix"), start), loaded.tokenizer, task=task, golden=golden)
    model.save_pretrained(tmp_path)
    report = api.verify(tmp_path / "model.foreword", api.load_base(base("llama"), dtype=read))
    assert report.ok
    assert f"in {written} and this one is in {read}: by rounding, scores differ" in report.render()
    assert max(row["change"] for row in report.rows) > 1e-4
    same = api.verify(tmp_path / "model.foreword", api.load_base(base("llama"), dtype=written))
    assert (same.ok, same.note) == (True, "")
    other = api.load_base(base("gpt2"), dtype=read)
    with pytest.raises(BaseMismatchError, match="weights differ"):
        api.verify(tmp_path / "model.foreword", other)


def test_a_run_is_gone_on_with_from_another_folder(
    tmp_path: Path, base: Callable[[str], str], rows_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{row['text']},{row['label']}\n" for row in rows_of("words", 60)]
    (tmp_path / "rows.csv").write_text("".join(["text,label\n", *lines]))
    monkeypatch.chdir(tmp_path)
    asked = ["train", "rows.csv", "--base", base("llama"), "--output-dir", "run", "--method", "text"]
    assert main(asked) == 0
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert main(["train", "--resume", "../run"]) == 0
    settings = (tmp_path / "run" / "settings.yaml").read_text()
    assert "Text: {{ text }}" in settings
    assert "Decide which label fits" in settings


def test_show_fits_a_screen(run: TrainResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", run.file]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 24
    assert "no -> " in out
    assert main(["ls", str(Path(run.file).parent)]) == 0
    assert "kB" in capsys.readouterr().out
