"""``foreword push``: a .foreword file and its model card to the Hugging Face Hub, or to a folder to look at first."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from foreword.artifact.hub import FILE, endpoint, repository
from foreword.artifact.manifest import Manifest
from foreword.artifact.store import load, save
from foreword.core.inject.value import Foreword
from foreword.errors import ForewordError, SettingsError
from foreword.export.model_card import Licences, model_card
from foreword.storage import write_atomically

CARD = "README.md"


def push(
    file: str | Path,
    repo: str,
    *,
    base_model: str | None = None,
    licences: Licences | None = None,
    public: bool = False,
    output_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Upload a file with its model card; nothing else goes anywhere.

    Args:
        file: a ``.foreword`` file.
        repo: ``owner/name``.
        base_model: the base's hub id, where the file names it by a path or a word; it is written into what is pushed.
        licences: of the foreword, its data and its base.
        public: whether everybody may see a repository that is made now; private otherwise.
        output_dir: write card and file there and send nothing.

    Returns:
        ``repo``, ``url`` (or ``folder``) and ``files``.

    Raises:
        FileFormatError: no such file.
        SettingsError: no repository's name, or the base has no name that others could load it by.
        ForewordError: the hub refused it.
    """
    name = repository(repo)
    value, manifest = load(file)
    manifest = _published(manifest, base_model, licences or Licences())
    card = model_card(value, manifest, name, licences or Licences())
    if output_dir is not None:
        folder = Path(output_dir)
        write_atomically(folder / CARD, card.encode())
        save(folder / FILE, value, manifest)
        return {"repo": name, "folder": str(folder), "files": [CARD, FILE]}
    return {"repo": name, "url": _upload(value, manifest, card, name, public), "files": [CARD, FILE]}


def _published(manifest: Manifest, base_model: str | None, licences: Licences) -> Manifest:
    """The manifest as others read it: the base by its hub id, and no path of this machine."""
    base = manifest.base.model_copy(update={"id": repository(base_model)} if base_model else {})
    if base.id.count("/") != 1 or base.id.startswith(("/", ".", "~")) or "\\" in base.id:
        raise SettingsError(
            "the base is named by what only this machine knows",
            where="--base-model",
            expected="its hub id, owner/name",
            received=base.id,
            hint="name it: --base-model owner/name; whoever loads the foreword has its fingerprint compared",
        )
    return manifest.model_copy(update={"base": base, "license": licences.foreword or manifest.license})


def _upload(value: Foreword, manifest: Manifest, card: str, repo: str, public: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint())
    with tempfile.TemporaryDirectory(prefix="foreword-push-") as folder:
        path = Path(folder) / FILE
        save(path, value, manifest)
        files = [CommitOperationAdd(CARD, card.encode()), CommitOperationAdd(FILE, str(path))]
        try:
            api.create_repo(repo, private=not public, exist_ok=True)
            commit = api.create_commit(repo, files, commit_message=f"{manifest.method} for {manifest.base.id}")
        except Exception as problem:  # the hub's client raises errors of several libraries
            first = str(problem).splitlines()[0][:300] if str(problem) else ""
            raise ForewordError(
                f"the hub did not take it: {type(problem).__name__}: {first}",
                where=repo,
                hint="log in with `hf auth login`, or write it to a folder first: --output-dir DIR",
            ) from problem
    return str(commit.commit_url)
