"""What the systems of a comparison are called: in reports and gates by a short name, in sentences by a title."""

from __future__ import annotations

from foreword.messages import Message
from foreword.methods.base import registry

BASELINES = {
    "majority": Message("the most frequent label"),
    "one_tag": Message("the most frequent tag"),
    "word_tags": Message("the tag that each word had most often"),
    "tfidf": Message("TF-IDF with logistic regression"),
    "nearest": Message("the answer of the nearest training row"),
}
PROMPTS = {
    "prompt": Message("your prompt"),
    "best_prompt": Message("your best prompt"),
    "few_shot": Message("the few-shot prompt"),
}


def system_of(method: str) -> str:
    """The system that a method makes: its own name, unless an untrained system has it."""
    return f"{method}_tuning" if method in BASELINES or method in PROMPTS else method


def title(system: str) -> str:
    """How a sentence calls a system."""
    if system in BASELINES or system in PROMPTS:
        return {**BASELINES, **PROMPTS}[system]
    for name, method in registry().items():
        if system_of(name) == system:
            return Message(method.title) if method.title else name
    return system
