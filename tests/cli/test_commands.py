"""Every command against a stand-in for the library: what is called, what is printed where, and the exit code."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from foreword import errors
from foreword.cli.commands import COMMANDS
from foreword.cli.main import main


@dataclass(frozen=True)
class Prediction:
    id: str
    input: str
    output: str
    score: float
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VerifyReport:
    ok: bool
    rows: list[dict[str, object]]


class CheckReport:
    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses

    def to_json(self) -> dict[str, object]:
        return {"refuses": self.refuses, "ratio": float("nan")}

    def render(self) -> str:
        return "2 problems"


@dataclass(frozen=True)
class Compared:
    gate: dict[str, object] | None = None


@dataclass(frozen=True)
class Reproduced:
    agrees: bool


# Commands whose function has another name.
CALLED = {"import": "import_", "studio": "serve_studio"}


class FakeRun(ModuleType):
    """Records calls; a function answers with what ``answers`` says, or raises it."""

    def __init__(self) -> None:
        super().__init__("foreword.api")
        self.BiasSettings = lambda *values: values
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {
            "check": CheckReport(False),
            "train": {"file": "RUN/model.foreword", "metrics": {"accuracy": 0.9125}},
            "sweep": {"enough": 4},
            "transfer": {"cells": []},
            "base": {"folder": "OUT", "cell": "gru"},
            "dry_run": {"memory_mb": 900},
            "resume": {"file": "RUN/model.foreword"},
            "cross_validate": {"folder": "RUN", "folds": []},
            "resume_folds": {"folder": "RUN", "folds": []},
            "evaluate": {
                "rows": 50,
                "metrics": {"accuracy": {"value": 0.9, "low": 0.85, "high": 0.94}},
                "report": {"classes": {"good": {"precision": 1.0, "support": 20}}},
            },
            "predict": [Prediction("a-0", "fine film", "good", -0.1), Prediction("b-0", "a\tb\nc", "bad", -0.2)],
            "generate": "once upon",
            "verify": VerifyReport(True, []),
            "feedback": {"version": 2, "added": 3},
            "bias": {"verdict": "Nothing was flagged.", "rows": 40},
            "explain": {"nearest": [], "without": []},
            "export": {"folder": "DIR", "files": ["a"]},
            "import": {"file": "m.foreword"},
            "search": {"verdict": "No gain beyond noise.", "folder": "OUT"},
            "compare": Compared(),
            "resume_comparison": Compared(),
            "reproduce": Reproduced(True),
            "serve": {"url": "http://127.0.0.1:8265"},
            "chat": [{"model": "base", "messages": []}],
            "show": {"method": "prefix", "base": {"id": "some/model"}},
            "ls": [{"file": "a.foreword", "method": "prefix"}],
            "doctor": {"python": "3.11"},
            "distill": {"file": "OUT/model.foreword", "state": "measured"},
            "push": {"repository": "owner/name"},
            "studio": {"workspace": "work"},
        }
        for name in self.answers:
            setattr(self, CALLED.get(name, name), self._function(name))

    def _function(self, name: str) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            print("a library prints")
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args, **kwargs) if callable(answer) else answer

        return function


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    searching = (
        "foreword.studies.search.search",
        "foreword.studies.bias.bias",
        "foreword.studies.explain.explain",
        "foreword.export.convert",
        "foreword.export.push",
        "foreword.studio.studio_app",
        "foreword.studies.compare.compare",
        "foreword.studies.compare.reproduce",
    )
    for room in ("foreword.api", *searching):
        monkeypatch.setitem(sys.modules, room, fake)
    package = sys.modules["foreword"]
    monkeypatch.setattr(package, "api", fake, raising=False)
    return fake


TASKS = [str(Path(__file__).parent / "tasks" / f"{name}.yaml") for name in "ab"]
FORMS = {
    "check": ["check", "d.csv"],
    "base": ["base", "d.csv", "--cell", "gru", "--output-dir", "OUT"],
    "train": ["train", "d.csv", "--base", "b", "--output-dir", "OUT"],
    "sweep": ["sweep", "d.csv", "--base", "b", "--input-prefix", "4,all", "--output-dir", "OUT"],
    "transfer": ["transfer", *TASKS, "--base", "b", "--output-dir", "OUT"],
    "evaluate": ["evaluate", "m.foreword", "d.csv"],
    "predict": ["predict", "m.foreword", "--text", "fine film"],
    "generate": ["generate", "m.foreword", "--text", "start"],
    "export": ["export", "m.foreword", "--output-dir", "DIR"],
    "import": ["import", "DIR", "--output", "m.foreword", "--base", "b"],
    "serve": ["serve", "m.foreword"],
    "chat": ["chat", "m.foreword"],
    "ls": ["ls", "."],
    "show": ["show", "m.foreword"],
    "verify": ["verify", "m.foreword"],
    "feedback": ["feedback", ".", "rows.jsonl"],
    "bias": ["bias", "m.foreword", "d.csv"],
    "explain": ["explain", "m.foreword", "d.csv"],
    "search": ["search", "d.csv", "--base", "b", "--output-dir", "OUT"],
    "compare": ["compare", "d.csv", "--base", "b", "--output-dir", "OUT"],
    "reproduce": ["reproduce", "report.json"],
    "doctor": ["doctor"],
    "distill": ["distill", "d.csv", "--shots", "4", "--base", "b", "--output-dir", "OUT"],
    "push": ["push", "m.foreword", "owner/name"],
    "studio": ["studio", "work"],
    "init": ["init"],
    "schema": ["schema"],
}
# Commands that need nothing from the library.
ALONE = {"init", "schema"}
ASKING = [name for name in FORMS if name not in ALONE]


def test_every_command_has_a_form_here() -> None:
    assert FORMS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", ASKING)
def test_json_is_the_only_thing_on_stdout(
    name: str, run: FakeRun, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FORMS[name], "--json"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert out.count("\n") == 1
    assert "a library prints" in err
    assert [call[0] for call in run.calls] == [name]


@pytest.mark.parametrize("name", FORMS)
def test_people_get_text(
    name: str, run: FakeRun, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(FORMS[name]) == 0
    out, _ = capsys.readouterr()
    assert out.strip()
    assert "a library prints" not in out


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BaseError("no base", where="b", hint="get one"), 1),
        (errors.SettingsError("no"), 2),
        (errors.DataError("bad rows", where="d.csv:3"), 3),
        (errors.ResourceError("too big"), 4),
        (errors.GateError("too low"), 100),
        (errors.Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 4),
        (PermissionError(13, "Permission denied", "out.jsonl"), 1),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_errors_have_text_json_and_exit_code(
    name: str,
    error: BaseException,
    code: int,
    run: FakeRun,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run.answers[name] = error
    assert main([*FORMS[name], "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == code
    assert "foreword: " in err
    assert "Traceback" not in err


def test_traceback_only_with_v(run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.answers["doctor"] = ZeroDivisionError("division by zero")
    assert main(["doctor", "-v"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert "division by zero" in err


@pytest.mark.parametrize("words", [["trian"], ["train", "--bse", "x"], ["evaluate", "m.foreword"], ["doctor", "extra"]])
def test_usage_errors_exit_2(words: list[str], run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "SettingsError"
    assert "--help" in err
    assert run.calls == []


def test_check_refuses_with_3_unless_skipping(run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.answers["check"] = CheckReport(True)
    assert main(["check", "d.csv"]) == 3
    assert capsys.readouterr().out == "2 problems\n"
    assert main(["check", "d.csv", "--skip-bad"]) == 0
    assert main(["check", "d.csv", "--json"]) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"refuses": True, "ratio": None}


def test_check_passes_what_was_asked(run: FakeRun) -> None:
    assert main(["check", "d.csv", "--dev", "v.csv", "--base", "b", "--labels", "a=x,b=y", "--input", "t"]) == 0
    _, args, kwargs = run.calls[0]
    options = kwargs.pop("task_options")
    assert args == ("d.csv",)
    assert kwargs == {"dev": "v.csv", "test": None, "base": "b", "skip_bad": False, "encoding": None}
    assert dict(options.labels) == {"a": "x", "b": "y"}
    assert options.inputs == ("t",)


def test_train_builds_the_request_from_file_flags_and_set(run: FakeRun, tmp_path: Path) -> None:
    config = tmp_path / "task.yaml"
    config.write_text(
        "base: from-file\nseed: 1\ntask:\n  template: 'T: {{ text }}'\n"
        "method:\n  name: ptuning\n  num_virtual_tokens: 4\n"
        "training:\n  optim: sgd\n  num_train_epochs: 2\n",
    )
    words = ["train", "d.csv", "--output-dir", str(tmp_path / "run"), "--config", str(config), "--seed", "2"]
    words += [
        "--num-train-epochs",
        "5",
        "--set",
        "num_train_epochs=7",
        "--set",
        "method.num_virtual_tokens=8",
        "--chat",
    ]
    assert main(words) == 0
    request = run.calls[0][1][0]
    assert (request.data, request.base, request.method) == ("d.csv", "from-file", "ptuning")
    assert request.method_settings == {"num_virtual_tokens": 8}
    assert (request.settings.seed, request.settings.num_train_epochs, request.settings.optim) == (2, 7.0, "sgd")
    assert request.task_options.template == "T: {{ text }}"
    assert request.task_options.chat is True
    assert request.progress is not None
    assert request.places["optim"] == f"{config}:9"
    assert request.places["seed"] == "--seed"


def test_folds(run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "d.csv", "--base", "b", "--output-dir", str(tmp_path / "run"), "--folds", "5"]
    assert main(words) == 0
    assert run.calls[0][0] == "cross_validate"
    assert run.calls[0][1][1] == 5
    assert main([*words, "--dry-run"]) == 2
    assert main([*words[:-1], "1"]) == 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "folds.json").write_text("{}")
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert run.calls[-1][0] == "resume_folds"
    assert main(["train", "--resume", str(tmp_path / "run"), "--folds", "4"]) == 2
    assert main([*words, "--overwrite"]) == 0


def test_layers_as_a_flag(run: FakeRun, tmp_path: Path) -> None:
    words = ["train", "d.csv", "--base", "b", "--output-dir", str(tmp_path / "run"), "--layers", "15:"]
    assert main(words) == 0
    assert run.calls[0][1][0].method_settings == {"layers": "15:"}


def test_a_new_line_in_a_template_flag(run: FakeRun, tmp_path: Path) -> None:
    words = ["train", "d.csv", "--base", "b", "--output-dir", str(tmp_path / "r"), "--template", r"A: {{ a }}\nB:"]
    assert main(words) == 0
    assert run.calls[0][1][0].task_options.template == "A: {{ a }}\nB:"


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_train_names_what_is_missing(missing: int, run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["d.csv", "", "--base", "b", "--output-dir", "r"]
    del words[missing : missing + 2]
    assert main(["train", *[word for word in words if word]]) == 2
    assert {0: "DATA", 2: "--base", 4: "--output-dir"}[missing] + " is missing" in capsys.readouterr().err
    assert run.calls == []


def test_dry_run_trains_nothing(run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "something").touch()
    words = ["train", "d.csv", "--base", "b", "--output-dir", str(tmp_path), "--dry-run", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"memory_mb": 900}
    assert [call[0] for call in run.calls] == ["dry_run"]


def test_resume(run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(tmp_path)]) == 0
    name, args, _ = run.calls[0]
    assert name == "resume"
    assert args[0] == tmp_path
    assert callable(args[1])
    assert main(["train", "--resume", str(tmp_path / "none")]) == 2
    assert main(["train", "d.csv", "--resume", str(tmp_path), "--seed", "3", "--set", "a=1"]) == 2
    assert "--seed, --set, DATA" in capsys.readouterr().err
    assert len(run.calls) == 1


def test_predict_writes_prints_and_refuses(run: FakeRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["predict", "m.foreword", "--text", "fine film"]) == 0
    assert capsys.readouterr().out == "good\n"
    assert main(["predict", "m.foreword", "d.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["id\tinput\toutput\tscore", "a-0\tfine film\tgood\t-0.1", "b-0\ta b\\nc\tbad\t-0.2"]
    out = tmp_path / "o.jsonl"
    assert main(["predict", "m.foreword", "d.csv", "--output", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(out), "rows": 2}
    assert run.calls[-1][2]["output"] == out
    assert main(["predict", "m.foreword", "d.csv", "--json"]) == 0
    assert [row["output"] for row in json.loads(capsys.readouterr().out)] == ["good", "bad"]
    assert main(["predict", "m.foreword"]) == 2
    assert main(["predict", "m.foreword", "d.csv", "--text", "x"]) == 2


def test_evaluate_shows_figures_with_intervals_and_classes(run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "m.foreword", "d.csv", "--metric", "accuracy", "--metric", "macro_f1", "--output", "p.jsonl"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "50 rows" in out
    assert "90.0 [85.0, 94.0]" in out
    assert "label\tprecision\tsupport\ngood\t1\t20\n" in out
    _, args, kwargs = run.calls[0]
    assert args == (Path("m.foreword"), "d.csv")
    assert kwargs["metrics"] == ("accuracy", "macro_f1")
    assert kwargs["output"] == Path("p.jsonl")


def test_a_terminal_gets_a_table(
    run: FakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["predict", "m.foreword", "d.csv"]) == 0
    out = capsys.readouterr().out
    assert "\t" not in out
    assert "fine film" in out


def test_generate_decoding(run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "m.foreword", "--text", "a", "--max-new-tokens", "5", "--temperature", "0.5"]) == 0
    assert run.calls[0][2] == {"base": None, "max_new_tokens": 5, "do_sample": True, "temperature": 0.5}
    assert main(["generate", "m.foreword", "--text", "a", "--temperature", "0"]) == 0
    assert run.calls[1][2] == {"base": None, "do_sample": False}
    assert capsys.readouterr().out == "once upon\n" * 2


def test_verify_exits_1_when_answers_differ(run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.answers["verify"] = VerifyReport(False, [{"row": 0, "expected": "a", "received": "b"}])
    assert main(["verify", "m.foreword", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_ls_with_nothing_and_without_folder(run: FakeRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run.answers["ls"] = []
    assert main(["ls", str(tmp_path)]) == 0
    assert "no .foreword file" in capsys.readouterr().out
    assert main(["ls", str(tmp_path), "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert main(["ls", str(tmp_path / "none")]) == 2


def test_unknown_setting_names_line_and_nearest(
    run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "task.yaml"
    config.write_text("training:\n  seed: 1\n  learning_rte: 0.1\n")
    assert main(["train", "d.csv", "--base", "b", "--output-dir", "r", "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert f"{config}:3" in err
    assert "did you mean learning_rate?" in err


def test_a_gate_that_is_not_met_ends_with_100(run: FakeRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["compare", "d.csv", "--base", "b", "--output-dir", str(tmp_path / "out"), "--json"]
    run.answers["compare"] = Compared({"met": False, "text": "prefix > prompt + 2", "said": "the figure is +1.0"})
    assert main(asked) == 100
    out, err = capsys.readouterr()
    assert json.loads(out)["gate"]["met"] is False
    assert "the requirement was not met" in err
    run.answers["compare"] = Compared({"met": True, "text": "", "said": ""})
    assert main(asked) == 0
    run.answers["reproduce"] = Reproduced(False)
    assert main(["reproduce", "report.json"]) == 1


def test_a_comparison_takes_its_options_and_settings(run: FakeRun, tmp_path: Path) -> None:
    asked = ["compare", "d.csv", "--base", "b", "--output-dir", str(tmp_path / "out"), "--budget", "20min"]
    asked += ["--methods", "prefix, prompt", "--seeds", "2", "--curve", "--seed", "7", "--set", "num_train_epochs=1"]
    assert main(asked) == 0
    request, options = run.calls[0][1]
    assert (options.seconds, options.methods, options.seeds, options.curve) == (1200.0, ("prefix", "prompt"), 2, True)
    assert (request.settings.seed, request.settings.num_train_epochs) == (7, 1.0)
    assert main(["compare", "--resume", str(tmp_path)]) == 0
    assert run.calls[1][0] == "resume_comparison"
    assert main(["compare", "--resume", str(tmp_path), "--seeds", "2"]) == 2
    assert main(["compare", "--resume", str(tmp_path / "none")]) == 2
    assert main([*asked[:7], "--budget", "soon"]) == 2


def test_an_option_that_is_a_setting_is_told_how_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "d.csv", "--guidance-column", "hint"]) == 2
    assert "--set guidance_column=VALUE" in capsys.readouterr().err
    assert main(["train", "d.csv", "--nothing-known", "x"]) == 2
    assert "--set" not in capsys.readouterr().err
