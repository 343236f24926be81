"""Metrics that count what an output shares with its references: BLEU, chrF, ROUGE; and distinct-n.

Chinese (and kana) text has no spaces: BLEU uses sacrebleu's tokenizer ``zh`` (``char`` with kana), ROUGE and
distinct-n count each such character as a word. For ASCII text ROUGE's tokens are those of the package
rouge-score (lower case, letters and digits, no stemming); other alphabets, which that package drops, are kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from foreword.evaluation.statistics.sufficient_statistics import Array, SumStatistic, alternatives, mean_of, ratio

_HAN = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_ASCII_TOKEN = re.compile(r"[a-z0-9]+")
_MARK_PLANES = range(0x300, 0x20000)
_LETTER = re.compile(r"[^\W\d_]")
_HAN_LETTER = re.compile(f"[{_HAN}]")
_KANA_LETTER = re.compile(f"[{_KANA}]")
BLEU_ORDER, CHRF_ORDER, CHRF_BETA = 4, 6, 2


@cache
def _token() -> re.Pattern[str]:
    """A word: letters and digits with what modifies them. The vowel signs and nasals of Indic scripts, Arabic and
    Hebrew points, accents that are characters of their own and the joiners inside words are no letters to Python."""
    marks = "".join(chr(code) for code in _MARK_PLANES if unicodedata.category(chr(code)).startswith("M"))
    inside = f"(?:[^\\W_{_HAN}{_KANA}]|[{re.escape(marks)}\u200c\u200d])"
    return re.compile(rf"[{_HAN}{_KANA}]|[^\W_{_HAN}{_KANA}]{inside}*")


def words(text: str) -> list[str]:
    """Lower-cased words, composed (NFC); each Han or kana character is a word of its own."""
    if text.isascii():
        return _ASCII_TOKEN.findall(text.lower())
    return _token().findall(unicodedata.normalize("NFC", text.lower()))


def bleu_tokenizer(references: Sequence[object]) -> str:
    """sacrebleu's tokenizer for these references: ``zh`` (half of the letters are Han), ``char`` (kana) or ``13a``."""
    text = "".join(text for reference in references for text in alternatives(reference))
    letters = len(_LETTER.findall(text))
    han, kana = len(_HAN_LETTER.findall(text)), len(_KANA_LETTER.findall(text))
    if not letters or (han + kana) * 2 < letters:
        return "13a"
    return "char" if kana * 10 > letters else "zh"


def bleu(*, lowercase: bool = False, smooth: str = "exp") -> SumStatistic:
    """Corpus BLEU, 0 to 100 (Papineni et al. 2002), from sacrebleu's counts.

    Args:
        lowercase: compare in lower case, as the E2E scorer does.
        smooth: ``exp`` (sacrebleu's default) or ``none``.

    S = 10: matches for 1 to 4 tokens, totals for 1 to 4 tokens, output length, reference length.
    """

    def rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
        from sacrebleu.metrics.bleu import BLEU

        counter = BLEU(tokenize=bleu_tokenizer(references), lowercase=lowercase, force=True)
        table = np.zeros((len(outputs), 2 * BLEU_ORDER + 2))
        for place, (output, reference) in enumerate(zip(outputs, references, strict=True)):
            counts = counter.corpus_score([output], [[text] for text in alternatives(reference)])
            table[place] = [*counts.counts, *counts.totals, counts.sys_len, counts.ref_len]
        return table

    return SumStatistic(rows, lambda sums: _bleu_score(sums, smooth))


def _bleu_score(sums: Array, smooth: str) -> Array:
    """sacrebleu's ``BLEU.compute_bleu`` over any number of resamples at once: ``[..., 10]`` -> ``[...]``."""
    right, total = sums[..., :BLEU_ORDER], sums[..., BLEU_ORDER : 2 * BLEU_ORDER]
    length, wanted = sums[..., -2], sums[..., -1]
    # An order without a match counts as half a match the first time, a quarter the second (exp smoothing).
    missing = np.cumsum((right == 0) & (total > 0), axis=-1)
    smoothed = np.where(right > 0, right, 0.5**missing if smooth == "exp" else 0.0)
    precision = ratio(smoothed, total)
    logs = np.log(precision, out=np.full_like(precision, -np.inf), where=precision > 0)
    penalty = np.where(length < wanted, 1 - ratio(wanted, length), 0.0)
    score = 100 * np.exp(np.minimum(penalty, 0.0) + logs.mean(axis=-1))
    return np.asarray(np.where((right.sum(axis=-1) > 0) & (length > 0), score, 0.0), dtype=np.float64)


def chrf() -> SumStatistic:
    """Corpus chrF, 0 to 100 (Popović 2015), characters 1 to 6, beta 2, sacrebleu's counts; S = 18."""

    def rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
        from sacrebleu.metrics.chrf import CHRF

        counter = CHRF(char_order=CHRF_ORDER, word_order=0, beta=CHRF_BETA)
        table = np.zeros((len(outputs), 3 * CHRF_ORDER))
        for place, (output, reference) in enumerate(zip(outputs, references, strict=True)):
            # The counts are not in sacrebleu's result, so its own extraction step is used; a test compares scores.
            [counts] = counter._extract_corpus_statistics([output], [[text] for text in alternatives(reference)])
            table[place] = counts
        return table

    return SumStatistic(rows, _chrf_score)


def _chrf_score(sums: Array) -> Array:
    said, wanted, shared = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    counted = (said > 0) & (wanted > 0)
    orders = counted.sum(axis=-1).astype(np.float64)
    precision = ratio(np.where(counted, ratio(shared, said), 0.0).sum(axis=-1), orders)
    recall = ratio(np.where(counted, ratio(shared, wanted), 0.0).sum(axis=-1), orders)
    factor = CHRF_BETA**2
    return 100 * ratio((1 + factor) * precision * recall, factor * precision + recall)


def _f_measure(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted) if shared else 0.0


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a machine word of cells at a time (Hyyrö 2004)."""
    full = (1 << len(a)) - 1
    places: dict[str, int] = {}
    for place, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << place
    open_cells = full
    for token in b:
        hits = open_cells & places.get(token, 0)
        open_cells = ((open_cells + hits) | (open_cells - hits)) & full
    return len(a) - open_cells.bit_count()


def rouge_n(order: int) -> SumStatistic:
    """Mean ROUGE-N F1, 0 to 1 (Lin 2004); with several references the best one counts."""

    def value(output: str, references: list[str]) -> float:
        said = _ngrams(words(output), order)
        wanted = [_ngrams(words(text), order) for text in references]
        return max(_f_measure((said & grams).total(), said.total(), grams.total()) for grams in wanted)

    return mean_of(value)


def rouge_l() -> SumStatistic:
    """Mean sentence-level ROUGE-L F1, 0 to 1 (Lin 2004); with several references the best one counts."""

    def value(output: str, references: list[str]) -> float:
        said = words(output)
        wanted = [words(text) for text in references]
        return max(_f_measure(common_length(said, tokens), len(said), len(tokens)) for tokens in wanted)

    return mean_of(value)


def distinct(order: int) -> Callable[[Sequence[str]], float]:
    """Different n-grams over all n-grams of the outputs, 0 to 1 (Li et al. 2016). Not a sum: no interval."""

    def score(outputs: Sequence[str]) -> float:
        grams: Counter[tuple[str, ...]] = Counter()
        for output in outputs:
            grams.update(_ngrams(words(output), order))
        return len(grams) / grams.total() if grams else 0.0

    return score
