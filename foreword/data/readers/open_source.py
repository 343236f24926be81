"""From what the user names to rows by split: a file, a folder of files, standard input, or an object in memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from foreword.data.readers.charset import load_bytes
from foreword.data.readers.in_memory import read_memory
from foreword.data.readers.parquet import class_names
from foreword.data.readers.registry import FileContent, reader_of, suffix_of, suffixes
from foreword.data.readers.split_names import SPLIT_NAMES
from foreword.data.row import Raw, canonical
from foreword.errors import DataError
from foreword.messages import Message

WHOLE = ""
"""The name of the only split of data that is not divided."""
_MOST_FILES = 10_000


@dataclass
class Part:
    """The rows of one file."""

    raw: Raw
    file: str


@dataclass
class Content:
    """The rows of one split: its files in order, the name shown, a digest of the bytes, encoding and format."""

    name: str
    parts: list[Part] = field(default_factory=list)
    digest: str = ""
    encoding: str = "utf-8"
    kind: str = ""


def open_source(source: object, encoding: str | None, named: tuple[str, ...], labelled: bool) -> dict[str, Content]:
    """Everything that a source holds, by split (train, dev, test), or under ``WHOLE``.

    Raises:
        DataError: it cannot be read.
    """
    if not isinstance(source, str | Path):
        return _from_memory(source, labelled)
    text = str(source)
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        hint = "download it first and give the file; of a Hugging Face data set give `load_dataset(...)` in Python"
        raise DataError("this is an address on a network, and only files are read", where=text, hint=hint)
    path = Path(source).expanduser()
    if text == "-" and not path.exists():
        return _file(FileContent(sys.stdin.buffer.read(), "standard input", encoding, named, labelled))
    if path.is_symlink() and not path.exists():
        hint = "mend the link, or name the file itself"
        raise DataError("the link leads to nothing", where=text, received=os.readlink(path), hint=hint)
    if path.is_dir():
        return _folder(path, text, encoding, named, labelled)
    return _file(FileContent(load_bytes(path), text, encoding, named, labelled))


def _from_memory(source: object, labelled: bool) -> dict[str, Content]:
    raws, name = read_memory(source, labelled)
    contents = {}
    for split, raw in _by_split(raws, name).items():
        spelled = "\n".join(canonical(fields) for fields, _ in raw.records).encode("utf-8", "surrogatepass")
        contents[split] = Content(name, [Part(raw, name)], hashlib.sha256(spelled).hexdigest(), "memory", "memory")
    return contents


def _file(content: FileContent) -> dict[str, Content]:
    if not content.data.strip():
        raise DataError("the file is empty", where=content.file, hint="give a file with at least a few rows")
    reader = reader_of(content)
    parsed = reader.parse(content)
    encoding = "binary" if reader.binary else content.decoded[1]
    name, digest = Path(content.file).name, hashlib.sha256(content.data).hexdigest()
    raws = {WHOLE: parsed} if isinstance(parsed, Raw) else _by_split(parsed, content.file)
    return {
        split: Content(name, [Part(raw, content.file)], digest, encoding, reader.name) for split, raw in raws.items()
    }


def _by_split(raws: Mapping[str, Raw], where: str) -> dict[str, Raw]:
    """The same under our names of the splits; two that mean the same are refused."""
    result: dict[str, Raw] = {}
    for name, raw in raws.items():
        ours = SPLIT_NAMES.get(name.lower(), name)
        if ours in result:
            raise DataError(
                Message("two parts are the split {ours!r}", ours=ours), where=where, received=", ".join(raws)
            )
        result[ours] = raw
    return result


def _folder(path: Path, text: str, encoding: str | None, named: tuple[str, ...], labelled: bool) -> dict[str, Content]:
    """A folder of parts; files or folders that are called train, dev and test are splits."""
    groups = _groups(path)
    if not groups:
        hint = Message("a folder holds files that end in {names}", names=", ".join(suffixes()))
        raise DataError("this folder holds no data files", where=text, hint=hint)
    contents = {}
    for split, files in groups.items():
        parts = [_saved(file, encoding, named, labelled) for file in files]
        whole = replace(parts[0], name=path.name, parts=[part for content in parts for part in content.parts])
        if len(parts) > 1:
            whole.digest = hashlib.sha256("".join(content.digest for content in parts).encode()).hexdigest()
        contents[split] = whole
    return contents


def _groups(path: Path) -> dict[str, list[Path]]:
    """Split -> its files. Hidden files and those of other formats (a README) are no data."""
    own = (path / "dataset_info.json", path / "dataset_dict.json", path / "state.json")
    files = [
        file
        for file in sorted(path.rglob("*"))[:_MOST_FILES]
        if file.is_file()
        and file not in own
        and file.name not in {each.name for each in own}
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        and suffix_of(file.name) in suffixes()
        and not file.name.lower().startswith(("readme", "license"))
    ]
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_split_of(file, path), []).append(file)
    if WHOLE in groups and len(groups) > 1:
        shown = ", ".join(str(file.relative_to(path)) for file in groups[WHOLE][:5])
        hint = "name one file or folder inside it"
        raise DataError(
            "some files of this folder are splits, others are not", where=str(path), received=shown, hint=hint
        )
    return groups


def _split_of(file: Path, top: Path) -> str:
    """The split that a file's name or its folder's says: ``train-00000-of-00002.parquet``, ``test/data.csv``."""
    for part in reversed(file.relative_to(top).parts):
        words = re.split(r"[^a-z]+", part.lower())
        names = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if len(names) == 1:
            return names.pop()
    return WHOLE


def _saved(file: Path, encoding: str | None, named: tuple[str, ...], labelled: bool) -> Content:
    """One file of a folder; class numbers get their names from the ``dataset_info.json`` beside it."""
    contents = _file(FileContent(load_bytes(file), str(file), encoding, named, labelled))
    if list(contents) != [WHOLE]:
        raise DataError("a file of a folder holds several splits", where=str(file), hint="name the file alone")
    content, info = contents[WHOLE], file.parent / "dataset_info.json"
    if info.is_file():
        blob = json.dumps({"info": json.loads(load_bytes(info) or b"{}")}).encode()
        for name, names in class_names(blob).items():
            for fields, _ in content.parts[0].raw.records:
                index = fields.get(name)
                if isinstance(index, int):
                    fields[name] = names[index] if 0 <= index < len(names) else None
    return content
