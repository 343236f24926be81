"""From a row to token ids, with boundaries that a prefix can stand on.

The text in front (lead) and the row's own text are tokenised apart and joined as ids. So the ids of the lead are the
same for every row, and a prefix made of the lead's keys and values is exactly the lead in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jinja2

from foreword.data.task.guidance import in_front
from foreword.data.task.infer import separator
from foreword.data.task.label_sets import NO_LABEL
from foreword.data.task.task import Task
from foreword.errors import SettingsError, TemplateError, VerbalizerError
from foreword.messages import Message

_CONTENT = "\u2045CONTENT\u2046"
_ANSWER = "\u2045ANSWER\u2046"
_DATE = "26 Jul 2024"
# Some templates write today's date, and the lead must be the same tomorrow. A macro shadows the function of that name.
_FIXED_DAY = "{% macro strftime_now(format) %}" + _DATE + "{% endmacro %}"


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    @property
    def eos_token_id(self) -> Any:
        """The token that ends a text, or None."""

    @property
    def pad_token_id(self) -> Any:
        """The token that fills up a batch, or None."""

    @property
    def bos_token_id(self) -> Any:
        """The token that begins a text, or None."""

    @property
    def unk_token_id(self) -> Any:
        """The token that stands for what the vocabulary lacks, or None."""

    @property
    def is_fast(self) -> bool:
        """Whether it can tell which characters a token covers."""

    chat_template: Any

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Token ids under ``input_ids``."""

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        """The conversation as one text."""

    def convert_tokens_to_ids(self, *args: Any, **options: Any) -> Any:
        """The ids of tokens in the vocabulary's spelling."""

    def convert_ids_to_tokens(self, *args: Any, **options: Any) -> Any:
        """The vocabulary's spelling of ids."""

    def decode(self, *args: Any, **options: Any) -> Any:
        """The text of ids."""


@dataclass(frozen=True)
class Pieces:
    """The text around a row's own: ``lead`` in front of it, ``tail`` behind it, ``end`` what follows an answer."""

    lead: str
    tail: str
    end: str = ""


def pieces(task: Task, tokenizer: Tokenizer, guidance: str | None = None) -> Pieces:
    """The text before and after the row's text; ``guidance`` stands in front whatever the task says about its place.

    Plain tasks: the guidance where it stands in front, and nothing. Chat tasks: the tokenizer's chat template is filled
    in with the guidance as the system message (in front of the user's text where the template knows no system) and cut
    around the user's text.

    Raises:
        SettingsError: the task wants a chat template and the tokenizer has none, or one that hides the text.
    """
    guidance = in_front(task) if guidance is None else guidance
    if task.turns and task.chat and tokenizer.chat_template:
        return Pieces(_lead_of_turns(tokenizer, guidance.strip()), "", _after_answer(tokenizer, []))
    if not task.chat:
        return Pieces(guidance, "")
    if not tokenizer.chat_template:
        hint = "leave out --chat, or use an instruct model"
        raise SettingsError("the tokenizer has no chat template", where="--chat", hint=hint)
    wanted = guidance.strip()
    system = [{"role": "system", "content": wanted}] if wanted else []
    text = _chat(tokenizer, [*system, {"role": "user", "content": _CONTENT}])
    if wanted and (text is None or wanted not in text.partition(_CONTENT)[0]):
        system = []
        text = _chat(tokenizer, [{"role": "user", "content": guidance + _CONTENT}])
    if text is None or text.count(_CONTENT) != 1:
        hint = "leave out --chat and write the format into --guidance and --template"
        raise SettingsError("the chat template cannot be used for one user message", where="--chat", hint=hint)
    lead, _, tail = text.partition(_CONTENT)
    return Pieces(lead, tail, _after_answer(tokenizer, system))


def _lead_of_turns(tokenizer: Tokenizer, guidance: str) -> str:
    """What every conversation begins with: everything up to the guidance's end, or the token that begins a text."""
    probe = {"role": "user", "content": _CONTENT}
    if not guidance:
        first = str(getattr(tokenizer, "bos_token", None) or "")
        return first if first and (_chat(tokenizer, [probe]) or "").startswith(first) else ""
    for messages in ([{"role": "system", "content": guidance}, probe], [{**probe, "content": guidance}]):
        before, found, _ = (_chat(tokenizer, messages) or "").partition(guidance)
        if found:
            return before + guidance
    hint = "leave out --chat and write the format into --guidance and --template"
    raise SettingsError("the chat template hides the guidance", where="--chat", hint=hint)


def conversation(task: Task, tokenizer: Tokenizer, turns: Sequence[Mapping[str, str]]) -> str:
    """A conversation as the chat template writes it, up to where the answer begins, without the lead.

    The guidance and the conversation's own system text are one system message, or stand in front of the first message
    where the template knows no system.

    Raises:
        TemplateError: the chat template refuses these roles in this order.
    """
    rest, guidance = [dict(turn) for turn in turns], in_front(task).strip()
    stated = [rest.pop(0)["content"]] if rest and rest[0]["role"] == "system" else []
    front = "\n\n".join([*([guidance] if guidance else []), *stated])
    lead = pieces(task, tokenizer).lead
    text = _chat(tokenizer, [*([{"role": "system", "content": front}] if front else []), *rest])
    if (text is None or not text.startswith(lead) or front.strip() not in text) and front and rest:
        first = {**rest[0], "content": f"{front}\n\n{rest[0]['content']}"}
        text = _chat(tokenizer, [first, *rest[1:]])
    if text is None or not text.startswith(lead):
        roles = ", ".join(turn["role"] for turn in turns)
        raise TemplateError("the chat template does not take this conversation", where="--chat", received=roles)
    return text[len(lead) :]


def _after_answer(tokenizer: Tokenizer, system: list[dict[str, str]]) -> str:
    turns = [*system, {"role": "user", "content": _CONTENT}, {"role": "assistant", "content": _ANSWER}]
    return (_chat(tokenizer, turns, generation=False) or "").partition(_ANSWER)[2]


def _chat(tokenizer: Tokenizer, messages: list[dict[str, str]], generation: bool = True) -> str | None:
    """The messages as text; None when the template refuses them (no system role, for instance)."""
    template = tokenizer.chat_template
    options: dict[str, Any] = {"date_string": _DATE, "enable_thinking": False}
    if isinstance(template, str) and "strftime_now" in template:
        options["chat_template"] = _FIXED_DAY + template
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation, **options)
    except (jinja2.TemplateError, TypeError, KeyError):
        return None
    return str(text)


def token_ids(tokenizer: Tokenizer, text: str, special_tokens: bool = False, literal: bool = False) -> list[int]:
    """The ids of a text; with ``literal`` what spells a special token is text like any other."""
    if literal and any(str(name) in text for name in getattr(tokenizer, "all_special_tokens", ())):
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    return list(tokenizer(text, add_special_tokens=special_tokens)["input_ids"]) if text or special_tokens else []


def lead_ids(
    task: Task,
    tokenizer: Tokenizer,
    *,
    text: str | None = None,
    special_tokens: bool = False,
    whatever_place: bool = False,
) -> list[int]:
    """The ids in front of every row: the beginning-of-text token where the tokenizer adds one, then the guidance.

    Args:
        text: another guidance instead of the task's.
        special_tokens: the rows carry special tokens themselves (encoders), so the lead has none.
        whatever_place: the guidance stands in front although the task weaves it into the rows: what a prefix starts
            from.
    """
    chosen = task if text is None else replace(task, guidance=text)
    ids = token_ids(tokenizer, pieces(chosen, tokenizer, chosen.guidance if whatever_place else None).lead)
    first = tokenizer.bos_token_id
    if special_tokens or first is None or token_ids(tokenizer, "", True)[:1] != [first]:
        return ids
    return ids if ids[:1] == [first] else [first, *ids]


def end_id(task: Task, tokenizer: Tokenizer) -> int | None:
    """The token that ends an answer: the end of the turn in a chat, the end of text otherwise; None: there is none."""
    end = pieces(task, tokenizer).end.lstrip() if task.chat else ""
    if end:
        first = token_ids(tokenizer, end)[:1]
        # The first token counts only when it is one that text cannot contain by itself, like <|im_end|>.
        if first and end.startswith(str(tokenizer.convert_ids_to_tokens(first)[0])) and end.startswith(("<", "[")):
            return int(first[0])
    return None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)


def joined(tokenizer: Tokenizer, text: str, first: bool = True, literal: bool = False) -> list[int]:
    """The ids of a text that stands at the start (``first``) or behind other ids; ``literal`` as in token_ids.

    Tokenizers of the SentencePiece kind put a space in front of any text; behind other ids a second one is not written.
    """
    if not first and text.startswith(" "):
        own = token_ids(tokenizer, "a")
        if own and str(tokenizer.convert_ids_to_tokens(own[:1])[0]).startswith("\u2581"):
            text = text.removeprefix(" ")
    return token_ids(tokenizer, text, literal=literal)


def answer_ids(task: Task, tokenizer: Tokenizer, answer: str) -> list[int]:
    """The ids of an answer as it follows a row's text, without the end."""
    return joined(tokenizer, answer, first=False, literal=task.kind == "generation")


def completion(task: Task, reference: str) -> str:
    """A reference text as it follows a row's text."""
    return separator(task, reference) + reference


def mask_id(tokenizer: Tokenizer) -> int:
    """The token that a masked language model answers at.

    Raises:
        SettingsError: the tokenizer has none.
    """
    token = getattr(tokenizer, "mask_token_id", None)
    if token is None:
        raise SettingsError(
            "the tokenizer has no mask token, which {{ mask }} asks for",
            where="template",
            hint="use a masked language model such as BERT or RoBERTa, or end the template where the answer begins",
        )
    return int(token)


def label_ids(task: Task, tokenizer: Tokenizer) -> list[list[list[int]]]:
    """The ids of each label's words (one or several texts), in the order of ``task.labels``; last those of the words
    for no label, where the task has such.

    Where the words of one label begin another's (``1`` and ``10``, ``A`` and ``A+``), all of them carry an end, so that
    each is a whole answer and the shorter one has no head start.

    Raises:
        VerbalizerError: words that tokenise to nothing, or to the same ids as another label's; words of which one
            begins another, where the tokenizer has nothing that ends them.
    """
    if task.absent:
        task = replace(task, verbalizer={**task.verbalizer, NO_LABEL: task.absent}, absent="")
    ids = [[answer_ids(task, tokenizer, text) for text in words] for words in task.label_words.values()]
    _refuse_same(task, ids)
    begun = None if task.masked else _begins_another(task, ids)
    if begun is None:
        return ids
    end = label_end(task, tokenizer)
    if not end:
        raise VerbalizerError(
            "two labels cannot be told apart: the tokenizer has no token that ends the shorter one",
            where=f"labels.{begun[0]}",
            received=f"{begun[0]!r} has the first tokens of {begun[1]!r}",
            hint="choose other words: --labels 'label=words,...'",
        )
    return [[[*text, *end] for text in words] for words in ids]


def label_end_note(task: Task, tokenizer: Tokenizer) -> list[str]:
    """What is to be said of the end that the labels' words carry: a line, or none."""
    if not task.has_labels or task.head or task.masked:
        return []
    ids = [[answer_ids(task, tokenizer, text) for text in words] for words in task.label_words.values()]
    begun = _begins_another(task, ids)
    if begun is None:
        return []
    end = repr(str(tokenizer.decode(label_end(task, tokenizer))))
    form = "label words end with {end}, because {a!r} begins {b!r}"
    return [Message(form, end=end, a=begun[0], b=begun[1])]


def label_end(task: Task, tokenizer: Tokenizer) -> list[int]:
    """What stands behind the words of a label where they need an end: the end of the turn in a chat, the end of the
    text where the tokenizer writes it behind every text (T5, BART), a line break else; empty: there is nothing."""
    end = end_id(task, tokenizer)
    framed = token_ids(tokenizer, "a", True)
    if end is not None and (task.chat or framed[-1:] == [end]):
        return [end]
    plain, broken = token_ids(tokenizer, "a"), token_ids(tokenizer, "a\n")
    unknown = getattr(tokenizer, "unk_token_id", None)
    if len(broken) > len(plain) and broken[: len(plain)] == plain and unknown not in broken[len(plain) :]:
        return broken[len(plain) :]
    return [] if end is None else [end]


def _refuse_same(task: Task, ids: Sequence[Sequence[Sequence[int]]]) -> None:
    """Refuse label words without tokens, and words of two labels with the same ones."""
    seen: dict[tuple[int, ...], tuple[str, str]] = {}
    for (label, words), several in zip(task.label_words.items(), ids, strict=True):
        for text, tokens in zip(words, several, strict=True):
            where = f"labels.{label}"
            if not tokens:
                raise VerbalizerError("the words of a label tokenise to nothing", where=where, received=repr(text))
            other, theirs = seen.setdefault(tuple(tokens), (label, text))
            if other != label:
                received = f"{other!r} ({theirs!r}) has the same tokens as {label!r} ({text!r})"
                hint = "choose other words: --labels 'label=words,...'"
                raise VerbalizerError("two labels cannot be told apart", where=where, received=received, hint=hint)


def _begins_another(task: Task, ids: Sequence[Sequence[Sequence[int]]]) -> tuple[str, str] | None:
    """Two labels of which the words of the first begin the words of the second; None: there are none."""
    owners = {tuple(tokens): label for label, several in zip(task.labels, ids, strict=True) for tokens in several}
    for tokens, label in owners.items():
        for size in range(1, len(tokens)):
            shorter = owners.get(tokens[:size], label)
            if shorter != label:
                return shorter, label
    return None
