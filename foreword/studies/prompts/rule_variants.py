"""Variants by rule: the same request in other words, another order, another format, other label words. No model."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from foreword.data.quality.unicode import cjk_share
from foreword.data.task.infer import separator
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.messages import Message
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.rounds import State

_FORMATS = {
    "en": (
        ("input and output", "Input: {{ X }}\nOutput:"),
        ("the text first, then the question's word", "{{ X }}\n\nAnswer:"),
        ("quoted", 'Text: "{{ X }}"\nLabel:'),
        ("question and answer", "Q: {{ X }}\nA:"),
        ("headings", "### Text\n{{ X }}\n\n### Label\n"),
        ("the target's name", "{{ X }}\n{{ T }}:"),
    ),
    "zh": (
        ("输入和输出", "输入：{{ X }}\n输出："),
        ("先文本后答案", "{{ X }}\n\n答案："),
        ("引号", "文本：“{{ X }}”\n标签："),
        ("问答", "问：{{ X }}\n答："),
        ("括号", "【文本】{{ X }}\n【标签】"),
    ),
}
_OPENINGS = {
    "en": ("Please read carefully. ", "You are an expert at this task. ", "Task: "),
    "zh": ("请仔细阅读。", "你是一名细心的标注员。", "任务："),
}
_ENDINGS = {
    ("en", "classification"): ("Answer with one label only.", "Choose the one that fits best.", "Do not explain."),
    ("zh", "classification"): ("只回答一个标签。", "选出最合适的一个。", "不要解释。"),
    ("en", "generation"): ("Be brief.", "Write complete sentences.", "Use only what is given."),
    ("zh", "generation"): ("请简短。", "请写完整的句子。", "只使用给出的信息。"),
}
_WHOLE = {
    "en": ("Classify the text as one of: {}.", "Which of these fits the text: {}?", "Possible labels: {}. Pick one."),
    "zh": ("把文本归入以下一类：{}。", "下面哪个标签符合文本：{}？", "可选标签：{}。选一个。"),
}
_SYNONYMS = (
    ("decide", "determine"), ("choose", "pick"), ("classify", "categorise"), ("text", "passage"), ("review", "comment"),
    ("label", "category"), ("which", "which one"), ("fits", "describes"), ("write", "compose"), ("answer", "reply"),
    ("判断", "确定"), ("选择", "挑选"), ("文本", "内容"), ("标签", "类别"), ("回答", "答复"),
)  # fmt: skip
_SENTENCE = re.compile(r".*?(?:[.!?](?=\s|$)|[。！？\n]|$)\s*", re.DOTALL)


@dataclass(frozen=True)
class Rules:
    """Format, wording, order and label words of the champion, changed one at a time."""

    task: Task
    name: str = "rules"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        dice, best = random.Random(state.dice(self.name)), state.best
        ways = [list(way(best, self.task)) for way in (formats, wordings, orders, cases)]
        for way in ways:
            dice.shuffle(way)
        mixed = [one for one in chain.from_iterable(zip_longest(*ways)) if one is not None]
        return mixed[:wanted]


def language(variant: Variant) -> str:
    """``zh`` where the prompt is mostly Chinese, else ``en``."""
    return "zh" if cjk_share([variant.guidance, variant.template]) > 0.5 else "en"


def formats(best: Variant, task: Task) -> Iterator[Variant]:
    """Other templates around the same field; templates with blocks or several fields stay as they are."""
    fields = parsed(best.template).fields
    if len(fields) != 1 or "{%" in best.template:
        return
    written = re.search(r"\{\{.*?\}\}", best.template)
    if written is None or best.template.count("{{") != 1:
        return
    for name, form in _FORMATS[language(best)]:
        target = task.target.replace("_", " ").strip().capitalize()
        source = form.replace("{{ T }}", target).replace("{{ X }}", written.group(0))
        yield reformatted(best, task, source, Message("format: {what}", what=name))


def reformatted(best: Variant, task: Task, source: str, change: str) -> Variant:
    """The variant with another template; the label words follow it with a space where one belongs."""
    asked = replace(task, template=source, verbalizer={}, kind="generation", metric="bleu", head=False)
    labels = {label: separator(asked, text.strip()) + text.strip() for label, text in best.labels.items()}
    return best.made("rules", change, template=source, labels=labels)


def wordings(best: Variant, task: Task) -> Iterator[Variant]:
    """The instruction with other words, an opening, an ending, or written anew around the labels."""
    tongue, text = language(best), best.guidance
    body, rest = text.rstrip(), text[len(text.rstrip()) :] or "\n\n"
    glue = "" if tongue == "zh" else " "
    for opening in _OPENINGS[tongue]:
        yield best.made(
            "rules", Message("opening {quoted}", quoted=repr(opening.strip())), guidance=opening + body + rest
        )
    for ending in _ENDINGS.get((tongue, task.kind), ()):
        ends = Message("ending {quoted}", quoted=repr(ending))
        yield best.made("rules", ends, guidance=body + glue + ending + rest if body else ending + rest)
    if best.labels:
        words = ("、" if tongue == "zh" else ", ").join(one.strip() for one in best.labels.values())
        for form in _WHOLE[tongue]:
            yield best.made(
                "rules", Message("written as {quoted}", quoted=repr(form)), guidance=form.format(words) + rest
            )
    for old, new in _SYNONYMS:
        for one, other in ((old, new), (new, old)):
            found = replaced_word(body, one, other, best.labels)
            if found != body:
                change = Message("{quoted} became {other}", quoted=repr(one), other=repr(other))
                yield best.made("rules", change, guidance=found + rest)


def replaced_word(text: str, old: str, new: str, labels: Mapping[str, str]) -> str:
    """A word replaced wherever it stands alone, its capital kept; label words are left as they are."""
    if any(old in words.lower() for words in labels.values()):
        return text
    edge = r"\b" if old.isascii() else ""

    def other(match: re.Match[str]) -> str:
        return new.capitalize() if match.group(0)[:1].isupper() else new

    return re.sub(f"{edge}{re.escape(old)}{edge}", other, text, flags=re.IGNORECASE)


def orders(best: Variant, task: Task) -> Iterator[Variant]:
    """The labels in another order in the instruction; its sentences in another order."""
    for change, arrange in (("reversed", _reversed), ("rotated", _rotated), ("sorted", sorted)):
        text = with_label_order(best.guidance, list(best.labels.values()), arrange)
        if text is not None and text != best.guidance:
            yield best.made("rules", Message("label order {what}", what=Message(change)), guidance=text)
    sentences = [one for one in _SENTENCE.findall(best.guidance) if one]
    if len(sentences) > 1:
        parts = [one.strip() for one in sentences]
        rest = best.guidance[len(best.guidance.rstrip()) :]
        glue = "" if language(best) == "zh" else " "
        yield best.made("rules", "sentences reversed", guidance=glue.join(reversed(parts)) + rest)


def _reversed(words: list[str]) -> list[str]:
    return words[::-1]


def _rotated(words: list[str]) -> list[str]:
    return words[1:] + words[:1]


def with_label_order(text: str, labels: list[str], arrange: object) -> str | None:
    """The text with the label words that it lists in another order; None where it does not name each of them."""
    words = sorted((label.strip() for label in labels), key=len, reverse=True)
    if len(words) < 2 or not all(words):
        return None
    pattern = re.compile(
        "|".join(rf"(?<![^\W_]){re.escape(w)}(?![^\W_])" if w.isascii() else re.escape(w) for w in words)
    )
    found = pattern.findall(text)
    if set(found) != set(words) or len(found) != len(words):
        return None
    new = iter(arrange(found))  # type: ignore[operator]
    return pattern.sub(lambda match: next(new), text)


def cases(best: Variant, task: Task) -> Iterator[Variant]:
    """Label words in lower case, with a capital, in capitals; in the instruction, too."""
    for change, style in (
        (Message("label words with lower case"), str.lower),
        (Message("label words with a capital"), str.capitalize),
        (Message("label words with capitals"), str.upper),
    ):
        labels = {}
        for label, words in best.labels.items():
            labels[label] = words[: len(words) - len(words.lstrip())] + style(words.strip())
        if labels == dict(best.labels) or len(set(labels.values())) < len(labels):
            continue
        text = best.guidance
        for label, words in best.labels.items():
            text = re.sub(rf"\b{re.escape(words.strip())}\b", labels[label].strip().replace("\\", r"\\"), text)
        yield best.made("rules", change, guidance=text, labels=labels)
