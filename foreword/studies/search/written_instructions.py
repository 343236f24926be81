"""Instructions that the model itself writes: from examples, and as paraphrases of the champion's.

The model as proposal distribution is the idea of APE (Zhou et al. 2023): shown inputs with their answers, it is asked
which instruction was given. Small models write few good ones; the race sorts them out.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from foreword.core.inject.value import Foreword
from foreword.data.row import Row
from foreword.data.task.task import Decoding
from foreword.evaluation.generate import decode, text_of
from foreword.messages import Message
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.rule_variants import language
from foreword.studies.prompts.variant import Variant, examples_text, replace_words
from foreword.studies.search.rounds import State

_TOKENS, _EXAMPLES = 64, 5
_ASK = {
    "en": (
        "Here are inputs with the right answers.\n\n{shown}Write one short instruction that makes somebody give these "
        "answers.{labels} Write only the instruction.",
        "Write this instruction in other words. Keep its meaning and every name in it. Write only the new "
        "instruction.\n\n{text}",
    ),
    "zh": (
        "下面是一些输入和正确答案。\n\n{shown}请写一句简短的指令，让人能给出这些答案。{labels}只写指令。",
        "请用不同的话改写下面的指令，保留意思和其中的名称。只写新的指令。\n\n{text}",
    ),
}
_CONTINUE = {
    "en": ("{shown}The instruction was: ", "Instruction: {text}\nThe same instruction in other words: "),
    "zh": ("{shown}给出的指令是：", "指令：{text}\n换一种说法："),
}
_LABELS = {"en": " The labels are: {}.", "zh": "标签有：{}。"}


@dataclass(frozen=True)
class Model:
    """The base model as the one who writes prompts."""

    judge: PromptScorer
    rows: tuple[Row, ...]
    name: str = "propose"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        best, tongue, dice = state.best, language(state.best), random.Random(state.dice(self.name))
        labels = ("、" if tongue == "zh" else ", ").join(words.strip() for words in best.labels.values())
        named = _LABELS[tongue].format(labels) if best.labels else ""
        task = replace_words(self.judge.task, best)
        asked, changes = [], []
        for number in range(-(-wanted // 2)):
            shown = examples_text(task, dice.sample(self.rows, min(_EXAMPLES, len(self.rows))))
            if number % 2 and best.guidance.strip():
                asked.append({"text": best.guidance.strip()})
                changes.append("said in other words by the model")
            else:
                asked.append({"shown": shown, "labels": named})
                changes.append("written by the model from examples")
        rest = best.guidance[len(best.guidance.rstrip()) :] or "\n\n"
        made: list[Variant] = []
        for text, change in zip(self.write(asked, tongue, state.dice(self.name)), changes, strict=True):
            if not text:
                continue
            made.append(best.made(self.name, change, guidance=text + rest))
            if best.labels and labels not in text:
                more = Message("{what}, the labels named", what=Message(change))
                made.append(best.made(self.name, more, guidance=text + named + rest))
        return made[:wanted]

    def write(self, asked: Sequence[dict[str, str]], tongue: str, seed: str) -> list[str]:
        """One instruction for each request; "" where the model wrote none."""
        base = self.judge.prepared.base
        chat = bool(base.tokenizer.chat_template)
        forms = (_ASK if chat else _CONTINUE)[tongue]
        texts = [forms["text" in one].format(**one) for one in asked]
        if chat:
            texts = [
                str(
                    base.tokenizer.apply_chat_template(
                        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
                    )
                )
                for text in texts
            ]
        ids = [list(base.tokenizer(text, add_special_tokens=not chat)["input_ids"]) for text in texts]
        if base.context is not None:
            ids = [one[-(base.context - _TOKENS) :] for one in ids]
        dice = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big")
        decoding = Decoding(_TOKENS, do_sample=True, temperature=0.8, top_p=0.95, stop=("\n\n",), sampling_seed=dice)
        written = decode(base.model, base.tokenizer, ids, Foreword(), decoding, base.tokenizer.eos_token_id)
        return [instruction(text_of(base.tokenizer, one, decoding.stop)) for one in written]


def instruction(text: str) -> str:
    """What a model wrote as one instruction: its first line, without quotes and headings; "" when nothing is left."""
    line = next((one.strip() for one in text.split("\n") if one.strip()), "")
    line = re.sub(r"^(?:(?:new )?instruction|指令|新的指令)\s*[:：]\s*", "", line, flags=re.IGNORECASE)
    line = line.strip().strip('"“”*`').strip()
    good = sum(sign.isalpha() for sign in line) >= 4 and "\ufffd" not in line and len(line) <= 600
    return line if good else ""
