"""The explain card: what it says is what is there, on every kind of base."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import torch

from foreword import train
from foreword.cli.main import main
from foreword.core.inject import initial_values
from foreword.core.inject.value import Foreword
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.tokens.examples import Encoder, Example
from foreword.errors import SettingsError
from foreword.evaluation.predict import Asker
from foreword.evaluation.report.translator import Translator
from foreword.evaluation.report.write_report import render_html
from foreword.studies.explain.ablation import Without, ablate, layers, tokens
from foreword.studies.explain.attention_share import AttentionShare, attention_shares
from foreword.studies.explain.explain import explain
from foreword.studies.explain.explain_card import Explained
from foreword.studies.explain.imitation import Imitation, imitate
from foreword.studies.explain.nearest_words import NearestWords, of_embeddings
from foreword.studies.prompts.prompt_scorer import standing
from foreword.testing.method_contracts import byte_tokenizer, reaches, tiny, trained_for

TOKENIZER = byte_tokenizer()
TABLE = read([{"text": "xy" * (1 + i % 4), "label": ["no", "yes"][i % 2]} for i in range(8)])
TASK = make_task(TABLE, guidance="Say it.\n", template="{{ text }}:")
ROWS: list[Example] = Encoder(TASK, TOKENIZER, False).encode(TABLE.rows)


def asker(family: str) -> Asker:
    return Asker(tiny(family), TOKENIZER, TASK, False)


def labelled(count: int) -> list[dict[str, str]]:
    """Six random letters; an x in front means yes, a z no."""
    dice = random.Random(count)
    words = ["".join(dice.choice("abcdefgh") for _ in range(6)) for _ in range(count)]
    return [{"text": "zx"[i % 2] + word, "label": ("no", "yes")[i % 2]} for i, word in enumerate(words)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    tiny("llama").save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def test_a_word_is_readable_and_a_random_direction_is_not() -> None:
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(300, 64, generator=generator) + 3.0
    said = of_embeddings(table[[5, 7]] + 0.1, table, str)
    assert [one.tokens[0] for one in said] == ["5", "7"]
    assert all(one.readable for one in said)
    noise = of_embeddings(torch.randn(200, 64, generator=generator) + 3.0, table, str)
    assert sum(one.readable for one in noise) < 10


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3_next", "t5", "bart", "lstm"])
@pytest.mark.parametrize("method", ["prefix", "prompt", "lora", "full"])
def test_one_batch_of_all_parts_is_each_part_alone(family: str, method: str) -> None:
    if not reaches(method, family):
        pytest.skip(f"{method} does not reach {family}")
    one, value = asker(family), trained_for(method, tiny(family))
    neutral = torch.zeros(tiny(family).get_input_embeddings().weight.shape[1])  # type: ignore[arg-type]
    parts = [*tokens(value, neutral), *layers(value)]
    assert parts
    found = ablate(one, value, parts, ROWS)
    assert [line.part for line in found] == ["whole", *(name for name, _ in parts)]
    for line, (_, alone) in zip(found[1:4], parts, strict=False):
        (single,) = ablate(one, alone, [], ROWS) if alone.num_virtual_tokens or not value.num_virtual_tokens else [line]
        assert line.loss == pytest.approx(single.loss, abs=1e-4)
        assert line.more == pytest.approx(line.loss - found[0].loss, abs=1e-6)
    for mass in attention_shares(one, value, ROWS[:2]):
        assert 0 <= mass.share <= 1
        assert 0 < mass.even < 1


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_mass_is_what_the_model_itself_attends_to_the_text(family: str) -> None:
    model, text, row = tiny(family), TOKENIZER.encode("say", add_special_tokens=False), ROWS[1]
    value = Foreword(sites=initial_values.from_ids(model, text))
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            seen = model(torch.tensor([[*text, *row.input_ids]]), output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    found = attention_shares(asker(family), value, [row])
    assert len(found) == len(seen)
    for mass, weights in zip(found, seen, strict=True):
        expected = weights[0].mean(0)[len(text) :, : len(text)].sum(-1).mean()
        assert mass.share == pytest.approx(float(expected), abs=1e-4)


def test_a_text_in_another_form_is_imitated_by_that_text() -> None:
    one, text = asker("llama"), "Do.\n"
    value = Foreword(sites=initial_values.from_ids(one.model, one.lead(Foreword(text=text))))
    found = imitate(one, value, ROWS, ["Nothing", text], [])
    assert (found.equal, found.rows, found.tried) == (1.0, 4, 3)


def test_texts_with_its_own_answers_as_examples_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    one, rows, texts = asker("llama"), [ROWS[i % 8] for i in range(28)], []
    value = Foreword(sites=initial_values.from_ids(one.model, one.lead(Foreword(text="Do.\n"))))
    answers = {row.id: found for row, found in zip(rows, one.answer(value, rows), strict=True)}

    def stand(given: Asker, text: str) -> Foreword:
        texts.append(text)
        return standing(given, text)

    monkeypatch.setattr(sys.modules["foreword.studies.explain.imitation"], "standing", stand)
    tried: list[tuple[int, int]] = []
    found = imitate(one, value, rows, [], ["word"], lambda done, total: tried.append((done, total)))
    said = answers[rows[0].id]
    assert texts[0] == found.prompt == "Say it.\n"
    assert texts[1].startswith(f"Say it.\n\n{said.input}{TASK.verbalizer[said.output]}\n\n")
    assert [text.count("xy:") > 0 for text in texts[1:4]] == [True] * 3
    assert found.rows == 14
    assert found.low <= found.equal <= found.high
    assert found.prompt_low <= found.prompt_equal <= found.prompt_high
    assert found.tried == len(tried) == len(texts) - 2
    assert all(done <= total for done, total in tried)


def card(share: float, low: float, high: float, more: float = 0.4, text: str = "A\nB\n\n") -> Explained:
    parts = [Without("whole", 0.5, 0.0, 0.0, 0.0, 0.8)]
    parts += [
        Without(f"token {i}", 0.6, more - i / 10, more - i / 10 - 0.1, more - i / 10 + 0.1, 0.7) for i in range(4)
    ]
    parts += [Without(f"layer {i}", 0.5, 0.0, -0.1, 0.1, 0.8) for i in range(20)]
    mass = [AttentionShare(f"decoder.self.{i}", 0.2 + i / 100, 0.4) for i in range(20)]
    near = [
        NearestWords("token 0", (" film", " movie"), (0.9, 0.8), None, 0.2),
        NearestWords("token 1", ("x", "y"), (0.1, 0.1), None, 0.2),
    ]
    imitation = Imitation(text, share, low, high, 32, "Ask.\n", 0.5, 0.3, 0.7, 20)
    return Explained("m", 64, near, parts, mass, imitation)


def test_the_card_says_in_sentences_what_its_tables_come_to() -> None:
    tables = {table["title"]: table for table in card(0.6, 0.4, 0.75).tables()}
    assert tables["Explained"]["notes"] == [
        "It cannot be said in the words that were tried: the best of 20 texts answers 60.0% of 32 rows as it does.",
        "Most is lost without token 0 (+0.40), token 1 (+0.30), token 2 (+0.20).",
        "Attention goes to it most at decoder.self.19 (39.0%), least at decoder.self.0 (20.0%).",
    ]
    assert "can be said" in card(1.0, 0.92, 1.0).tables()[0]["notes"][0]
    assert card(0.95, 0.8, 0.99).tables()[0]["notes"][0].startswith("The best of 20 texts answers")
    assert "No single part" in card(1.0, 0.92, 1.0, 0.0).tables()[0]["notes"][1]
    near = tables["Nearest words"]
    assert [line[2] for line in near["lines"]] == ["yes", "not readable"]
    assert "distance" not in near["head"]
    # Long tables are folded below their charts, whose points are theirs.
    layers = tables["What each layer's part is worth"]
    assert (layers["folded"], len(layers["chart"]["points"]), len(layers["lines"])) == ("lines", 20, 21)
    assert not tables["What each virtual token is worth"]["folded"]
    page = render_html({"tables": card(0.6, 0.4, 0.75).tables()})
    assert page.count("<details>") == 2
    assert "NaN" not in page
    assert "A\\nB" in card(0.6, 0.4, 0.75).details()
    long = card(0.6, 0.4, 0.75, text="long " * 99).render().splitlines()
    assert len(long) <= 10
    assert max(map(len, long)) <= 80
    assert long[-1] == "every figure: -v, or --output-dir DIR for a page"
    assert max(map(len, card(0.6, 0.4, 0.75, text="long " * 99).details().splitlines())) < 180


def test_every_word_of_the_card_is_there_in_chinese() -> None:
    for table in card(0.6, 0.4, 0.75).tables():
        for text in (table["title"], *table["notes"], *filter(None, table["head"])):
            assert Translator().known(text), text
        for line in table["lines"]:
            for place in table.get("own", ()):
                assert Translator().known(line[place]), line


def test_the_card_joins_the_report_of_a_run(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreword.training.events.Score.above", lambda self, other: True)  # whatever dev says
    data = labelled(60)
    made = train(data, base=base, output_dir=tmp_path / "run", max_steps=20, num_virtual_tokens=3, learning_rate=0.05)
    assert made.outcome == "learned"
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    for _ in range(2):
        assert main(["explain", made.file, str(path), "--output-dir", str(tmp_path / "run"), "--json"]) == 0
        card = json.loads(capsys.readouterr().out)
    assert [one["part"] for one in card["without"][:2]] == ["whole", "token 0"]
    assert len(card["nearest"]) == 3
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    titles = [table["title"] for table in report["tables"]]
    assert titles.count("Nearest words") == titles.count("What each virtual token is worth") == 1
    assert report["explain"] == card
    assert "A text that answers like it" in (tmp_path / "run" / "report.html").read_text()
    found = explain(made.file)
    assert not found.without
    assert found.attention
    assert "explain FILE DATA" in " ".join(found.render().split())


def test_a_text_explains_itself(base: str, tmp_path: Path) -> None:
    data = labelled(40)
    made = train(data, base=base, output_dir=tmp_path / "run", method="text")
    with pytest.raises(SettingsError, match="nothing was learned"):
        explain(made.file)
