"""The scores of the E2E challenge, against cases worked out by hand."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import nlg

from foreword.errors import DataError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Vaults isn't far, it's near £20-25.", "the vaults is n't far it 's near # 20-25"),
        ('A "family-friendly" pub (5 out of 5)!', "a family-friendly pub 5 out of 5"),
        ("You can't get hors d'oeuvre; they\u2019ll cost €30.99", "you ca n't get hors d'oeuvre they 'll cost $ 30.99"),
        ("It cannot be...", "it can not be"),
        ("In the city center., in the 20s, for 20GBP", "in the city center. in the 20s for 20gbp"),
        ("", ""),
    ],
)  # fmt: skip
def test_words_are_those_of_the_penn_treebank_without_punctuation(text: str, words: str) -> None:
    assert " ".join(nlg.ptb_words(text)) == words


def test_rouge_l_takes_the_best_precision_and_the_best_recall() -> None:
    # One reference: the longest common subsequence is a c, P = 2/4, R = 2/2.
    assert nlg.rouge_l([list("abcd")], [[list("ac")]]) == pytest.approx(2.44 * 0.5 / (1 + 1.44 * 0.5))
    # Two: P = 3/4 of the first, R = 1 of the second.
    assert nlg.rouge_l([list("abcd")], [[list("abcxy"), ["a"]]]) == pytest.approx(2.44 * 0.75 / (1 + 1.44 * 0.75))
    assert nlg.rouge_l([["a"], ["b"]], [[["a"]], [["c"]]]) == 0.5


def test_cider_counts_what_is_rare() -> None:
    a, b, common = list("abcd"), list("efgh"), list("wxyz")
    assert nlg.cider([a, b], [[a], [b]]) == pytest.approx(10)
    assert nlg.cider([b, a], [[a], [b]]) == 0
    assert nlg.cider([common, common], [[common], [common]]) == 0  # in every row: weighs nothing
    # Two references, one of them equal and the other without anything shared: half.
    assert nlg.cider([a, b], [[a, list("ijkl")], [b]]) == pytest.approx((5 + 10) / 2)
    # One word more, one bigram more: cosine 2/sqrt(4*5)..., and exp(-1/72) for the length.
    said = [*"abcd", "q"]
    expected = sum((5 - n) / ((5 - n) * (6 - n)) ** 0.5 for n in range(1, 5)) / 4 * 10 * 2.718281828459045 ** (-1 / 72)
    assert nlg.cider([said, b], [[a], [b]]) == pytest.approx((expected + 10) / 2)


def test_nist_by_hand() -> None:
    # Two words, each one of two: log2(2) for a word, nothing for what always follows.
    assert nlg.nist(["a b"], [["a b"]]) == pytest.approx(1)
    # Two thirds of the length halve the score: 2 of 3 words, log2(3) each.
    assert nlg.nist(["a b"], [["a b c"]]) == pytest.approx(0.5 * 1.584962500721156)
    assert nlg.nist(["x"], [["a"]]) == 0


def test_meteor_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    scores = nlg.e2e_scores(["a fine pub"], [["a fine pub", "the pub is fine"]])
    assert scores["meteor"] is None
    assert "java" in scores["skipped"]["meteor"]
    assert scores["rouge_l"] == pytest.approx(1)
    with pytest.raises(DataError, match="references"):
        nlg.e2e_scores(["a"], [[]])


def test_meteor_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("pycocoevalcap"):
        pytest.skip("it is installed")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    assert "foreword[e2e]" in nlg.e2e_scores(["a"], [["a"]])["skipped"]["meteor"]


def test_the_bench_scores_a_file_of_outputs(tmp_path: Path) -> None:
    folder = tmp_path / "e2e_nlg"
    folder.mkdir()
    rows = [{"mr": "name[A], x[y]", "refs": ["A is a pub."]}, {"mr": "name[B]", "refs": ["B is a bar near A."]}]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    system = tmp_path / "out.tsv"
    system.write_text('MR\toutput\n"name[A], x[y]"\tA is a pub.\nname[B]\tB is a bar near A.\n', encoding="utf-8")
    command = [sys.executable, str(ROOT / "bench" / "e2e_scores.py"), "--data", str(tmp_path), "--system", str(system)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    scores = json.loads(done.stdout)
    assert (scores["rows"], scores["bleu"], scores["rouge_l"]) == (2, pytest.approx(1), pytest.approx(1))
    system.write_text("name[B]\tB.\n", encoding="utf-8")
    assert "no output for 1 of 2" in subprocess.run(command, capture_output=True, text=True).stderr
