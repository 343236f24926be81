"""Templates with ``{{ answer }}``: text stands before and behind the place that is to be filled.

A decoder writes at the end only, so the two sides change their order. Where the tokenizer has tokens for that (Bavarian
et al. 2022, "Efficient training of language models to fill in the middle"), they are used: prefix, suffix, middle.
Where it has none, the text behind comes first and the text before stands last, so that the answer goes on where it
breaks off. An encoder-decoder gets the two sides around its sentinel or mask token.
"""

from __future__ import annotations

from collections.abc import Sequence

from foreword.data.quality.unicode import is_cjk
from foreword.data.task.template_marks import ANSWER, Mark
from foreword.data.tokens.tokenize import Tokenizer
from foreword.errors import SettingsError

Part = str | Mark | int
"""A part of a row: a text, a place, or a token of the tokenizer's own."""
# (prefix, suffix, middle) as the models spell them: Qwen and DeepSeek V3, StarCoder and SmolLM, CodeLlama, CodeGemma.
SPELLINGS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)
SENTINELS = ("<extra_id_0>", "<mask>", "[MASK]")


def known(tokenizer: Tokenizer, spelling: str) -> int | None:
    """The id of a token as the vocabulary spells it; None where it has no such token."""
    found = tokenizer.convert_tokens_to_ids(spelling)
    unknown = getattr(tokenizer, "unk_token_id", None)
    return None if found is None or found == unknown else int(found)


def arranged(parts: Sequence[Part], tokenizer: Tokenizer, special_tokens: bool) -> list[Part]:
    """A row's parts in the order in which a model reads them; the answer follows, or stands at the sentinel.

    Args:
        special_tokens: the model is an encoder-decoder, which sees both sides at once.

    Raises:
        SettingsError: an encoder-decoder's tokenizer has no token for a gap.
    """
    place = next(i for i, part in enumerate(parts) if isinstance(part, Mark) and part.name == ANSWER)
    before, after = list(parts[:place]), list(parts[place + 1 :])
    if not any(not isinstance(part, str) or part.strip() for part in after):
        return [*before]
    if special_tokens:
        sentinel = next((one for one in (known(tokenizer, name) for name in SENTINELS) if one is not None), None)
        if sentinel is None:
            raise SettingsError(
                "the tokenizer has no token for the place of the answer",
                where="template",
                expected=" or ".join(SENTINELS),
                hint="let the template end where the answer begins",
            )
        return [*before, sentinel, *after]
    for spellings in SPELLINGS:
        prefix, suffix, middle = (known(tokenizer, name) for name in spellings)
        if prefix is not None and suffix is not None and middle is not None:
            return [prefix, *before, suffix, *after, middle]
    chinese = is_cjk("".join(part for part in parts if isinstance(part, str)))
    first, then = ("下文：\n", "\n\n上文：\n") if chinese else ("What comes after:\n", "\n\nWhat comes before:\n")
    return [first, *after, then, *before]
