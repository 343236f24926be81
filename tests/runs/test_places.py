"""Whole runs with templates that say where things stand: soft slots, the mask, the answer, the guidance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from foreword import api
from foreword.artifact.store import load
from foreword.core.base.load import Base, base_of, load_base
from foreword.core.inject import initial_values
from foreword.core.inject.value import Foreword
from foreword.data.task.decoding import Decoding
from foreword.data.tokens.examples import Example
from foreword.errors import SettingsError, TemplateError, VerbalizerError
from foreword.evaluation.generate import decode
from foreword.evaluation.predictions import read_jsonl
from foreword.runs.prepare.prepare import prepare
from foreword.settings.schema import TrainRequest, TrainSettings
from foreword.testing.families import FAMILIES
from foreword.testing.method_contracts import byte_tokenizer
from foreword.training.gradual import Gradual
from foreword.training.loop import Trial

Requests = Callable[..., TrainRequest]
GUIDANCE = "Say yes or no.\n"


def masked_base(family: str, head: bool = True) -> Base:
    """A tiny encoder with its language head and a tokenizer that has a mask."""
    spec = FAMILIES[family]
    config = getattr(transformers, spec.config)(**{**spec.settings, "max_position_embeddings": 512})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        name = spec.model.replace("Model", "ForMaskedLM") if head else spec.model
        model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return base_of(model, byte_tokenizer(mask=True), id=family)


@pytest.fixture(scope="module")
def loaded(base: Callable[[str], str]) -> Callable[[str], Base]:
    """The tiny base of a family, loaded once."""
    found: dict[str, Base] = {}
    return lambda family: found.setdefault(family, load_base(base(family)))


# --- soft slots


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("place", ["{0}{{{{ text }}}}:", "{{{{ text }}}}:{0}", "{0}{{{{ text }}}}{0} so:"])
def test_slots_that_start_from_words_are_those_words(
    tmp_path: Path, labelled: str, loaded: Callable[[str], Base], request_of: Requests, family: str, place: str
) -> None:
    """Contract 7 at any place of the template: step 0 is the prompt with the words."""
    base, words = loaded(family), " It is "
    soft = {"guidance": GUIDANCE, "template": place.format("{{ soft(' It is ') }}")}
    plain = {"guidance": GUIDANCE, "template": place.format(words)}
    slotted = prepare(request_of(labelled, base, tmp_path / "a", task=soft, method="slots"))
    worded = prepare(request_of(labelled, base, tmp_path / "b", task=plain))
    value = slotted.method.writer(slotted.start).write().detach()
    assert value.slots is not None
    assert any(token < 0 for token in slotted.examples["dev"][0].input_ids)
    expected = worded.asker.answer(Foreword(text=GUIDANCE), worded.examples["dev"])
    for asked in (value, Foreword(text=GUIDANCE)):
        got = slotted.asker.answer(asked, slotted.examples["dev"])
        for one, other in zip(got, expected, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert "{soft" in slotted.asker.answer(value, slotted.examples["dev"][:1])[0].input


def test_slots_in_a_generation_and_in_an_encoder(
    tmp_path: Path, paired: str, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    pairs = {"template": "{{ soft(3, 'Begin with') }} {{ prompt }}{{ soft(1) }}:", "max_new_tokens": 5}
    made = api.train(request_of(paired, base("llama"), tmp_path / "pairs", task=pairs, method="slots"))
    assert api.verify(made.file).ok
    value, _ = load(made.file)
    if made.outcome == "learned":
        assert value.slots is not None
        assert value.slots.shape == (4, 32)
        assert "4 soft slots" in str(made)
    assert api.generate(made.file, "abc") == api.predict(made.file, text="abc")[0].output
    head = {"template": "{{ soft(2) }}{{ text }}{{ soft(2) }}", "head": True, "guidance": "Yes?\n"}
    made = api.train(request_of(labelled, base("bert"), tmp_path / "head", task=head, method="slots"))
    assert made.outcome == "learned"
    assert api.verify(made.file).ok


@pytest.mark.parametrize(
    ("method", "template", "problem"),
    [
        ("prefix", "{{ soft(2) }}{{ text }}", "does not train"),
        ("text", "{{ soft(2) }}{{ text }}", "does not train"),
        ("slots", "{{ text }}:", "has none"),
        ("prefix", "{{ text }} {{ mask }}", "no masked language model"),
        ("prefix", "{{ soft('x') ~ text }}", "stands alone"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_weights_are_read(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, method: str, template: str,
    problem: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises((SettingsError, TemplateError), match=problem):
        api.train(request_of(labelled, base("llama"), tmp_path / "run", task={"template": template}, method=method))


def test_a_head_on_an_encoder_decoder_is_refused_before_its_weights_are_read(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.AutoModelForSeq2SeqLM, "from_pretrained", None)
    with pytest.raises(SettingsError, match="classifies by the words"):
        api.train(request_of(labelled, base("t5"), tmp_path / "run", task={"head": True}))


def test_an_encoder_that_should_write_is_refused_before_its_weights_are_read(
    tmp_path: Path, paired: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", None)
    with pytest.raises(SettingsError, match="cannot generate"):
        api.train(request_of(paired, base("bert"), tmp_path / "run", task={}))


def test_soft_slots_in_a_chat(tmp_path: Path, labelled: str, request_of: Requests, chat_base: str) -> None:
    task = {"guidance": GUIDANCE, "template": "{{ soft(2) }}{{ text }}", "chat": True}
    prepared = prepare(request_of(labelled, chat_base, tmp_path / "run", task=task, method="slots"))
    shown = prepared.asker.answer(prepared.method.writer(prepared.start).write(), prepared.examples["dev"][:1])[0].input
    assert shown.startswith("{soft 2}")
    assert shown.endswith("<s>assistant\n")


# --- the mask


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "albert", "electra", "modernbert"])
def test_a_masked_model_is_asked_at_the_mask(tmp_path: Path, labelled: str, request_of: Requests, family: str) -> None:
    base = masked_base(family)
    task = {"template": "{{ text }} Is it so? {{ mask }}.", "labels": {"no": "n|nope", "yes": "y"}}
    made = api.train(request_of(labelled, base, tmp_path / "run", task=task, settings={"max_steps": 2}))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["task"]["more_words"] == {"no": [" nope"]}
    assert api.verify(made.file, base).ok
    for row in read_jsonl(tmp_path / "run" / "predictions" / "foreword.jsonl"):
        assert set(row.scores) == {"no", "yes"}
    with pytest.raises(SettingsError, match="language head"):
        api.verify(made.file, masked_base(family, head=False))


def test_scores_at_the_mask_are_those_of_the_model(tmp_path: Path, labelled: str, request_of: Requests) -> None:
    """A label's probability is the sum of its words'; a word of two tokens has two masks, and its tokens' mean."""
    base = masked_base("bert")
    task = {"guidance": "Yes? ", "template": "{{ text }} {{ mask }}!", "labels": {"no": "n|no", "yes": "y"}}
    prepared = prepare(request_of(labelled, base, tmp_path / "run", task=task))
    row = prepared.examples["dev"][0]
    (answer,) = prepared.asker.answer(Foreword(text="Yes? "), [row])
    tokenizer, model = base.tokenizer, base.model
    lead, text = tokenizer("Yes? ")["input_ids"], answer.input.removesuffix("<mask>!")
    words: dict[str, float] = {}
    for word in (" n", " no", " y"):
        ids = tokenizer(word)["input_ids"]
        asked = [*lead, *tokenizer(text)["input_ids"], *[259] * len(ids), *tokenizer("!")["input_ids"]]
        with torch.no_grad():
            logp = model(torch.tensor([asked])).logits[0].log_softmax(-1)
        words[word] = float(sum(logp[len(asked) - 1 - len(ids) + i, token] for i, token in enumerate(ids)) / len(ids))
    raw = torch.tensor([[words[" n"], words[" no"]], [words[" y"], -torch.inf]]).logsumexp(1).log_softmax(0)
    assert [answer.scores["no"], answer.scores["yes"]] == pytest.approx(raw.tolist(), abs=1e-4)


def test_words_for_the_mask_that_cannot_be(tmp_path: Path, labelled: str, request_of: Requests) -> None:
    base = masked_base("bert")

    def ask(**task: Any) -> None:
        prepare(request_of(labelled, base, tmp_path / "run", task={"template": "{{ text }} {{ mask }}", **task}))

    ask(labels={"no": "n", "yes": "no"})
    with pytest.raises(VerbalizerError, match="same words"):
        ask(labels={"no": "n|x", "yes": "y|n"})
    with pytest.raises(VerbalizerError, match="no words"):
        ask(labels={"no": "n|", "yes": "y"})
    for wrong in ({"head": True}, {"chat": True}):
        with pytest.raises(SettingsError, match="masked language model"):
            ask(**wrong)
    plain = base_of(base.model, byte_tokenizer())
    with pytest.raises(SettingsError, match="no mask token"):
        prepare(request_of(labelled, plain, tmp_path / "run", task={"template": "{{ text }} {{ mask }}"}))


def test_a_mask_that_a_row_spells_is_text(tmp_path: Path, request_of: Requests) -> None:
    rows = [{"text": f"{i} <mask> said", "label": "ab"[i % 2]} for i in range(20)]
    prepared = prepare(
        request_of(rows, masked_base("bert"), tmp_path / "run", task={"template": "{{ text }} {{ mask }}"})
    )
    assert all(row.input_ids.count(259) == 1 for row in prepared.examples["train"])


# --- calibration


def test_calibration_takes_off_what_is_said_without_content(
    tmp_path: Path, labelled: str, loaded: Callable[[str], Base], request_of: Requests
) -> None:
    task = {"guidance": GUIDANCE, "template": "{{ text }}:"}
    plain = prepare(request_of(labelled, loaded("llama"), tmp_path / "a", task=task))
    made = prepare(request_of(labelled, loaded("llama"), tmp_path / "b", task={**task, "calibrate": True}))
    prior = made.task.calibration
    assert set(prior) == {"no", "yes"}
    assert sum(map(torch.tensor(list(prior.values())).exp().tolist().__getitem__, (0, 1))) == pytest.approx(1, abs=1e-4)
    prompt = Foreword(text=GUIDANCE)
    before = plain.asker.answer(prompt, plain.examples["dev"])
    after = made.asker.answer(prompt, made.examples["dev"])
    for one, other in zip(before, after, strict=True):
        raw = torch.tensor([one.scores[label] - prior[label] for label in ("no", "yes")]).log_softmax(0)
        assert [other.scores["no"], other.scores["yes"]] == pytest.approx(raw.tolist(), abs=1e-4)


def test_a_calibrated_run_carries_its_prior(
    tmp_path: Path, labelled: str, paired: str, base: Callable[[str], str], request_of: Requests
) -> None:
    task = {"guidance": GUIDANCE, "template": "{{ text }}:", "calibrate": True}
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", task=task))
    assert load(made.file)[1].task["calibration"]
    assert api.verify(made.file).ok
    with pytest.raises(SettingsError, match="said in words"):
        api.train(request_of(paired, base("llama"), tmp_path / "other", task={"calibrate": True}))


# --- the guidance


@pytest.mark.parametrize(
    "task",
    [
        {"template": "{{ text }} {{ guidance }}:"},
        {"template": "{{ text }}:", "guidance_replaces": "text[0:1]"},
        {"template": "{{ text }}:", "guidance_replaces": "text/[xz]/"},
        {"template": "{{ text }}:", "guidance_column": "hint", "guidance_form": "keywords"},
        {"template": "{{ text }} ({{ guidance }}):", "guidance_column": "hint"},
    ],
    ids=["fusion", "position", "pattern", "column", "column-fusion"],
)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_runs_with_the_guidance_elsewhere(
    tmp_path: Path, base: Callable[[str], str], rows_of: Any, request_of: Requests, task: dict[str, Any], family: str
) -> None:
    rows = [{**row, "hint": "first, last" if i % 3 else ""} for i, row in enumerate(rows_of("words", 60))]
    asked = {"guidance": "yes or no?\n", **task, "head": family == "bert"}
    made = api.train(request_of(rows, base(family), tmp_path / "run", task=asked, settings={"max_steps": 3}))
    assert api.verify(made.file).ok
    stored = load(made.file)[1].task
    assert all(stored[key] == value for key, value in task.items())
    again = api.predict(made.file, rows[:4])
    assert len(again) == 4
    inputs = " ".join(one.input for one in again)
    assert ("first, last" if "guidance_column" in task else "yes or no?") in inputs


def test_a_template_that_names_a_column_of_a_templates_own_name(
    tmp_path: Path, base: Callable[[str], str], request_of: Requests
) -> None:
    rows = [{"mask": f"m{i}", "text": f"t{i}", "label": "ab"[i % 2]} for i in range(20)]
    with pytest.raises(TemplateError, match="is a column here") as refused:
        api.train(request_of(rows, base("llama"), tmp_path / "run", task={"template": "{{ text }} {{ mask }}"}))
    assert 'row["mask"]' in str(refused.value)


# --- the answer's place


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_text_behind_the_answer(
    tmp_path: Path, rows_of: Any, base: Callable[[str], str], request_of: Requests, family: str
) -> None:
    task = {"template": "<{{ prompt }}{{ answer }}> end", "max_new_tokens": 4}
    if family == "t5":
        with pytest.raises(SettingsError, match="place of the answer"):
            api.train(request_of(rows_of("pairs", 30), base(family), tmp_path / "run", task=task))
        return
    made = api.train(request_of(rows_of("pairs", 30), base(family), tmp_path / "run", task=task))
    assert api.verify(made.file).ok
    shown = api.predict(made.file, text="abc")[0].input
    assert shown.endswith("What comes before:\n<abc")
    assert "What comes after:\n> end" in shown


# --- gradual introduction


@pytest.mark.parametrize("task", [{}, {"template": "{{ text }} {{ guidance }}:"}], ids=["extension", "fusion"])
@pytest.mark.parametrize("method", ["prefix", "lora", "full"])
def test_guidance_that_comes_in_gradually(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, task: dict[str, Any], method: str
) -> None:
    asked = {"guidance": GUIDANCE, "template": "{{ text }}:", **task}
    settings = {"guidance_share": "0:1", "max_steps": 4, "learning_rate": 1e-3}
    made = api.train(
        request_of(labelled, base("llama"), tmp_path / "run", task=asked, settings=settings, method=method)
    )
    assert set(made.guidance) == {"with", "without"}
    assert set(made.guidance["with"]) == {"prompt", "foreword"}
    assert "on dev without the guidance" in str(made)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["training"]["guidance_on_dev"] == made.guidance
    assert api.verify(made.file).ok
    assert "Say yes or no." in api.predict(made.file, text="abx")[0].input


def test_how_many_rows_have_the_guidance_follows_from_the_step() -> None:
    plain = [Example(str(i), (-1,), (), 0, "") for i in range(200)]
    gradual = Gradual(plain, "0:1", 11, seed=3)
    counts = [sum(gradual(step, i) is None for i in range(200)) for step in range(11)]
    assert (counts[0], counts[-1]) == (0, 200)
    assert 70 < counts[5] < 130
    assert counts == [sum(gradual(step, i) is None for i in range(200)) for step in range(11)]
    assert Gradual(plain, "0.25", 11, seed=3).at(7) == 0.25
    for wrong in ("2", "a", "0:1:1", "0:-1", ""):
        with pytest.raises(SettingsError, match="share of the rows"):
            TrainSettings(guidance_share=wrong)


def test_no_guidance_to_bring_in(tmp_path: Path, paired: str, base: Callable[[str], str], request_of: Requests) -> None:
    with pytest.raises(SettingsError, match="no guidance"):
        api.train(request_of(paired, base("llama"), tmp_path / "run", task={}, settings={"guidance_share": "0:1"}))


def test_a_run_with_slots_and_a_share_goes_on_bit_equal(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "task": {"guidance": GUIDANCE, "template": "{{ soft(3) }}{{ text }}{{ soft('so') }}:"},
        "settings": {"guidance_share": "0:1", "save_steps": 1, "eval_steps": 2, "max_steps": 6},
        "method": "slots",
    }
    whole = api.train(request_of(labelled, base("llama"), tmp_path / "whole", **asked))
    real, count = Trial.begin, [0]

    def begin(self: Trial) -> Any:
        count[0] += 1
        if count[0] == 4:
            raise RuntimeError("stopped")
        return real(self)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Trial, "begin", begin)
        api.train(request_of(labelled, base("llama"), tmp_path / "part", **asked))
    resumed = api.resume(tmp_path / "part")
    assert load(resumed.file)[0].digest() == load(whole.file)[0].digest()
    assert (resumed.guidance, resumed.dev) == (whole.guidance, whole.dev)


def test_a_penalty_on_repeated_words_leaves_slots_alone(loaded: Callable[[str], Base]) -> None:
    base = loaded("llama")
    words = initial_values.embeddings_of(base.model, [70, 71])
    value, how = Foreword(slots=words), Decoding(max_new_tokens=6, repetition_penalty=5.0)
    got = decode(base.model, base.tokenizer, [[70, 71, -1, -2]], value, how, None)
    assert got == decode(base.model, base.tokenizer, [[70, 71, 70, 71]], Foreword(), how, None)
