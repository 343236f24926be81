"""Every metric against the package that the field uses for it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from foreword.errors import DataError, SettingsError
from foreword.evaluation.metrics.metric_registry import METRICS, OTHER, classification_report, get_metric
from foreword.evaluation.metrics.text_overlap import bleu_tokenizer, words

VOCABULARY = "the a cat dog sat on mat, near house. River runs quickly isn't 3.5 Pub_name £ high-priced".split()
HAN = "我们今天去公园看花很好天气不错他说你是谁"


def texts(rng: random.Random, n: int, least: int = 0) -> list[str]:
    return [" ".join(rng.choices(VOCABULARY, k=rng.randint(least, 14))) for _ in range(n)]


def near(rng: random.Random, text: str) -> str:
    """The text with some words lost or changed."""
    return " ".join(rng.choice(VOCABULARY) if rng.random() < 0.2 else w for w in text.split() if rng.random() > 0.1)


def corpora() -> list[tuple[str, list[str], list[str]]]:
    rng = random.Random(5)
    english = texts(rng, 60, 4)
    chinese = ["".join(rng.choices(HAN, k=rng.randint(4, 20))) for _ in range(40)]
    return [
        ("near", [near(rng, text) for text in english], english),
        ("unrelated", texts(rng, 60), english),
        ("short", ["cat", "", "a dog", "the"], ["cat", "dog", "a dog", "a"]),
        ("no trigram", ["the cat on a dog runs", "a mat"], ["the cat near house a dog mat", "mat a"]),
        ("nothing", ["", ""], ["cat sat", "dog"]),
        ("chinese", [text[: rng.randint(1, len(text))] + "好" for text in chinese], chinese),
    ]


@pytest.mark.parametrize(("name", "outputs", "references"), corpora())
def test_bleu_and_chrf_are_sacrebleus(name: str, outputs: list[str], references: list[str]) -> None:
    tokenizer = "zh" if name == "chinese" else "13a"
    plain = BLEU(tokenize=tokenizer, force=True).corpus_score(outputs, [references]).score
    assert METRICS["bleu"].corpus(outputs, references) == pytest.approx(plain, abs=1e-9)
    e2e = BLEU(tokenize=tokenizer, lowercase=True, smooth_method="none", force=True)
    assert METRICS["bleu_e2e"].corpus(outputs, references) == pytest.approx(
        e2e.corpus_score(outputs, [references]).score, abs=1e-9
    )
    chrf = CHRF().corpus_score(outputs, [references]).score
    assert METRICS["chrf"].corpus(outputs, references) == pytest.approx(chrf, abs=1e-9)


def test_bleu_and_chrf_with_several_references_a_row() -> None:
    rng = random.Random(6)
    golds = texts(rng, 30, 4)
    references = [[gold, *(near(rng, gold) + " now" for _ in range(rng.randint(0, 2)))] for gold in golds]
    outputs = [near(rng, gold) for gold in golds]
    most = max(map(len, references))
    columns = [[row[k] if k < len(row) else None for row in references] for k in range(most)]
    assert METRICS["bleu"].corpus(outputs, references) == pytest.approx(
        BLEU(force=True).corpus_score(outputs, columns).score  # type: ignore[arg-type]
    )
    assert METRICS["chrf"].corpus(outputs, references) == pytest.approx(CHRF().corpus_score(outputs, columns).score)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ours", "theirs"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
def test_rouge_is_rouge_scores(ours: str, theirs: str) -> None:
    scorer = RougeScorer([theirs])
    for name, outputs, references in corpora():
        if name == "chinese":
            continue
        expected = [scorer.score(r, o)[theirs].fmeasure for o, r in zip(outputs, references, strict=True)]
        assert METRICS[ours].per_row(outputs, references) == pytest.approx(expected), name
        assert METRICS[ours].corpus(outputs, references) == pytest.approx(np.mean(expected)), name
    several = ["the cat sat", "a dog ran home"]
    best = scorer.score_multi(several, "a cat ran home")[theirs].fmeasure
    assert METRICS[ours].corpus(["a cat ran home"], [several]) == pytest.approx(best)


NASTY = [
    "", " ", "\n\t", ".", "...", "0", "__", "-", "\u200b", "\ufeff", "a" * 300, "a " * 200, "Ünïcödé",
    "e\u0301te\u0301", "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467", "مرحبا بالعالم", "שלום עולם",
    "ไม่มีช่องว่าง", "x\x00y", "%s {} \\n", "<s> </s> [MASK]", "don't can't", "3.14 1,000 50%",
    "\u2028line\u2029", "A", "a", "aa aa aa aa aa",
]  # fmt: skip


def test_nasty_texts_score_as_the_references_packages_say() -> None:
    """Every nasty output against every nasty reference: alone, and all as one corpus."""
    pairs = [(o, r) for o in NASTY for r in NASTY]
    outputs, references = [o for o, _ in pairs], [r for _, r in pairs]
    bleu, chrf = METRICS["bleu"], METRICS["chrf"]
    for o, r in pairs[::7]:
        theirs = BLEU(tokenize=bleu_tokenizer([r]), force=True).corpus_score([o], [[r]]).score
        assert bleu.corpus([o], [r]) == pytest.approx(theirs, abs=1e-9), (o, r)
        assert chrf.corpus([o], [r]) == pytest.approx(CHRF().corpus_score([o], [[r]]).score, abs=1e-9), (o, r)
    tokenizer = bleu_tokenizer(references)
    assert bleu.corpus(outputs, references) == pytest.approx(
        BLEU(tokenize=tokenizer, force=True).corpus_score(outputs, [references]).score, abs=1e-9
    )
    assert chrf.corpus(outputs, references) == pytest.approx(CHRF().corpus_score(outputs, [references]).score)
    ascii_only = [(o, r) for o, r in pairs if o.isascii() and r.isascii()]
    for name, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        scorer = RougeScorer([theirs])
        expected = [scorer.score(r, o)[theirs].fmeasure for o, r in ascii_only]
        ours = METRICS[name].per_row([o for o, _ in ascii_only], [r for _, r in ascii_only])
        assert ours == pytest.approx(expected)
    for name in ("exact_match", "rouge_l", "bleu", "chrf"):
        assert METRICS[name].corpus(["", ""], ["", ""]) in (0.0, 1.0)


def test_marks_are_part_of_their_word() -> None:
    """Vowel signs, nasals, points and joiners of scripts in which they are characters of their own."""
    assert words("हिन्दी में नमस्ते") == ["हिन्दी", "में", "नमस्ते"]
    assert words("தமிழ் மொழி") == ["தமிழ்", "மொழி"]
    assert words("বাংলা ভাষা, ক্ষুদ্র") == ["বাংলা", "ভাষা", "ক্ষুদ্র"]
    assert words("עִבְרִית مُحَمَّد") == ["עִבְרִית", "مُحَمَّد"]
    assert words("می\u200cخواهم رفت") == ["می\u200cخواهم", "رفت"]
    assert words("cafe\u0301") == words("caf\u00e9") == ["café"]
    assert METRICS["rouge_1"].corpus(["हिन्दी"], ["हिन्दू"]) == 0.0
    assert METRICS["rouge_l"].corpus(["मैं घर जाता हूँ"], ["मैं घर जाता हूँ"]) == 1.0
    assert METRICS["exact_match"].corpus(["cafe\u0301"], ["caf\u00e9"]) == 1.0


@pytest.mark.parametrize(
    ("outputs", "golds"),
    [
        (["a", "b", "c"], ["a", "a", "b"]),  # a label that no row has
        (["x", "y"], ["a", "b"]),  # nothing is right, no label is known
        (["a"] * 5, ["a"] * 5),
        (["a"] * 5, ["a", "a", "a", "a", "b"]),  # a label that is never said
        ([""], ["a"]),
        (["ä", "a\u0308"], ["ä", "ä"]),
    ],
)
def test_labels_that_were_never_seen_count_as_scikit_learn_counts_them(outputs: list[str], golds: list[str]) -> None:
    assert METRICS["accuracy"].corpus(outputs, golds) == pytest.approx(accuracy_score(golds, outputs))
    expected = f1_score(golds, outputs, average="macro", zero_division=0)
    assert METRICS["macro_f1"].corpus(outputs, golds) == pytest.approx(expected)
    report = classification_report(outputs, golds, sorted(set(golds)))
    assert sum(map(sum, report["confusion"])) == len(golds)


def test_rouge_counts_chinese_by_character() -> None:
    assert words("GPT-2在2019年。發布 Ürün") == ["gpt", "2", "在", "2019", "年", "發", "布", "ürün"]
    assert METRICS["rouge_1"].corpus(["今天天气好"], ["今天天气很好"]) == pytest.approx(10 / 11)
    assert METRICS["rouge_l"].corpus(["好今天"], ["今天好"]) == pytest.approx(2 / 3)
    spaced = METRICS["rouge_l"].corpus(["今 天 天 气"], ["今 天 气 好"])
    assert METRICS["rouge_l"].corpus(["今天天气"], ["今天气好"]) == spaced == pytest.approx(0.75)


def test_the_bleu_tokenizer_follows_the_script_of_the_references() -> None:
    assert bleu_tokenizer(["a plain text", "another"]) == "13a"
    assert bleu_tokenizer(["今天天气很好 OK"]) == "zh"
    assert bleu_tokenizer([["今日はいい天気ですね"]]) == "char"
    assert bleu_tokenizer(["오늘 날씨가 좋다"]) == "13a"
    assert bleu_tokenizer(["", "12 + 3"]) == "13a"


@pytest.mark.parametrize("seed", range(6))
def test_classification_is_scikit_learns(seed: int) -> None:
    rng = random.Random(seed)
    labels = ["bad", "good", "mixed", "never"]
    golds = rng.choices(labels[:3], weights=[5, 3, 1], k=80)
    outputs = [gold if rng.random() < 0.7 else rng.choice(labels[: 3 + seed % 2]) for gold in golds]
    assert METRICS["accuracy"].corpus(outputs, golds) == pytest.approx(accuracy_score(golds, outputs))
    for average in ("macro", "micro"):
        expected = f1_score(golds, outputs, average=average, zero_division=0)
        assert METRICS[f"{average}_f1"].corpus(outputs, golds) == pytest.approx(expected)
    report = classification_report(outputs, golds, labels)
    assert report["confusion"] == confusion_matrix(golds, outputs, labels=labels).tolist()
    theirs = precision_recall_fscore_support(golds, outputs, labels=labels, zero_division=0)
    for place, label in enumerate(labels):
        row = report["classes"][label]
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(
            [column[place] for column in theirs]
        )


def test_an_answer_that_is_no_label_gets_a_column_of_its_own() -> None:
    report = classification_report(["a", "??", "b"], ["a", "b", "b"], ["a", "b"])
    assert report["labels"] == ["a", "b", OTHER]
    assert report["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert report["classes"]["b"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert classification_report(["a"], ["a"], ["a", OTHER])["labels"] == ["a", OTHER]


def test_exact_match_ignores_white_space_only() -> None:
    outputs, references = [" a  b\n", "A b", "c"], ["a b", "a b", ["d", "c"]]
    assert METRICS["exact_match"].per_row(outputs, references).tolist() == [1, 0, 1]
    assert METRICS["accuracy"].per_row(["a "], ["a"]).tolist() == [0]


def test_distinct_and_perplexity() -> None:
    assert METRICS["distinct_1"].corpus(["a b a", "b"], ["", ""]) == pytest.approx(2 / 4)
    assert METRICS["distinct_2"].corpus(["a b a", "b"], ["", ""]) == 1.0
    assert METRICS["distinct_2"].corpus(["", "b"], ["", ""]) == 0.0
    perplexity = METRICS["perplexity"]
    assert perplexity.corpus([2.0, 4.0], [3, 1]) == pytest.approx(np.exp(6 / 4))
    assert perplexity.corpus([1e9], [1]) == np.inf
    assert perplexity.better == "lower"


def test_per_row_figures_average_to_the_corpus_figure() -> None:
    rng = random.Random(9)
    references = texts(rng, 20, 2)
    outputs = [near(rng, text) for text in references]
    for metric in METRICS.values():
        if metric.form != "corpus":
            rows = metric.per_row(outputs, references)
            assert rows is not None
            assert rows.shape == (20,)
            assert rows.mean() == pytest.approx(metric.corpus(outputs, references))
    assert METRICS["bleu"].per_row(outputs, references) is None


def test_a_wrong_name_gets_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'rouge_l'"):
        get_metric("ROUGE-L")
    with pytest.raises(SettingsError, match="accuracy, macro_f1"):
        get_metric("zzz")
    assert get_metric("bleu") is METRICS["bleu"]


def test_refusals() -> None:
    with pytest.raises(DataError, match="no rows"):
        METRICS["accuracy"].corpus([], [])
    with pytest.raises(DataError, match="differ in number"):
        METRICS["bleu"].corpus(["a"], ["a", "b"])
    with pytest.raises(DataError, match="no reference"):
        METRICS["exact_match"].corpus(["a"], [[]])
    with pytest.raises(SettingsError, match="no interval"):
        METRICS["distinct_1"].rows(["a"], ["a"])
    many = [str(number) for number in range(6000)]
    with pytest.raises(DataError, match="too many different answers"):
        METRICS["macro_f1"].corpus(many, many)
