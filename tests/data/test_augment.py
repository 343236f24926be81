"""Rows in other forms: the label stays, the seed decides, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreword.data.quality.augment import Augmenter, read_synonyms, with_template
from foreword.data.readers.read import read
from foreword.data.row import Row
from foreword.data.task.infer import make_task
from foreword.errors import DataError, SettingsError, TemplateError

TEXT = "A good film, with a plot that nobody could have made up in a year."
TABLE = read([{"text": TEXT, "label": "good"}, {"text": "Dull.", "label": "bad"}])
TASK = make_task(TABLE)
TAGGED = read([{"tokens": "the good old New York of ours", "tags": "O O O B-place I-place O O"}])


def forms(augmenter: Augmenter, row: Row, field: str = "text", epochs: int = 40) -> set[str]:
    made = [augmenter.vary(row, epoch) for epoch in range(epochs)]
    return {str(one.fields[field]) for one in made if one is not None}


def test_the_seed_the_epoch_and_the_row_decide() -> None:
    augmenter = Augmenter(TASK, ("case", "dropout", "punctuation"))
    first = [augmenter.vary(row, epoch) for epoch in range(5) for row in TABLE.rows]
    assert first == [augmenter.vary(row, epoch) for epoch in range(5) for row in TABLE.rows]
    assert first != [Augmenter(TASK, augmenter.forms, seed=14).vary(row, e) for e in range(5) for row in TABLE.rows]
    assert all(one.fields["label"] in ("good", "bad") for one in first if one)
    varied = [Augmenter(TASK, ("case",), share=0.3).vary(TABLE.rows[0], epoch) for epoch in range(300)]
    assert 60 < sum(one is not None for one in varied) < 120
    assert Augmenter(TASK, ("case",), share=0).vary(TABLE.rows[0], 1) is None


def test_each_form() -> None:
    row = TABLE.rows[0]
    assert forms(Augmenter(TASK, ("case",), 1), row) == {TEXT.lower(), TEXT.upper(), "a" + TEXT[1:]}
    assert forms(Augmenter(TASK, ("punctuation",), 1), row) == {TEXT[:-1]}
    for text in forms(Augmenter(TASK, ("dropout",), 1, dropout=0.3), row):
        words = TEXT.split()
        assert set(text.split()) <= set(words)
        assert 0 < len(text.split()) <= len(words)
        assert "  " not in text
    assert forms(Augmenter(TASK, ("dropout",), 1, dropout=1.0), row) == set()  # something has to be left
    groups = {"good": ("fine", "great"), "made up": ("invented",)}
    texts = forms(Augmenter(TASK, ("synonyms",), 1, synonyms=groups), row)
    assert any("fine" in text for text in texts)
    assert any("have invented in" in text for text in texts)


def test_words_are_counted() -> None:
    made = Augmenter(TASK, ("synonyms",), 1, synonyms={"good": ("fine",)}).vary
    counts = {one.words for epoch in range(20) if (one := made(TABLE.rows[0], epoch))}
    assert counts == {1}


def test_chinese_text_keeps_its_characters_and_changes_the_width_of_marks() -> None:
    text = "房间很干净，服务也热情。"
    row = read([{"text": text, "label": "好"}, {"text": "差", "label": "坏"}]).rows[0]
    texts = forms(Augmenter(TASK, ("punctuation",), 1), row)
    assert texts == {"房间很干净,服务也热情.", "房间很干净，服务也热情"}
    assert all(set(one) <= set(text) for one in forms(Augmenter(TASK, ("dropout",), 1, dropout=0.3), row))
    assert any("屋子很" in one for one in forms(Augmenter(TASK, ("synonyms",), 1, synonyms={"房间": ("屋子",)}), row))


def test_tags_move_with_their_words() -> None:
    task = make_task(TAGGED)
    augmenter = Augmenter(task, ("case", "dropout", "synonyms"), 1, 0.4, {"old": ("very old",)})
    for epoch in range(40):
        made = augmenter.vary(TAGGED.rows[0], epoch)
        if made is not None:
            words, tags = str(made.fields["tokens"]).split(" "), str(made.fields["tags"]).split(" ")
            assert len(words) == len(tags)
            assert [w.lower() for w, t in zip(words, tags, strict=True) if t != "O"] == ["new", "york"]
    with pytest.raises(SettingsError, match="punctuation"):
        Augmenter(task, ("punctuation",))


def test_variants_of_the_template() -> None:
    augmenter = Augmenter(TASK, ("template",), 1, templates=("Review: {{ text }}\nIt is", "{{ text }} ="))
    made = [one for epoch in range(20) if (one := augmenter.vary(TABLE.rows[0], epoch))]
    assert {one.template for one in made} == set(augmenter.templates)
    assert with_template(TASK, made[0]).template == made[0].template
    with pytest.raises(SettingsError, match="leaves out"):
        Augmenter(TASK, ("template",), templates=("It is",))
    with pytest.raises(TemplateError):
        Augmenter(TASK, ("template",), templates=("{{ text",))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"forms": ("cases",)}, "no such form"),
        ({"forms": ("synonyms",)}, "own setting"),
        ({"forms": ("case",), "synonyms": {"a": ("b",)}}, "own setting"),
        ({"forms": ("template",)}, "own setting"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Augmenter(TASK, **settings)


def test_a_file_of_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# mine\ngood, Fine,great\n\n房间，屋子\nfine\tnice\n", encoding="utf-8")
    found = read_synonyms(path)
    assert found["good"] == ("Fine", "great")
    assert found["fine"] == ("good", "great", "nice")
    assert found["屋子"] == ("房间",)
    path.write_text("good, fine\nalone\n", encoding="utf-8")
    with pytest.raises(DataError, match="one word") as caught:
        read_synonyms(path)
    assert caught.value.where == f"{path}:2"
    with pytest.raises(DataError, match="cannot be read"):
        read_synonyms(tmp_path / "absent")
