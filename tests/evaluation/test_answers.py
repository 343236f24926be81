"""One prediction a row: in the rows' order, whatever the batch, with figures that other code agrees with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import EMPTY, Foreword
from foreword.core.passes.scoring import choice_scores
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.task.task import Decoding, Task
from foreword.data.tokens.examples import Encoder, Example
from foreword.data.tokens.tokenize import label_ids
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.methods.base import Start, make, make_writer
from foreword.testing.method_contracts import byte_tokenizer, tiny, writer_for
from foreword.training.objective import Choose, Classify, Complete, make_objective

TOKENIZER = byte_tokenizer()
LABELLED = read([{"text": "xy" * (1 + i % 4), "label": ["no", "maybe", "yes"][i % 3]} for i in range(7)])
PAIRS = read([{"prompt": "q" * (1 + i % 3), "completion": "a" * (1 + i % 4)} for i in range(6)])
CLASS_TASK = make_task(LABELLED, guidance="Say.\n", template="{{ text }}:")
PAIR_TASK = make_task(PAIRS, guidance="Say.\n", template="{{ prompt }}:", decoding=Decoding(max_new_tokens=5))


def asker(task: Task, family: str = "llama", batch_size: int = 3) -> Asker:
    model = tiny(family)
    return Asker(model, TOKENIZER, task, family in ("t5", "bart", "bert"), batch_size)


def examples(task: Task, labelled: bool = True) -> list[Example]:
    table = PAIRS if task.kind == "generation" else LABELLED
    return Encoder(task, TOKENIZER, False).encode(table.rows, labelled=labelled)


def same(got: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    assert [(p.id, p.input, p.output, p.gold, p.tokens) for p in got] == [
        (p.id, p.input, p.output, p.gold, p.tokens) for p in expected
    ]
    for one, other in zip(got, expected, strict=True):
        assert one.scores.keys() == other.scores.keys()
        for name, score in one.scores.items():
            assert score == pytest.approx(other.scores[name], abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "mistral", "t5"])
@pytest.mark.parametrize("task", [CLASS_TASK, PAIR_TASK], ids=["classification", "generation"])
def test_rows_come_back_in_order_whatever_the_batch(family: str, task: Task) -> None:
    rows = examples(task)
    found = {size: asker(task, family, size).answer(EMPTY, rows) for size in (1, 3, 100)}
    assert [p.id for p in found[3]] == [e.id for e in rows]
    assert [p.gold for p in found[3]] == [e.reference for e in rows]
    assert [p.input for p in found[3]] == [TOKENIZER.decode(list(e.input_ids)) for e in rows]
    same(found[3], found[1])
    same(found[100], found[1])


def test_scores_of_labels_are_probabilities_of_the_choices() -> None:
    one, rows = asker(CLASS_TASK), examples(CLASS_TASK)
    value = Foreword(text="Say.\n")
    lead = one.lead(value)
    with torch.no_grad():
        raw = choice_scores(
            one.model, [(*lead, *e.input_ids) for e in rows], [ids for (ids,) in label_ids(CLASS_TASK, TOKENIZER)], 0
        )
    for prediction, row in zip(one.answer(value, rows), raw.log_softmax(-1).tolist(), strict=True):
        assert list(prediction.scores) == list(CLASS_TASK.labels)
        assert list(prediction.scores.values()) == pytest.approx(row, abs=1e-4)
        assert sum(map(math.exp, prediction.scores.values())) == pytest.approx(1)
        assert prediction.score == max(prediction.scores.values()) == prediction.scores[prediction.output]


def test_what_stands_in_front() -> None:
    """A text stands in front as tokens; learned values stand there themselves, and nothing else does."""
    one = asker(CLASS_TASK)
    assert TOKENIZER.decode(list(one.lead(Foreword(text="Say.\n")))) == "Say.\n"
    assert one.lead(EMPTY) == ()
    learned = writer_for("prefix", one.model).write().detach()
    assert one.lead(learned) == ()
    assert one.objective(learned).lead == ()
    assert one.objective(Foreword(text="Hm")).lead == tuple(TOKENIZER("Hm", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("task", [CLASS_TASK, PAIR_TASK], ids=["classification", "generation"])
def test_a_prefix_started_from_the_text_answers_as_the_text(task: Task) -> None:
    """Contract 7, up to the predictions."""
    one, rows = asker(task), examples(task)
    text = Foreword(text=task.guidance)
    start = Start(one.model, task.guidance, one.lead(text))
    for method in ("prefix", "prompt", "ptuning"):
        same(one.answer(make_writer(make(method), start).write().detach(), rows), one.answer(text, rows))


@pytest.mark.parametrize("family", ["llama", "t5", "bart"])
def test_generation_carries_the_likelihood_of_the_gold_text(family: str) -> None:
    one, rows = asker(PAIR_TASK, family), examples(PAIR_TASK)
    value = writer_for("prefix", one.model).write().detach()
    found = one.answer(value, rows)
    with torch.no_grad(), injected(one.model, [value]):
        for row, prediction in zip(rows, found, strict=True):
            losses = Complete(0).outputs(one.model, [row]).values
            assert prediction.scores[GOLD_NLL] == pytest.approx(float(losses.sum()), rel=1e-4)
            assert prediction.scores[GOLD_TOKENS] == len(row.target_ids)
    total = sum(p.scores[GOLD_NLL] for p in found) / sum(p.scores[GOLD_TOKENS] for p in found)
    assert one.mean_loss(value, rows) == pytest.approx(total, rel=1e-4)
    assert all(math.isnan(p.score) and p.tokens <= 5 for p in found)


def test_mean_loss_of_a_classification_is_that_of_the_scores() -> None:
    one, rows = asker(CLASS_TASK), examples(CLASS_TASK)
    found = one.answer(EMPTY, rows)
    assert one.mean_loss(EMPTY, rows) == pytest.approx(-sum(p.scores[p.gold] for p in found) / len(found), rel=1e-4)


def test_rows_without_a_right_answer() -> None:
    for task in (CLASS_TASK, PAIR_TASK):
        table = read(
            [{"text": "xy"}] if task is CLASS_TASK else [{"prompt": "q"}],
            inputs=[*("text",)] if task is CLASS_TASK else ["prompt"],
            labelled=False,
        )
        rows = Encoder(task, TOKENIZER, False).encode(table.rows, labelled=False)
        (found,) = asker(task).answer(EMPTY, rows)
        assert found.gold == ""
        assert GOLD_NLL not in found.scores
        assert found.output in CLASS_TASK.labels or task is PAIR_TASK


def test_a_head_answers_without_words() -> None:
    task = make_task(LABELLED, template="{{ text }}", guidance="Say.\n", head=True)
    one, rows = asker(task, "bert"), examples(task)
    value = make_writer(make("prefix"), Start(one.model, "", (7, 11), classes=3)).write().detach()
    found = one.answer(value, rows)
    same(found, asker(task, "bert", 1).answer(value, rows))
    assert {p.output for p in found} <= set(task.labels)
    with torch.no_grad(), injected(one.model, [value]):
        hidden = one.model(input_ids=torch.tensor([rows[2].input_ids])).last_hidden_state[0].mean(0)
    logp = (hidden @ value.head["weight"].T + value.head["bias"]).log_softmax(-1)
    assert list(found[2].scores.values()) == pytest.approx(logp.tolist(), abs=1e-4)


def test_progress_counts_up_to_all_rows() -> None:
    seen: list[tuple[int, int]] = []
    asker(CLASS_TASK).answer(EMPTY, examples(CLASS_TASK), lambda done, total: seen.append((done, total)))
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert asker(CLASS_TASK).answer(EMPTY, []) == []


def test_the_objective_follows_the_task() -> None:
    head = make_task(LABELLED, head=True, pooling="cls")
    assert isinstance(make_objective(CLASS_TASK, TOKENIZER), Choose)
    assert make_objective(head, TOKENIZER) == Classify("cls", 0)
    assert make_objective(PAIR_TASK, TOKENIZER) == Complete(0)
    chosen = make_objective(CLASS_TASK, TOKENIZER)
    assert isinstance(chosen, Choose)
    assert [TOKENIZER.decode(list(ids)) for ids in chosen.choices] == list(CLASS_TASK.verbalizer.values())
