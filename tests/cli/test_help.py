"""Help that people can read; a command is one file; a settings file to begin with and its schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from foreword import cli
from foreword.cli.commands import COMMANDS, GROUPS, example, group
from foreword.cli.main import main
from foreword.settings.json_schema import settings_schema
from foreword.settings.layers import resolve
from foreword.settings.yaml import read_yaml


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_group_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert group(name) in GROUPS
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example:\n" in out
    assert f"foreword {name}" in example(name)
    assert "General:\n" in out


def test_commands_stand_in_groups_and_each_line_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.index("Data:") < out.index("Train:") < out.index("Use:") < out.index("Share:")
    assert "--install-completion" in out
    assert "..." not in out.partition("Data:")[2]
    assert max(map(len, out.splitlines())) <= 80


def test_a_new_command_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "say_hello_command.py").write_text(
        'GROUP = "Use"\nEXAMPLE = "foreword say-hello"\n\n\ndef command(name: str = "you") -> int:\n'
        '    """Say hello."""\n    print("hello", name)\n    return 0\n'
    )
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    try:
        assert "say-hello" in COMMANDS
        assert main(["say-hello", "--name", "world"]) == 0
        assert main(["--help"]) == 0
        assert "say-hello  Say hello." in " ".join(capsys.readouterr().out.split("\n")).replace("hello world", "")
    finally:
        sys.modules.pop("foreword.cli.say_hello_command", None)


def test_only_the_command_that_is_called_is_imported() -> None:
    code = (
        "import sys; from foreword.cli.main import main; main(['ls', '--help']);"
        "print([m for m in sys.modules if m.startswith('foreword.cli') and m.endswith('_command')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "['foreword.cli.ls_command']"


def test_init_writes_settings_that_train_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"row {i} {word},{word}" for i in range(10) for word in ("yes", "no")]
    Path("rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    assert main(["init", "rows.csv", "--base", "some/base"]) == 0
    request = resolve("task.yaml").request()
    assert (request.data, request.base, str(request.output_dir)) == ("rows.csv", "some/base", "run")
    assert request.task_options.template == "Text: {{ text }}\nLabel:"
    assert dict(request.task_options.labels or {}) == {"no": "no", "yes": "yes"}
    jsonschema.validate({key: given.plain() for key, given in read_yaml("task.yaml").items()}, settings_schema())
    before = Path("task.yaml").read_text()
    assert main(["init", "rows.csv"]) == 2
    assert "already" in capsys.readouterr().err
    assert Path("task.yaml").read_text() == before


def test_the_schema_knows_every_setting_and_refuses_slips(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == settings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    fine = {"base": {"name": "lstm", "dropout": 0.5}, "training": {"learning_rate": 0.1, "seed": 3, "sweep": [0.1, 1]}}
    jsonschema.validate(fine, schema)
    for wrong in ({"training": {"sed": 3}}, {"training": {"learning_rate": -1}}, {"task": {"chat": "perhaps"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert "dev metric" in schema["properties"]["training"]["properties"]["early_stopping_patience"]["description"]
