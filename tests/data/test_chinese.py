"""Chinese from the file to the figures: encodings, cutting, width, and metrics that count characters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from foreword.data.quality.unicode import normalise
from foreword.data.readers.conll import read_conll
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.tokens.examples import Encoder
from foreword.evaluation.generate import text_of
from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.testing.method_contracts import byte_tokenizer

REVIEWS = [("房间很干净，服务也热情。", "好评"), ("隔音太差，一夜没睡。", "差评"), ("离车站很近。", "好评")]


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "utf-8"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "txt", "conll"])
def test_files_in_gbk_are_read_in_every_format(tmp_path: Path, encoding: str, form: str) -> None:
    text = {
        "csv": "内容,标签\n" + "".join(f'"{text}",{label}\n' for text, label in REVIEWS),
        "jsonl": "\n".join(json.dumps({"text": t, "label": lab}, ensure_ascii=False) for t, lab in REVIEWS),
        "txt": "".join(f"{text}\t这是回答，{label}\n" for text, label in REVIEWS),
        "conll": "北\tB-地\n京\tI-地\n好\tO\n\n我\tO\n在\tO\n家\tO\n",
    }[form]
    path = tmp_path / f"data.{form}"
    path.write_bytes(text.encode(encoding))
    table = read(path)
    assert table.rows[0].fields[table.layout.inputs[0]] == ("北 京 好" if form == "conll" else REVIEWS[0][0])


@pytest.mark.parametrize("first_k", range(1, 40))
def test_first_k_never_cuts_a_character(first_k: int) -> None:
    """Three tokens a character here: the text is cut between characters, at k tokens or below."""
    table = read([{"text": text, "label": label} for text, label in REVIEWS])
    task = make_task(table, template="{{ text }}")
    tokenizer = byte_tokenizer()
    for row, one in zip(
        table.rows, Encoder(task, tokenizer, False, first_k).encode(table.rows),
        strict=True,
    ):  # fmt: skip
        whole, cut = str(row.fields["text"]), tokenizer.decode(list(one.input_ids))
        assert whole.startswith(cut)  # type: ignore[arg-type]
        assert "\ufffd" not in cut
        assert len(one.input_ids) <= max(first_k, 3)
        assert len(cut) == max(1, min(first_k // 3, len(whole)))
        assert one.cut == (len(cut) < len(whole))


def test_an_accent_stays_with_its_letter() -> None:
    table = read([{"text": "cafe\u0301 noir", "label": "a"}, {"text": "x", "label": "b"}])
    task = make_task(table, template="{{ text }}")
    row = Encoder(task, byte_tokenizer(), False, 4).encode(table.rows)[0]
    assert byte_tokenizer().decode(list(row.input_ids)) == "cafe\u0301"


def test_an_answer_that_ends_in_half_a_character_loses_it() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("很好", add_special_tokens=False)["input_ids"]
    assert text_of(tokenizer, ids[:-1], ()) == "很"
    assert text_of(tokenizer, ids, ()) == "很好"


def test_width_makes_no_difference_when_texts_are_compared() -> None:
    assert normalise("ＡＢＣ，好！") == normalise("abc,好!") == "abc 好"
    same = METRICS["exact_match"].per_row(["好的，谢谢。", "Ｙｅｓ！", "好"], ["好的,谢谢.", "Yes!", "好的"])
    assert same.tolist() == [1, 1, 0]


def test_metrics_count_characters() -> None:
    outputs, golds = ["房间很好，服务热情。", "不好"], ["房间干净，服务很热情。", "很不好"]
    zh = BLEU(tokenize="zh", force=True).corpus_score(outputs, [golds]).score
    assert METRICS["bleu"].corpus(outputs, golds) == pytest.approx(zh)
    assert METRICS["chrf"].corpus(outputs, golds) == pytest.approx(CHRF().corpus_score(outputs, [golds]).score)
    # 不 好 against 很 不 好: precision 1, recall 2/3; the longest common subsequence is both characters.
    assert METRICS["rouge_1"].corpus(["不好"], ["很不好"]) == pytest.approx(0.8)
    assert METRICS["rouge_l"].corpus(["不好"], ["很不好"]) == pytest.approx(0.8)
    assert METRICS["distinct_1"].corpus(["好好"], [""]) == 0.5


def test_conll_in_chinese_is_one_character_a_word() -> None:
    [(fields, line)] = read_conll("北\tB-地\n京\tI-地\n", "f").records
    assert (fields, line) == ({"tokens": "北 京", "tags": "B-地 I-地"}, 1)
