"""Label words that the model itself would say: the tokens that the rows of a label make likelier than other rows do.

After LM-BFF (Gao et al. 2021), without its second step of training with each candidate: the race scores them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace

import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.output_layer import logits_at
from foreword.core.passes.scoring import pad
from foreword.data.row import Row, references
from foreword.data.tokens.tokenize import answer_ids
from foreword.messages import Message
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.rounds import State

_EACH, _KEPT = 8, 5


@dataclass(frozen=True)
class Words:
    """The champion with one label's words, or all of them, replaced by tokens that its rows make likely."""

    judge: PromptScorer
    rows: tuple[Row, ...]
    name: str = "words"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        dice, best = random.Random(state.dice(self.name)), replace(state.best, calibrate=False)
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in dice.sample(self.rows, len(self.rows)):
            label = (references(row.fields.get(self.judge.task.target)) or ("",))[0]
            if len(groups[label]) < _EACH:
                groups[label].append(row)
        if any(not groups[label] for label in best.labels):
            return []
        found = self._candidates(best, groups)
        made = []
        every = {label: words[0] for label, words in found.items() if words}
        if len(every) == len(best.labels) == len({text.strip().lower() for text in every.values()}):
            made.append(state.best.made(self.name, "label words the model prefers", labels=every))
        single = [(label, text) for label, words in found.items() for text in words]
        dice.shuffle(single)
        for label, text in single:
            labels = {**best.labels, label: text}
            if len({one.strip().lower() for one in labels.values()}) == len(labels):
                change = Message("{label} is called {quoted}", label=label, quoted=repr(text.strip()))
                made.append(state.best.made(self.name, change, labels=labels))
        return made[:wanted]

    def _candidates(self, best: Variant, groups: dict[str, list[Row]]) -> dict[str, list[str]]:
        """label -> words, by how much likelier its rows make them than the rows of all labels do on average."""
        means = {label: self._means(best, groups[label]) for label in best.labels}
        average = torch.stack(list(means.values())).mean(0)
        tokenizer, out = self.judge.prepared.base.tokenizer, {}
        for label, own in best.labels.items():
            # What is said at all, then what this label makes likelier: rare tokens have wild ratios.
            likely = means[label].topk(min(200, len(average))).indices
            ranked = likely[(means[label] - average)[likely].argsort(descending=True)]
            space = own[: len(own) - len(own.lstrip())]
            words: list[str] = []
            for token in ranked.tolist():
                text = str(tokenizer.decode([token])).strip()
                fits = text.isalpha() and len(text) > 1 and text.lower() != own.strip().lower()
                if fits and answer_ids(self.judge.task, tokenizer, space + text) == [token]:
                    words.append(space + text)
                if len(words) == _KEPT:
                    break
            out[label] = words
        return out

    def _means(self, best: Variant, rows: list[Row]) -> torch.Tensor:
        """Mean log-probability ``[V]`` of each token as the answer to ``rows``."""
        prepared = self.judge.prepared
        task = best.asked(self.judge.task, self.judge.shown)
        asker = replace(prepared.asker, task=task)
        examples = asker.encoder().encode(rows)
        lead = asker.lead(Foreword(text=task.guidance))
        ids = [(*lead, *example.input_ids) for example in examples]
        model = prepared.base.model
        batch = pad(ids, int(asker.tokenizer.pad_token_id or 0), model.device)
        places = torch.tensor([len(one) - 1 for one in ids], device=model.device)
        at = torch.arange(len(ids), device=model.device)
        with torch.no_grad(), injected(model, []):
            logits = logits_at(model, at, places, input_ids=batch.ids, attention_mask=batch.mask)
        return logits.log_softmax(-1).mean(0).cpu()
