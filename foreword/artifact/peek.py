"""What a .foreword file holds, known from its header alone; torch is not imported.

The rules about names, ranks and sizes stand here, once, for peeking and for loading.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foreword.artifact.header import Header, Refuse, TensorInfo, read_header, refuser
from foreword.artifact.manifest import Manifest
from foreword.artifact.safe_files import open_regular
from foreword.messages import Message

MAX_VIRTUAL_TOKENS = 65_536
MAX_NAME = 256
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_METADATA = {"foreword", "digest", "manifest_digest"}
# What stands before the first slash of a tensor's name, and since which version of the format.
SINCE = {"prompt": 1, "keys": 1, "values": 1, "head": 1, "slots": 2, "lora_a": 2, "lora_b": 2, "weights": 2}
# The ranks that a tensor may have, by its name or by its room.
_RANKS: Mapping[str, tuple[int, ...]] = {
    "prompt": (2,), "slots": (2,), "head/weight": (2,), "head/bias": (1,), "keys/": (3,), "values/": (3,),
    "lora_a/": (2,), "lora_b/": (2,), "weights/": tuple(range(9)),
}  # fmt: skip


@dataclass(frozen=True)
class Peek:
    """What can be known of a file without reading its tensors.

    Attributes:
        manifest: the checked manifest.
        tensors: the table of tensors, in the order of the header.
        digest: the foreword's digest as the file states it; only loading compares it with the tensors.
        file_bytes: the size of the file.
    """

    manifest: Manifest
    tensors: tuple[TensorInfo, ...]
    digest: str
    file_bytes: int

    @property
    def num_virtual_tokens(self) -> int:
        """P; 0 for a text, and for what stands inside a row or changes the base."""
        return next((t.shape[0] for t in self.tensors if t.name.partition("/")[0] in ("prompt", "keys")), 0)

    @property
    def num_values(self) -> int:
        """How many numbers the foreword holds."""
        return sum(t.num_values for t in self.tensors)


def peek(path: str | Path) -> Peek:
    """Read a file's manifest and table of tensors, not the tensors.

    Raises:
        FileFormatError: as :func:`foreword.artifact.store.load`, except for what only the tensors' bytes can show.
    """
    where = os.fspath(path)
    with open_regular(path) as (file, size):
        header = read_header(file, size, where)
    manifest = check_header(header, where)
    return Peek(manifest, header.tensors, header.metadata["digest"], size)


def check_header(header: Header, where: str) -> Manifest:
    """Check everything about a .foreword file that the header alone can show; give the manifest.

    Raises:
        FileFormatError: no manifest or one that does not fit, unknown metadata, tensors that no foreword has.
    """
    refuse = refuser(where)
    if "foreword" not in header.metadata:
        raise refuse(
            "this is a safetensors file, but not a foreword",
            expected="a manifest in the metadata under 'foreword'",
            hint="a PEFT checkpoint is read with foreword.export.peft.import_peft",
        )
    text = header.metadata["foreword"]
    manifest = Manifest.from_json_text(text, where)
    if header.metadata.keys() != _METADATA:
        received = ", ".join(sorted(repr(name)[:40] for name in header.metadata))
        raise refuse("the metadata is not complete", expected=", ".join(sorted(_METADATA)), received=received)
    if not _DIGEST.fullmatch(header.metadata["digest"]):
        raise refuse("the digest is malformed", expected="64 hexadecimal digits")
    if sha256(text) != header.metadata["manifest_digest"]:
        raise refuse("the manifest is not the one that was saved", expected="the digest in the header")
    for info in header.tensors:
        _check_tensor(info, manifest.format_version, refuse)
    _check_together({info.name: info.shape for info in header.tensors}, refuse)
    return manifest


def needed_version(names: Iterable[str]) -> Literal[1, 2]:
    """The lowest version of the format that knows tensors of these names."""
    return 2 if any(SINCE.get(name.partition("/")[0], 1) == 2 for name in names) else 1


def _check_tensor(info: TensorInfo, version: int, refuse: Refuse) -> None:
    name, room = info.name, info.name.partition("/")[0]
    if len(name) > MAX_NAME or ".." in name or not _NAME.fullmatch(name):
        raise refuse(f"{name[:80]!r} cannot be the name of a tensor", expected="letters, digits, _ . / - and no ..")
    ranks = _RANKS.get(name if room in ("prompt", "slots", "head") else name[: len(room) + 1])
    if ranks is None or SINCE[room] > version:
        known = ", ".join(one for one, since in SINCE.items() if since <= version)
        raise refuse(
            f"no part of a foreword is called {name!r}",
            expected=Message("{known} in version {version}", known=known, version=version),
        )
    if len(info.shape) not in ranks:
        raise refuse(f"the tensor {name!r} has a wrong rank", expected=ranks[0], received=list(info.shape))
    if room in ("prompt", "slots", "keys", "values") and info.shape[0] > MAX_VIRTUAL_TOKENS:
        raise refuse(
            "too many virtual tokens",
            expected=Message("at most {limit}", limit=MAX_VIRTUAL_TOKENS),
            received=info.shape[0],
        )


def _check_together(shapes: Mapping[str, Sequence[int]], refuse: Refuse) -> None:
    """What the tensors must agree on: pairs of keys and values, one P, one number of classes, pairs of factors."""
    keys = {name.partition("/")[2] for name in shapes if name.startswith("keys/")}
    values = {name.partition("/")[2] for name in shapes if name.startswith("values/")}
    if keys != values:
        raise refuse("keys and values are for different sites", received=", ".join(sorted(keys ^ values))[:200])
    for site in sorted(keys):
        if shapes[f"keys/{site}"][:2] != shapes[f"values/{site}"][:2]:
            raise refuse(f"keys and values of the site {site!r} do not have the same virtual tokens and heads")
    if keys and "prompt" in shapes:
        raise refuse("a foreword has a soft prompt or keys and values, not both")
    if len({shapes[f"keys/{site}"][0] for site in keys}) > 1:
        raise refuse("the sites do not have the same number of virtual tokens")
    a, b = ({n.partition("/")[2]: s for n, s in shapes.items() if n.startswith(f"lora_{part}/")} for part in "ab")
    if a.keys() != b.keys():
        odd = ", ".join(sorted(a.keys() ^ b.keys()))[:200]
        raise refuse("lora_a and lora_b are for different layers", received=odd)
    for layer in sorted(a):
        if a[layer][0] != b[layer][1]:
            raise refuse(f"lora_a and lora_b of the layer {layer!r} do not have the same rank")
    if "prompt" in shapes and any(name.startswith(("lora_", "weights/")) for name in shapes):
        raise refuse("a foreword has a soft prompt or changed weights, not both")
    weight, bias = shapes.get("head/weight"), shapes.get("head/bias")
    if (weight is None) != (bias is None) or (weight and bias and weight[0] != bias[0]):
        raise refuse("a head is a weight [C, E] and a bias [C]", received=f"{weight} and {bias}")


def sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
