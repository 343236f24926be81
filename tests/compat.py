"""Run the tests marked ``compat`` on the oldest and the newest transformers that pyproject.toml claims.

Called by ``make compat``; arguments go to pytest (``python -m tests.compat -k llama``). Each release gets an
environment of its own in a temporary folder, which is removed: everything else is at the pinned versions, except what
transformers itself asks for in a certain range. Exit code 1 if any failed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Left to transformers' own ranges: it moves in step with these.
FREE = ("transformers", "tokenizers", "huggingface_hub", "hf-xet", "safetensors", "typer")


def main() -> int:
    """Prints one line a release."""
    versions = claimed()
    failed = [version for version in versions if not passes(version)]
    for version in versions:
        print(f"transformers {version}: {'FAILED' if version in failed else 'passed'}")
    return 1 if failed else 0


def claimed() -> list[str]:
    """The releases to try, oldest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions: list[str] = settings["tool"]["foreword"]["compat"]["transformers"]
    return versions


def others() -> list[str]:
    """The pinned requirements, without the ones that move with transformers."""
    lines = (ROOT / "requirements" / "main.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#") and re.split("[=<>]", line)[0] not in FREE]


def passes(version: str) -> bool:
    """Whether the tests pass with this release, in a throw-away environment."""
    print(f"== transformers {version}", flush=True)
    with tempfile.TemporaryDirectory(prefix="foreword-compat-") as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        pinned = Path(folder) / "pinned.txt"
        pinned.write_text("\n".join([*others(), f"transformers=={version}", "typer"]) + "\n", encoding="utf-8")
        for requirements in (ROOT / "requirements" / "torch.txt", pinned):
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
            subprocess.run(pip, check=True)
        tests = [python, "-m", "pytest", "-q", "-m", "compat", "-p", "no:cacheprovider"]
        return subprocess.run([*tests, *sys.argv[1:]], cwd=ROOT).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
