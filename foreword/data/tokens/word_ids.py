"""From words to token ids, with the place of one token for each word: where its tag is read.

Each word is tokenised by itself, so that every word has a token of its own; of several tokens a tag is read at the
first (Devlin et al. 2019), or in a model that reads from left to right, which knows a word at its end only, at the
last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foreword.data.task.guidance import front_of, of_row
from foreword.data.task.tagging import in_text, words_of
from foreword.data.task.task import Task
from foreword.data.task.template import Template
from foreword.data.tokens.tokenize import Tokenizer, token_ids
from foreword.errors import TemplateError

# How byte-level and SentencePiece vocabularies spell a space that is a token of its own.
_SPACES = ("\u0120", "\u2581")
# Stands for the words while the template is filled in; no text has it.
_MARK = "\ue0f0\ue0f1"


@dataclass(frozen=True)
class Tagged:
    """One row: ids ``[T]``, for each word the place of its token in them (-1: the row was cut before it), whether it
    was cut."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    cut: bool


class WordEncoder:
    """Rows of a tagging task as token ids.

    Where the template shows the words several times, the tags are read at the last: a decoder that is shown the
    sentence twice has read all of it when it tags a word.

    Args:
        special_tokens: the tokenizer's own go around each text (encoders).
        first_k: keep only the words within the first so many tokens; None: all.
        guided: False leaves the guidance out of rows that have it in them.
    """

    def __init__(
        self, task: Task, tokenizer: Tokenizer, special_tokens: bool, first_k: int | None, guided: bool = True
    ) -> None:
        self.task, self.tokenizer, self.first_k, self.guided = task, tokenizer, first_k, guided
        self.template, self.causal = Template(task.template), not special_tokens
        self.front, self.back = _around(tokenizer) if special_tokens else ([], [])
        self._known: dict[str, list[int]] = {}

    def encode(self, fields: Mapping[str, object]) -> Tagged:
        """One row's ids and places.

        Raises:
            TemplateError: a field is missing, or the template changes the words.
        """
        words = words_of(fields.get(self.task.words))
        guidance = of_row(self.task, fields) if self.guided else ""
        shown = self.template.render({**fields, self.task.words: _MARK}, guidance)
        texts = (front_of(self.task, guidance) + shown).split(_MARK)
        if len(texts) < 2:
            hint = "write them as they are: {{ " + self.task.words + " }}"
            raise TemplateError("the template does not show the words to tag", where="template", hint=hint)
        tokens = self._words(words)
        kept = self._kept(tokens)
        ids = [*self.front, *token_ids(self.tokenizer, texts[0])]
        places: list[int] = []
        for text in texts[1:]:
            places = []
            for own in tokens[:kept]:
                ids += own
                places.append(len(ids) - 1 if self.causal else len(ids) - len(own) + self._blank(own))
            ids += token_ids(self.tokenizer, text)
        return Tagged((*ids, *self.back), (*places, *[-1] * (len(words) - kept)), kept < len(words))

    def _words(self, words: Sequence[str]) -> list[list[int]]:
        shown = [word.replace("\u00a0", " ") for word in in_text(words)]
        new = [word for word in dict.fromkeys(shown) if word not in self._known]
        if new:
            found = self.tokenizer(new, add_special_tokens=False, verbose=False)["input_ids"]
            self._known.update(zip(new, found, strict=True))
        # A word that is nothing to the tokenizer (a lone variation selector) is an unknown one: it has a tag too.
        return [self._known[word] or [self._unknown()] for word in shown]

    def _blank(self, own: Sequence[int]) -> int:
        """1 where a word's first token is nothing but the space in front of it."""
        return int(len(own) > 1 and str(self.tokenizer.convert_ids_to_tokens(list(own[:1]))[0]) in _SPACES)

    def _unknown(self) -> int:
        found = self.tokenizer.unk_token_id
        return int(self.tokenizer.pad_token_id or 0) if found is None else int(found)

    def _kept(self, tokens: Sequence[Sequence[int]]) -> int:
        """How many words lie within the first k tokens."""
        total = 0
        for place, own in enumerate(tokens):
            total += len(own)
            if self.first_k is not None and total > self.first_k:
                return place
        return len(tokens)


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens in front of a text and behind it."""
    bare, whole = token_ids(tokenizer, "a"), token_ids(tokenizer, "a", True)
    start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]
