"""How variants are made: rules, edits, the model, gradients, examples, label words, calibration."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foreword.core.inject.initial_values import embeddings_of
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction
from foreword.runs.prepare.prepare import prepare
from foreword.settings.schema import TrainRequest
from foreword.studies.prompts.calibration import taken_off
from foreword.studies.prompts.prompt_scorer import PromptScorer, standing
from foreword.studies.prompts.rule_variants import Rules, cases, formats, orders, with_label_order, wordings
from foreword.studies.prompts.successive_halving import UnfitError
from foreword.studies.prompts.variant import Variant, distinct, named
from foreword.studies.search.few_shot import FewShotProposer, typical_first
from foreword.studies.search.held_out import make_pool
from foreword.studies.search.hotflip import Swaps, instruction_span
from foreword.studies.search.label_words import Words
from foreword.studies.search.phrase_edits import Edits, phrases
from foreword.studies.search.proposers import proposers
from foreword.studies.search.reflective import Reflective, row_scores
from foreword.studies.search.rounds import State
from foreword.studies.search.search import search
from foreword.studies.search.settings import SearchSettings
from foreword.studies.search.written_instructions import Model, instruction

TASK = Task(
    "classification", "Text: {{ text }}\nLabel:", "Decide if it is bad or good. Be quick.\n\n", "label",
    {"bad": " bad", "good": " good"},
)  # fmt: skip
START = Variant.of(TASK, "start")


def state(best: Variant = START, round: int = 1) -> State:
    return State(round, best, (best,), (), 7)


@pytest.fixture
def judge(
    tmp_path: Path, labelled: str, tiny_folder: Callable[[str], str], request_of: Callable[..., TrainRequest]
) -> PromptScorer:
    made = request_of(labelled, tiny_folder("llama"), tmp_path / "s", method="text")
    prepared = prepare(made)
    train, dev = prepared.tables["train"].rows, prepared.tables["dev"].rows
    pool = make_pool(train, dev, "label", rows=20, held=0.5, seed=1)
    return PromptScorer(prepared, pool.rows, {row.id: row for row in pool.shown}, tmp_path / "answers")


def test_rules_change_one_thing_at_a_time() -> None:
    assert {one.template for one in formats(START, TASK)} >= {"Input: {{ text }}\nOutput:", "Q: {{ text }}\nA:"}
    headed = next(one for one in formats(START, TASK) if "headings" in one.change)
    assert headed.labels == {"bad": "bad", "good": "good"}  # behind a line break no space is written
    assert all(one.guidance == START.guidance for one in formats(START, TASK))
    assert any("Determine if" in one.guidance for one in wordings(START, TASK))
    assert all(one.guidance.endswith("\n\n") and one.template == START.template for one in wordings(START, TASK))
    said = {one.change: one.guidance for one in orders(START, TASK)}
    assert said["label order reversed"] == "Decide if it is good or bad. Be quick.\n\n"
    assert said["sentences reversed"] == "Be quick. Decide if it is bad or good.\n\n"
    upper = next(one for one in cases(START, TASK) if one.change.endswith("capitals"))
    assert upper.labels == {"bad": " BAD", "good": " GOOD"}
    assert "BAD or GOOD" in upper.guidance
    made = Rules(TASK)(state(), 8)
    assert made == Rules(TASK)(state(), 8)
    assert len(made) == 8
    assert all(one.parent == "start" and one.origin == "rules" and one.change for one in made)


def test_rules_speak_chinese_to_chinese_prompts() -> None:
    task = replace(TASK, template="文本：{{ text }}\n标签：", guidance="判断文本属于哪个标签：好、坏。\n\n",
                   verbalizer={"good": "好", "bad": "坏"})  # fmt: skip
    start = Variant.of(task, "start")
    assert any("确定" in one.guidance for one in wordings(start, task))
    assert any(one.template.startswith("问：") for one in formats(start, task))
    assert all(words in "好坏" for one in formats(start, task) for words in one.labels.values())
    assert next(orders(start, task)).guidance.startswith("判断文本属于哪个标签：坏、好")


def test_templates_that_are_no_plain_field_stay() -> None:
    assert not list(formats(replace(START, template="{% if text %}{{ text }}{% endif %}"), TASK))
    assert not list(formats(replace(START, template="{{ a }} {{ b }}"), TASK))


def test_label_words_inside_other_words_are_not_labels() -> None:
    assert with_label_order("badly good", [" bad", " good"], sorted) is None
    assert with_label_order("good good bad", [" bad", " good"], sorted) is None
    assert with_label_order("good, bad", [" bad", " good"], sorted) == "bad, good"


def test_phrases_are_the_text_again() -> None:
    for text in ("", "One, two. Three four five six seven eight nine ten!", "判断文本，属于哪个标签。", "a\nb"):
        assert "".join(phrases(text)) == text
    made = Edits()(state(), 50)
    assert {one.change for one in made} >= {"without 'Be quick.'", "'Be quick.' once more"}
    other = replace(START, guidance="Think about the tone, then answer.\n", name="other")
    taken = Edits()(replace(state(), beam=(START, other)), 50)
    assert any("from other" in one.change for one in taken)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ('Instruction: "Say whether it is good."\nMore', "Say whether it is good."),
        ("\n\n  Answer yes or no  ", "Answer yes or no"),
        ("指令：判断文本的情感。", "判断文本的情感。"),
        ("!!! ...", ""),
        ("", ""),
    ],
)
def test_what_a_model_wrote_as_an_instruction(written: str, kept: str) -> None:
    assert instruction(written) == kept


def test_the_model_proposes_the_same_for_the_same_seed(judge: PromptScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    # A tiny random model writes no words: whatever it writes counts here.
    monkeypatch.setattr("foreword.studies.search.written_instructions.instruction", lambda text: repr(text))
    start = Variant.of(judge.task, "start")
    model = Model(judge, tuple(judge.shown.values()))
    before = torch.random.get_rng_state()
    made = model(state(start), 4)
    assert made == model(state(start), 4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert made != model(state(start, round=2), 4)


def test_the_gradient_tells_how_the_loss_changes(judge: PromptScorer) -> None:
    start = Variant.of(judge.task, "start")
    swaps, rows = Swaps(judge, tuple(judge.shown.values())), list(judge.shown.values())[:4]
    found = instruction_span(judge, start)
    assert found is not None
    ids, places = found
    gradient = swaps.gradient(start, ids, rows)
    assert gradient.shape[0] == len(ids)

    def loss(prompt: torch.Tensor) -> float:
        model, value = judge.prepared.base.model, Foreword(prompt=prompt)
        examples = Encoder(judge.task, judge.prepared.base.tokenizer, False).encode(rows)
        with torch.no_grad(), injected(model, [value]):
            objective = judge.prepared.asker.objective(value)
            return float(objective.losses(objective.outputs(model, examples), examples, value).mean())

    prompt, step = embeddings_of(judge.prepared.base.model, ids), torch.zeros_like(gradient)
    step[places] = 1e-2 * gradient[places] / gradient[places].norm()
    measured = (loss(prompt + step) - loss(prompt - step)) / 2
    assert measured == pytest.approx(float((gradient * step).sum()), rel=0.05)
    made = swaps(state(start), 3)
    assert made
    assert all(len(one.guidance) == len(start.guidance) and one.guidance != start.guidance for one in made)


def test_examples_are_balanced_rendered_and_reordered(judge: PromptScorer) -> None:
    start, rows = Variant.of(judge.task, "start"), tuple(judge.shown.values())
    made = FewShotProposer(judge.task, rows, most=4)(state(start), 6)
    assert {len(one.examples) for one in made} == {1, 2, 4}
    four = next(one for one in made if len(one.examples) == 4)
    assert sorted(str(judge.shown[name].fields["label"]) for name in four.examples) == ["no", "no", "yes", "yes"]
    text = four.asked(judge.task, judge.shown).guidance
    first = judge.shown[four.examples[0]].fields
    assert text.startswith(start.guidance + f"{first['text']}: {first['label']}\n\n")
    again = FewShotProposer(judge.task, rows, most=4)(state(replace(four, name="four")), 4)
    assert sorted(again[0].examples) == sorted(four.examples)
    assert typical_first(["the cat sat", "the cat sat here", "zzz qqq"])[-1] == 2


def test_label_words_are_single_tokens_of_the_model(judge: PromptScorer) -> None:
    start = Variant.of(judge.task, "start")
    for one in Words(judge, tuple(judge.shown.values()))(state(start), 6):
        assert one.labels.keys() == start.labels.keys()
        assert one.labels != start.labels


def test_calibration_takes_off_what_is_said_without_input(judge: PromptScorer) -> None:
    prior = {"a": math.log(0.8), "b": math.log(0.2)}
    one = Prediction("r", "", "a", "b", scores={"a": math.log(0.7), "b": math.log(0.3)})
    found = taken_off(one, prior)
    assert found.output == "b"
    assert sum(map(math.exp, found.scores.values())) == pytest.approx(1)
    # The content-free input itself is undecided then (Zhao et al. 2021).
    even = taken_off(replace(one, scores=prior), prior)
    assert even.scores["a"] == pytest.approx(even.scores["b"]) == pytest.approx(math.log(0.5))
    start = Variant.of(judge.task, "start")
    asked = judge.asked
    plain = judge.answer(start, range(6))
    taken = judge.answer(replace(start, calibrate=True), range(6))
    assert judge.asked == asked + 6  # the rows are asked once for both
    wanted = [taken_off(one, judge.prior(start)) for one in plain]
    assert [one.scores for one in taken] == [one.scores for one in wanted]


def test_a_prompt_read_once_gives_the_answers_of_the_prompt_in_front(judge: PromptScorer) -> None:
    asker = judge.prepared.asker
    value = standing(asker, judge.task.guidance)
    assert value.sites
    plain = asker.answer(Foreword(text=judge.task.guidance), judge.prepared.examples["dev"])
    once = asker.answer(value, judge.prepared.examples["dev"])
    assert [one.output for one in plain] == [one.output for one in once]
    for a, b in zip(plain, once, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)


def test_a_prompt_that_does_not_fit_is_refused_and_loses(judge: PromptScorer) -> None:
    with pytest.raises(UnfitError, match=r"longer than the model can read|the prompt has"):
        judge.answer(replace(Variant.of(judge.task, "long"), guidance="word " * 120), [0])
    with pytest.raises(UnfitError, match="the same words"):
        judge.answer(replace(Variant.of(judge.task, "same"), labels={"no": " x", "yes": " x"}), [0])


def test_names_and_keys() -> None:
    copies = [replace(START, name=""), replace(START, name="mine"), replace(START, guidance="x", name="")]
    assert [one.name for one in named(copies, ["start", "v1"], "v")] == ["v2", "mine", "v3"]
    assert [one.guidance for one in distinct(copies, set())] == [START.guidance, "x"]
    assert Variant.from_json(copies[0].to_json()) == copies[0]


def test_reflection_sees_search_rows_and_what_it_writes_is_raced(judge: PromptScorer) -> None:
    pytest.importorskip("gepa")
    asked: list[str] = []

    def reflect(prompt: str) -> str:
        asked.append(prompt)
        return f"```\nNo or yes? Look for the letter z or x, {len(asked)}.\n```"

    start = Variant.of(judge.task, "start")
    made = Reflective(judge, tuple(range(6)), reflect, calls=30)(state(start), 3)
    assert asked
    assert "The right answer is" in asked[0]
    assert judge.asked <= 30 + 6
    assert all(one.origin == "gepa" and one.guidance.startswith("No or yes?") for one in made)
    judge.clock.seconds = 0.0
    assert Reflective(judge, tuple(range(6, 10)), reflect)(state(start), 3) == []


def test_reflection_without_its_package_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    nothing = TrainRequest("none.csv", "none", "none")
    for settings in (SearchSettings(), SearchSettings(operators=("gepa",))):
        with pytest.raises(SettingsError, match="not installed") as caught:
            search(nothing, settings, reflect=str)
        assert "foreword[gepa]" in str(caught.value.hint)
    with pytest.raises(SettingsError, match="callable"):
        search(nothing, SearchSettings(operators=("gepa",)))


def test_reflection_needs_somebody_who_reflects(judge: PromptScorer) -> None:
    pool = make_pool(list(judge.shown.values()), judge.rows, "label", rows=10, held=0.5, seed=1)
    with pytest.raises(SettingsError, match="needs a callable"):
        proposers(judge, pool, SearchSettings(operators=("gepa",)))
    names = [one.name for one in proposers(judge, pool, SearchSettings(), reflect=str)]
    assert names == ["rules", "propose", "edit", "swap", "shots", "words", "calibrate", "gepa"]
    found = [Prediction("r", "", "a b", "a b"), Prediction("r", "", "c", "a b")]
    assert row_scores("bleu", found) == [1.0, 0.0]
    assert row_scores("macro_f1", found) == [1.0, 0.0]
