"""An unmodified llama-server behind the gateway: state files in its ``--slot-save-path``, restored before each answer.

How the server was started (slots, kind of cache, flash attention, version) is found out by restoring an empty state of
each layout: llama.cpp refuses one that does not fit it.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from foreword.artifact.manifest import BaseRecord, Manifest
from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.export.base import Exporting
from foreword.export.engines.llamacpp_client import LlamaServer, PrefixNotUsed
from foreword.export.llamacpp import LlamaCpp
from foreword.export.llamacpp_state import VERSIONS, StateLayout, encode_state
from foreword.serve.engine.jobs import WriteJob
from foreword.serve.engine.remote import EngineFaultError
from foreword.storage import write_atomically

_PLACEHOLDER = 0


class LlamaCppRemote:
    """llama-server at ``url``, whose ``--slot-save-path`` is ``folder``.

    Raises:
        SettingsError: nothing answers there, or it takes no state of this base.
    """

    def __init__(self, url: str, folder: Path, base: Base) -> None:
        self.base, self.folder = base, folder
        try:
            props = LlamaServer(url).get("/props")
        except (OSError, ValueError, PrefixNotUsed) as problem:
            raise SettingsError(f"no llama-server answers: {problem}", where="--url", received=url) from problem
        self.slots = int(props.get("total_slots", 1))
        self.client = LlamaServer(url, self.slots)
        self.layout = self._layout()

    def _layout(self) -> StateLayout:
        sites = [site for site in find_sites(self.base.model).sites.values() if site.kind == "self"]
        empty = np.zeros((len(sites), 2, 1, sites[0].heads * sites[0].key_size), np.float32)
        kinds: tuple[Any, ...] = ("f16", "f32")
        for version, streams, kind, flat in product(VERSIONS[::-1], {self.slots: 0, 1: 0}, kinds, (False, True)):
            layout = StateLayout(version, streams, kind, flat)
            name = f"foreword-probe-{version}-{streams}-{kind}-{int(flat)}.bin"
            write_atomically(self.folder / name, encode_state(empty, [_PLACEHOLDER], layout))
            try:
                if self.client.restore(name, 0) == 1:
                    return layout
            except PrefixNotUsed:
                continue
            finally:
                (self.folder / name).unlink(missing_ok=True)
        raise SettingsError(
            "llama-server takes no state of this base",
            where="--engine-dir",
            expected="the folder of its --slot-save-path, and a GGUF of the same base",
            received=str(self.folder),
        )

    def check(self, job: WriteJob) -> None:
        """Prefixes, soft prompts and texts stand in a cache; what else a foreword changes does not."""
        front, sampling = job.served.front, job.sampling
        if front.adapters or front.slots is not None:
            raise SettingsError(
                "llama-server takes no LoRA and no soft slots with a request", where="model",
                hint="export it, and start llama-server with --lora",
            )  # fmt: skip
        counted = sampling.presence_penalty or sampling.frequency_penalty  # llama.cpp counts the prompt's tokens too
        if sampling.logprobs is not None or sampling.no_repeat_ngram_size or sampling.min_tokens or counted:
            raise SettingsError(
                "not behind llama-server",
                received="logprobs, min_tokens, no_repeat_ngram_size, or a presence or frequency penalty",
                hint="leave them out",
            )

    def ask(self, job: WriteJob, slot: int) -> list[int]:
        """The answer's tokens; an error unless the server used every virtual token."""
        front, options = job.served.front, _options(job)
        length = front.num_virtual_tokens
        try:
            if not length:
                # Without the cache: a slot may hold another foreword under the same placeholder ids.
                answer = self.client.complete(job.ids, slot, **options, cache_prompt=False)
            else:
                answer = self.client.ask(self._state(front), [_PLACEHOLDER] * length, job.ids, slot, **options)
            return [int(token) for token in answer["tokens"]]
        except (PrefixNotUsed, OSError, ValueError, KeyError) as problem:
            raise EngineFaultError(
                "llama-server did not answer with the foreword in front", received=str(problem)[:300]
            ) from problem

    def _state(self, front: Foreword) -> str:
        """The name of the foreword's state file, written where it is not there."""
        name = f"foreword-{front.digest()[:24]}.bin"
        if not (self.folder / name).exists():
            record = BaseRecord(id=self.base.id, architecture=self.base.architecture, kind=self.base.kind)
            manifest = Manifest(base=record, method="prefix")
            exporting = Exporting(name, front, manifest, self.base, self.folder, self.folder)
            cache = LlamaCpp().engine_order(exporting)
            write_atomically(self.folder / name, encode_state(cache, [_PLACEHOLDER] * cache.shape[2], self.layout))
        return name


def _options(job: WriteJob) -> dict[str, Any]:
    """A request's sampling as llama-server calls it; its own defaults that would change it are switched off."""
    sampling = job.sampling
    options: dict[str, Any] = {
        "n_predict": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p, "min_p": 0.0,
        "top_k": 1 if sampling.temperature == 0 else sampling.top_k, "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": job.tokens,
    }  # fmt: skip
    return options if sampling.seed is None else {**options, "seed": sampling.seed % 2**31}
