"""Edits of the instruction by phrases, without gradients: delete, swap, repeat, take one over from another prompt.

After GrIPS (Prasad et al. 2023), whose fourth operation, paraphrasing a phrase by a model, is the model's own proposer
here; and instead of adding a deleted phrase back, phrases of other good prompts are taken over.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from foreword.messages import Message
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.rounds import State

_PHRASE = re.compile(r"[^,.;:!?，。；：！？、\n]+[,.;:!?，。；：！？、]*\s*|\s+")
_LONG = 6


def phrases(text: str) -> list[str]:
    """A text cut at its punctuation, long pieces in halves; joined they are the text again."""
    out: list[str] = []
    for part in _PHRASE.findall(text):
        words = re.findall(r"\S+\s*", part)
        if len(words) > _LONG:
            half = len(words) // 2
            lead = part[: len(part) - len(part.lstrip())]
            out += [lead + "".join(words[:half]), "".join(words[half:])]
        else:
            out.append(part)
    return out if "".join(out) == text else [text]


@dataclass(frozen=True)
class Edits:
    """Phrases of the champion's instruction deleted, swapped, repeated; phrases of others taken over."""

    name: str = "edit"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        dice, best = random.Random(state.dice(self.name)), state.best
        made = [*_own(best), *_taken_over(best, state.beam[1:])]
        dice.shuffle(made)
        return made[:wanted]


def _own(best: Variant) -> Iterator[Variant]:
    body = best.guidance.rstrip()
    rest = best.guidance[len(body) :]
    parts = phrases(body)
    if len(parts) < 2:
        return
    for i, part in enumerate(parts):
        left = "".join(parts[:i] + parts[i + 1 :]).strip()
        yield best.made("edit", Message("without {quoted}", quoted=repr(part.strip())), guidance=left + rest)
        yield best.made(
            "edit", Message("{quoted} once more", quoted=repr(part.strip())), guidance=f"{body} {part.strip()}{rest}"
        )
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            swapped = [one.strip() for one in parts]
            swapped[i], swapped[j] = swapped[j], swapped[i]
            change = Message(
                "{quoted} and {other} swapped", quoted=repr(parts[i].strip()), other=repr(parts[j].strip())
            )
            yield best.made("edit", change, guidance=" ".join(swapped) + rest)


def _taken_over(best: Variant, others: tuple[Variant, ...]) -> Iterator[Variant]:
    body = best.guidance.rstrip()
    for other in others:
        for part in phrases(other.guidance.rstrip()):
            if len(part.split()) > 1 and part.strip() not in body:
                change = Message("{quoted} from {name}", quoted=repr(part.strip()), name=other.name)
                yield best.made("edit", change, guidance=f"{body} {part.strip()}{best.guidance[len(body) :]}")
