"""The scores of the E2E NLG challenge, offline: BLEU, NIST, METEOR, ROUGE-L and CIDEr against several references.

They are those of the official script (github.com/tuetschek/e2e-metrics): BLEU and NIST as mteval-v13a defines them, the
others as the COCO caption evaluation does. ROUGE-L and CIDEr need its word splitter, Stanford's PTB tokenizer, which is
a Java program: :func:`ptb_words` follows its rules and gives the same words on every reference of the E2E test set.
METEOR is Java itself (its paraphrase tables cannot be had otherwise) and comes with the extra ``foreword[e2e]``.

NIST differs from the published figures in the third digit: with rows of unequal numbers of references the edited
mteval-v13a of the challenge takes a shorter reference length, and gives no penalty where the plain definition does.
"""

from __future__ import annotations

import importlib
import math
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import Any

from foreword.errors import DataError, ForewordError
from foreword.evaluation.metrics.metric_registry import get_metric

Grams = Counter[tuple[str, ...]]
_CLITIC = r"'(?:s|re|ve|ll|d|m)\b"
_PTB = re.compile(
    rf"n't\b|{_CLITIC}"
    r"|-?\d++(?:[.,:]\d+)*+(?![^\W\d_])(?:-[^\W_]+)*"  # numbers and ranges: 30.99, 20-25
    r"|[^\W_]+?(?=n't\b)"
    rf"|[^\W_]+(?:[-'][^\W_]+)*?(?={_CLITIC})"
    rf"|[^\W_]+(?:(?:-|'(?!(?:s|re|ve|ll|d|m)\b))[^\W_]+)*(?:\.(?=,))?"  # an abbreviation keeps its point
    r"|\S"
)
_MONEY = str.maketrans({"£": "#", "€": "$", "\u2019": "'"})
_DROPPED = frozenset("'' ' `` ` . ? ! , : - -- ... ; \" ( ) [ ] { }".split())
_NIST_ORDER, _CIDER_ORDER, _CIDER_SIGMA, _ROUGE_BETA = 5, 4, 6.0, 1.2


def ptb_words(text: str) -> list[str]:
    """Lower-case words as the COCO evaluation sees them: clitics apart, pounds as ``#``, no punctuation."""
    plain = text.lower().translate(_MONEY).replace("cannot", "can not")
    return [word for word in _PTB.findall(plain) if word not in _DROPPED]


def e2e_scores(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The five scores of a system's outputs.

    Args:
        outputs: one text a row.
        references: the right texts of each row.

    Returns:
        ``bleu`` (0 to 1), ``nist``, ``meteor``, ``rouge_l``, ``cider``; and under ``skipped`` why one is None.

    Raises:
        DataError: no rows, rows without references, or another number of them than of outputs.
    """
    if len(outputs) != len(references) or not outputs or not all(references):
        raise DataError("each output needs its references", expected=len(outputs), received=len(references))
    said = [ptb_words(text) for text in outputs]
    right = [[ptb_words(text) for text in texts] for texts in references]
    meteor, why = _meteor(said, right)
    return {
        "bleu": get_metric("bleu_e2e").corpus(outputs, references) / 100,
        "nist": nist(outputs, references),
        "meteor": meteor,
        "rouge_l": rouge_l(said, right),
        "cider": cider(said, right),
        "skipped": {"meteor": why} if why else {},
    }


def _grams(words: Sequence[str], order: int) -> Grams:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def nist(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """NIST (Doddington 2002) with n-grams up to 5, lower case, words as in BLEU's 13a."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    split = Tokenizer13a()
    said = [split(text.lower()).split() for text in outputs]
    right = [[split(text.lower()).split() for text in texts] for texts in references]
    seen: Grams = Counter()
    for words in (words for texts in right for words in texts):
        seen[()] += len(words)
        for order in range(1, _NIST_ORDER + 1):
            seen.update(_grams(words, order))
    score = 0.0
    for order in range(1, _NIST_ORDER + 1):
        gained, total = 0.0, 0
        for words, texts in zip(said, right, strict=True):
            own, allowed = _grams(words, order), Counter[tuple[str, ...]]()
            for other in texts:
                allowed |= _grams(other, order)
            # What an n-gram tells: how seldom it follows its beginning in the references.
            gained += sum(count * math.log2(seen[gram[:-1]] / seen[gram]) for gram, count in (own & allowed).items())
            total += own.total()
        score += gained / total if total else 0.0
    length = sum(map(len, said))
    wanted = sum(sum(map(len, texts)) / len(texts) for texts in right)
    # Two thirds of the references' length halve the score.
    beta = math.log(0.5) / math.log(1.5) ** 2
    return score * math.exp(beta * math.log(min(length / wanted, 1.0)) ** 2) if length else 0.0


def rouge_l(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Mean ROUGE-L, 0 to 1, of words: the best precision and the best recall among the references, beta 1.2."""
    from foreword.evaluation.metrics.text_overlap import common_length

    total = 0.0
    for said, texts in zip(outputs, references, strict=True):
        common = [common_length(said, words) for words in texts]
        precision = max(n / max(1, len(said)) for n in common)
        recall = max(n / max(1, len(words)) for n, words in zip(common, texts, strict=True))
        if precision and recall:
            total += (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)
    return total / len(outputs)


def cider(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """CIDEr-D (Vedantam et al. 2015), 0 to 10, of words: how alike weighted n-grams up to 4 are, rare ones counting
    more.

    A row counts as a document: an n-gram in every row's references weighs nothing.
    """
    frequency: Grams = Counter()
    for texts in references:
        frequency.update({g for words in texts for n in range(1, _CIDER_ORDER + 1) for g in _grams(words, n)})
    documents = math.log(len(references))

    def weighted(words: Sequence[str]) -> list[dict[tuple[str, ...], float]]:
        return [
            {g: count * (documents - math.log(max(1, frequency[g]))) for g, count in _grams(words, n).items()}
            for n in range(1, _CIDER_ORDER + 1)
        ]

    total = 0.0
    for said, texts in zip(outputs, references, strict=True):
        mine = weighted(said)
        score = 0.0
        for words in texts:
            distance = max(0, len(said) - 1) - max(0, len(words) - 1)
            alike = sum(_cosine(a, b) for a, b in zip(mine, weighted(words), strict=True))
            score += alike * math.exp(-(distance**2) / (2 * _CIDER_SIGMA**2))
        total += 10 * score / len(texts) / _CIDER_ORDER
    return total / len(outputs)


def _cosine(a: dict[tuple[str, ...], float], b: dict[tuple[str, ...], float]) -> float:
    """Similarity of two weighted counts; what ``a`` has more of than ``b`` does not count."""
    shared = sum(min(weight, b[gram]) * b[gram] for gram, weight in a.items() if gram in b)
    norm = math.sqrt(sum(w * w for w in a.values()) * sum(w * w for w in b.values()))
    return shared / norm if norm else 0.0


def _meteor(said: Sequence[Sequence[str]], right: Sequence[Sequence[Sequence[str]]]) -> tuple[float | None, str]:
    """METEOR (Denkowski & Lavie 2014), or why it was skipped."""
    if shutil.which("java") is None:
        return None, "METEOR is a Java program and there is no java here (Debian: default-jre-headless)"
    try:
        meteor = importlib.import_module("pycocoevalcap.meteor.meteor")
    except ImportError:
        return None, "METEOR needs pycocoevalcap: pip install 'foreword[e2e]'"
    try:
        found, _ = meteor.Meteor().compute_score(
            {row: [" ".join(words) for words in texts] for row, texts in enumerate(right)},
            {row: [" ".join(words)] for row, words in enumerate(said)},
        )
    except (OSError, ValueError) as error:
        raise ForewordError("METEOR's Java program failed", received=str(error), hint="try `java -version`") from error
    return float(found), ""
