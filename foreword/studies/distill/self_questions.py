"""Questions that the base asks itself about a document, of several kinds (self-study, after "Cartridges", 2025)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from foreword.core.base.load import Base
from foreword.core.inject.initial_values import from_ids
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Decoding
from foreword.data.tokens.tokenize import token_ids
from foreword.errors import DataError
from foreword.evaluation.generate import decode, text_of

KINDS = (
    "\n\nQuestion about a fact in the text above:",
    "\n\nQuestion: Who",
    "\n\nQuestion: What is",
    "\n\nQuestion: Why",
    "\n\nQuestion: How",
    "\n\nQuestion: When",
    "\n\nA reader asks what follows from the text above:",
    "\n\nA question that asks for a short summary of a part:",
)
_AT_ONCE = 8
_DECODING = Decoding(max_new_tokens=32, do_sample=True, temperature=0.9, top_p=0.95, stop=("\n",))


def questions(
    base: Base, document: str, count: int, seed: int, report: Callable[[int, int], None]
) -> list[dict[str, str]]:
    """``count`` different questions, each as a row with the column ``question``.

    Raises:
        DataError: the base has no more different ones to ask.
    """
    front = Foreword(sites=from_ids(base.model, token_ids(base.tokenizer, document.rstrip())))
    asked: dict[str, None] = {}
    for turn in range(4 * count // _AT_ONCE + 4):
        kinds = [KINDS[(turn * _AT_ONCE + i) % len(KINDS)] for i in range(_AT_ONCE)]
        inputs = [token_ids(base.tokenizer, kind) for kind in kinds]
        decoding = replace(_DECODING, sampling_seed=seed * 100_003 + turn)
        written = decode(base.model, base.tokenizer, inputs, front, decoding, base.tokenizer.eos_token_id)
        for kind, ids in zip(kinds, written, strict=True):
            question = _question(kind, text_of(base.tokenizer, ids, decoding.stop))
            if len(question.split()) >= 3:
                asked.setdefault(question)
        report(min(len(asked), count), count)
        if len(asked) >= count:
            return [{"question": question} for question in list(asked)[:count]]
    raise DataError(
        "the base has no more different questions to ask about the document",
        expected=count,
        received=len(asked),
        hint="lower --questions, or give questions of your own",
    )


def _question(kind: str, written: str) -> str:
    """What was written with the word that it had to begin with, up to its question mark."""
    opening = kind.rpartition("Question:")[2].strip() if "Question:" in kind else ""
    text = " ".join(f"{opening} {written}".split())
    return text[: text.index("?") + 1] if "?" in text else text
