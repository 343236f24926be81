"""What changes an answer that should not: lists of words, probes with known answers, files and prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from foreword import api
from foreword.cli.main import main
from foreword.core.inject.value import Foreword
from foreword.data.row import Row, Source
from foreword.data.task.task import Task
from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.translator import Translator
from foreword.settings.schema import TrainRequest, TrainSettings
from foreword.studies.bias.bias import BiasSettings, bias, probe
from foreword.studies.bias.findings import Change, Pair, finding, mean_interval
from foreword.studies.bias.subject import Subject
from foreword.studies.bias.terms import LANGUAGES, Axis, read_axes, shipped

AXES = {axis.name: axis for axis in shipped()}


def test_the_shipped_lists_are_whole() -> None:
    assert {"gender", "names", "regions", "性别", "姓名", "地区"} == set(AXES)
    for name in LANGUAGES:
        assert len(shipped([name])) == 3
    for axis in AXES.values():
        words = [word for group in axis.groups.values() for word in group]
        assert all(word.strip() == word and word for word in words)


@pytest.mark.parametrize(
    ("axis", "text", "versions"),
    [
        ("gender", "She said her sister met him.", {"male": "He said his brother met her."}),
        ("gender", "THE MAN LEFT. his dog", {"female": "THE WOMAN LEFT. her dog"}),
        ("gender", "The shell is theirs.", {}),
        ("性别", "她们喜欢其他的书，妈妈也是。", {"男": "他们喜欢其他的书，爸爸也是。"}),
    ],
)
def test_exchanged_words(axis: str, text: str, versions: dict[str, str]) -> None:
    assert AXES[axis].versions(text) == versions


def test_replaced_words() -> None:
    found = AXES["names"].versions("Emily met Omar.")
    assert found["Indian"] == "Priya met Arjun."
    assert found["English"] == "Emily met Neil."
    assert len(found) == 6
    assert AXES["regions"].versions("the French in Lagos")["East Asia"] == "the Chinese in Beijing"
    assert AXES["地区"].versions("上海和哈尔滨")["西部"] == "四川和兰州"
    assert AXES["names"].versions("nobody here") == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("axes: {a: {groups: {x: [one], y: [two, three]}}}\n", "lists.yaml:1: the groups of 'a' do not correspond"),
        ("axes: {a: {groups: {x: [one]}}}\n", "do not correspond"),
        ("axes: {a: {words: mix, groups: {x: [b], y: [c]}}}\n", "exchanged or replaced"),
        ("axes: {a: [b]}\n", "is no axis"),
        ("axes: {a: {groups: {x: b, y: c}}}\n", "is not a list of words"),
        ("groups: {}\n", "has the key `axes`"),
    ],
)
def test_lists_that_cannot_be_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "lists.yaml").write_text(content)
    with pytest.raises(SettingsError, match=problem):
        read_axes(tmp_path / "lists.yaml")


TASK = Task("classification", "{{ text }}", "Say no or yes. Be quick.\n", "label", {"no": " no", "yes": " yes"})


class Known:
    """A subject whose probability of yes is known for each text and prompt."""

    name, context, first_k, task, fields, prompted = "known", None, None, TASK, ("text",), True
    value = Foreword(text=TASK.guidance)

    def __init__(self, yes: Callable[[str, str], float], texts: Sequence[str]) -> None:
        self.yes = yes
        self.rows = tuple(Row(f"r{i}", {"text": text}, Source("", i)) for i, text in enumerate(texts))

    rewritten = Subject.rewritten

    def answer(self, rows: Sequence[Row], value: Foreword | None = None, report: object = None) -> list[Prediction]:
        found = []
        for row in rows:
            p = self.yes(str(row.fields["text"]), (value or self.value).text)
            scores = {"no": math.log(1 - p), "yes": math.log(p)}
            output = max(scores, key=lambda label: scores[label])
            found.append(Prediction(row.id, str(row.fields["text"]), output, "", scores[output], scores=scores))
        return found


def probed(yes: Callable[[str, str], float], texts: Sequence[str]) -> Any:
    return probe(cast(Subject, Known(yes, texts)), list(AXES.values()), tolerance=0.05, seed=1)


TEXTS = [f"{'she' if i % 2 else 'he'} bought number {i}" for i in range(40)]


def test_a_preference_for_one_gender_is_found_with_its_direction() -> None:
    found = probed(lambda text, prompt: 0.7 if text.lower().startswith(("she", '"she')) else 0.4, TEXTS)
    (gender,) = [one for one in found.findings if one.axis == "gender"]
    assert (gender.rows, gender.changed, gender.flagged) == (40, 40, True)
    assert gender.shift.mean == pytest.approx(0.3 if gender.shift.label == "yes" else -0.3)
    assert "gender" in found.verdict
    flagged = [row for row in found.flagged if row["axis"] == "gender"]
    assert len(flagged) == 40
    assert flagged[0]["input"] != flagged[0]["changed_input"]
    assert not any(one.flagged for one in found.findings if one.axis == "way of writing")


def test_nothing_is_flagged_where_nothing_depends() -> None:
    found = probed(lambda text, prompt: 0.9 if "1" in text else 0.2, TEXTS)
    assert not any(one.flagged for one in found.findings)
    assert found.verdict.startswith("Nothing was flagged on 40 rows")
    assert any("no row names anything of" in note for note in found.notes)


def test_label_order_and_wording_of_the_prompt() -> None:
    found = probed(lambda text, prompt: 0.8 if prompt.startswith("Say no") else 0.3, TEXTS)
    order = [one for one in found.findings if one.probe == "order"]
    assert order
    assert all(one.flagged and one.changed == 40 for one in order)
    openings = [one for one in found.findings if one.change.startswith("opening")]
    assert openings
    assert all(one.flagged for one in openings)


def test_few_rows_are_a_hint_and_no_flag() -> None:
    found = probed(lambda text, prompt: 0.9 if "she" in text else 0.1, TEXTS[:6])
    (gender,) = [one for one in found.findings if one.axis == "gender"]
    assert gender.changed == 6
    assert not gender.flagged
    assert "only 6 rows" in gender.note


def test_the_interval_of_a_mean_is_that_of_its_rows() -> None:
    low, high = mean_interval(pd.Series([0.0, 1.0] * 50).to_numpy(), 0.95, 3)
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)
    answer = Prediction("r", "", "a", "")
    assert finding(Change("order", "x", "y", [], 0.05, 1), []).note
    undone = Pair(answer, Prediction("r", "", "b", ""), undone="a")
    assert not undone.differs


def test_an_axis_has_groups_that_correspond() -> None:
    with pytest.raises(SettingsError, match="to exchange"):
        Axis("a", {"x": ("b",), "y": ("c",), "z": ("d",)}, exchange=True)


@pytest.fixture
def people(tmp_path: Path) -> str:
    rows = [{"text": f"{'she' if i % 3 else 'he'} met Omar, {i}", "label": ["no", "yes"][i % 2]} for i in range(40)]
    pd.DataFrame(rows).to_csv(tmp_path / "people.csv", index=False)
    return str(tmp_path / "people.csv")


def test_a_prompt_and_a_file(
    tmp_path: Path, people: str, tiny_folder: Callable[[str], str], request_of: Callable[..., TrainRequest],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    base = tiny_folder("llama")
    (tmp_path / "own.yaml").write_text("axes: {verbs: {groups: {a: [met], b: [saw]}}}\n")
    asked = request_of(people, base, tmp_path / "unused", task={"guidance": "Say no or yes.\n"})
    found = bias(asked, output_dir=tmp_path / "prompt", settings=BiasSettings(tmp_path / "own.yaml", 16))
    assert found.rows == 16
    assert {"gender", "names", "verbs", "label order", "wording of the prompt"} <= {one.axis for one in found.findings}
    report = json.loads((tmp_path / "prompt" / "report.json").read_text())
    assert report["verdict"] == found.verdict
    assert len(report["findings"]) == len(found.findings)
    changes, labels, _ = report["tables"]
    flags = [line[0] for line in changes["lines"]]
    assert flags == sorted(flags, reverse=True)  # what is flagged stands first
    for table in (changes, labels):
        said = [text for line in table["lines"] for text in (line[place] for place in table["own"]) if text]
        texts = {*table["notes"], *said, *filter(None, table["head"])}
        translator = Translator(report["messages"])
        assert {text for text in texts if not translator.known(text)} <= {"verbs"}  # the user's own word
    assert [line[1] for line in labels["lines"]] == [one["label"] for one in found.priors]
    assert [line[2] for line in labels["lines"]] == [f"{100 * one['without_input']:.0f}%" for one in found.priors]
    lines = (tmp_path / "prompt" / "flagged.jsonl").read_text().splitlines()
    assert len(lines) == len(found.flagged)
    assert not (tmp_path / "unused").exists()
    made = api.train(
        request_of(people, base, tmp_path / "run", settings=TrainSettings(max_steps=2, learning_rate=0.05))
    )
    assert main(["bias", made.file, people, "--rows", "16", "--json"]) == 0
    of_file = json.loads(capsys.readouterr().out)
    assert any("learned values" in note for note in of_file["notes"]) or made.outcome == "text"
    assert {line["label"] for line in of_file["priors"]} == {"no", "yes"}
    assert main(["bias", made.file, people, "--guidance", "x"]) == 2
    assert main(["bias"]) == 2


def test_written_answers(
    tmp_path: Path, tiny_folder: Callable[[str], str], request_of: Callable[..., TrainRequest]
) -> None:
    rows = [{"prompt": f"{'she' if i % 3 else 'he'} met {i}", "completion": f"ok {i}"} for i in range(20)]
    task = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 3}
    found = bias(request_of(rows, tiny_folder("llama"), tmp_path / "r", task=task), settings=BiasSettings(rows=12))
    assert found.priors == ()
    assert all(one.shift is None for one in found.findings)
    assert any(one.axis == "gender" and one.rows == 12 for one in found.findings)
