"""Plain text alone teaches a voice: read, cut at the window, learned, measured by perplexity, gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.artifact.store import load
from foreword.cli.main import main
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.tokens.examples import Encoder
from foreword.data.tokens.windows import CONTINUES, in_windows
from foreword.errors import DataError, SettingsError
from foreword.testing import byte_tokenizer

VOICE = ["Aye, the sea be {} today.", "The wind did {} us home.", "A {} gull sat on the mast.", "We saw {} whales."]


def text(count: int) -> str:
    """Paragraphs, some of two lines."""
    paragraphs = [VOICE[i % 4].format(f"w{i}") + ("\nSo it was." if i % 3 == 0 else "") for i in range(count)]
    return "\n\n".join(paragraphs) + "\n"


def test_paragraphs_or_lines_or_one_column_are_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(4))
    table = read(tmp_path / "a.txt")
    assert (table.layout.plain, table.layout.inputs, table.layout.target) == (True, ("text",), "")
    assert [row.source.line for row in table.rows] == [1, 4, 6, 8]
    assert table.rows[0].fields["text"] == "Aye, the sea be w0 today.\nSo it was."
    (tmp_path / "b.txt").write_text("one line\nanother\n\n")
    assert [row.fields["text"] for row in read(tmp_path / "b.txt").rows] == ["one line", "another"]
    (tmp_path / "c.csv").write_text("id,body\n1,hello\n2,world\n")
    assert read(tmp_path / "c.csv").layout.inputs == ("body",)
    with pytest.raises(DataError, match="not recognised"):
        read([{"first": "a", "second": "b"}])
    with pytest.raises(DataError, match="not recognised"):
        read(tmp_path / "c.csv", kind="classification")
    (tmp_path / "pairs.txt").write_text("Hello\tHi\nWho?\tMe.\n")
    assert not read(tmp_path / "pairs.txt").layout.plain


def test_every_token_behind_the_first_is_learned_and_the_end() -> None:
    tok = byte_tokenizer()
    table = read([{"text": "Say </s> now"}, {"text": "x"}])
    task = make_task(table)
    assert (task.metric, task.guidance, task.template) == ("perplexity", "", "{{ text }}")
    first, second = Encoder(task, tok, False).encode(table.rows)
    assert tok.decode([*first.input_ids, *first.target_ids[:-1]]) == "Say </s> now"
    assert (first.target_ids[-1], list(first.target_ids).count(2)) == (2, 1)
    assert (len(second.input_ids), second.target_ids) == (1, (2,))
    [on] = Encoder(task, tok, False).encode(table.rows[:1], labelled=False)
    assert (tok.decode(list(on.input_ids)), on.target_ids) == ("Say </s> now", ())


def test_long_texts_are_cut_at_the_window_and_nothing_is_lost() -> None:
    tok = byte_tokenizer()
    table = read([{"text": "short"}, {"text": "0123456789" * 10}])
    task = make_task(table)
    cut, problems = in_windows(table, task, tok, 30)
    assert "".join(str(row.fields["text"]) for row in cut.rows) == "short" + "0123456789" * 10
    assert [len(str(row.fields["text"])) for row in cut.rows] == [5, 30, 30, 30, 10]
    assert [row.fields.get(CONTINUES) for row in cut.rows] == [None, True, True, True, False]
    [problem] = problems
    assert (problem.kind, problem.where) == ("cut_rows", "list:2")
    ends = [example.target_ids[-1] == 2 for example in Encoder(task, tok, False).encode(cut.rows)]
    assert ends == [True, False, False, False, True]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_run_learns_the_voice_and_goes_on_in_it(
    family: str, base: Callable[[str], str], request_of: Callable[..., Any], tmp_path: Path
) -> None:
    data = tmp_path / "voice.txt"
    data.write_text(text(60) + "\n" + "All the " * 120 + "\n")
    request = request_of(str(data), base(family), tmp_path / "run", task={"guidance": "Speak as a sailor.\n"})
    result = api.train(request)
    assert result.metric == "perplexity"
    assert result.outcome == "learned"
    assert set(result.systems["foreword"]["metrics"]) == {"perplexity"}
    assert result.difference is not None
    assert result.difference["metric"] == "perplexity"
    assert "texts longer than the window, cut there" in result.text
    assert "same answer" not in result.text
    assert load(result.file)[1].task["plain"] is True
    assert api.verify(result.file).ok
    held = tmp_path / "held.txt"
    held.write_text(text(9))
    found = api.evaluate(result.file, held)
    assert found["rows"] == 9
    assert found["metrics"]["perplexity"]["value"] > 1
    assert api.generate(result.file, "The sea", max_new_tokens=4) is not None
    assert len(api.predict(result.file, ["The sea", "A gull"], max_new_tokens=3)) == 2


def test_the_command_line_says_what_it_learns(
    base: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "voice.txt"
    data.write_text(text(40))
    assert main(["check", str(data)]) == 0
    assert "text (plain text, learned as it stands)" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="learned as it stands"):
        make_task(read(data), metric="bleu")
    with pytest.raises(SettingsError, match="learned as it stands"):
        make_task(read(data), chat=True)
