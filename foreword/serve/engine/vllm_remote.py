"""An unmodified vLLM with the connector of an export behind the gateway: prefix files in its folder, and with each
request the name, the salt and a look at how many tokens came from the cache."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import safetensors.torch

from foreword.artifact.manifest import BaseRecord, Manifest
from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.export.base import Exporting
from foreword.export.cache_layout import cache_of
from foreword.serve.engine.jobs import WriteJob
from foreword.serve.engine.remote import EngineFaultError
from foreword.storage import write_atomically

_PLACEHOLDER, _SECONDS, _SLOTS = 0, 600, 256


class VllmRemote:
    """vLLM at ``url``, whose connector reads prefixes in ``folder``; started with ``--enable-prompt-tokens-details``.

    Raises:
        SettingsError: nothing answers there.
    """

    slots = _SLOTS

    def __init__(self, url: str, folder: Path, base: Base) -> None:
        self.url, self.folder, self.base = url.rstrip("/"), folder, base
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=10) as reply:
                self.model = str(json.load(reply)["data"][0]["id"])
        except (OSError, ValueError, KeyError, IndexError) as problem:
            raise SettingsError(f"no vLLM answers: {problem}", where="--url", received=url) from problem

    def check(self, job: WriteJob) -> None:
        """Prefixes, soft prompts and texts stand in a cache; what else a foreword changes does not."""
        front, sampling = job.served.front, job.sampling
        if front.adapters or front.slots is not None or sampling.logprobs is not None or sampling.no_repeat_ngram_size:
            raise SettingsError(
                "not behind vLLM's connector",
                received="LoRA, soft slots, logprobs or no_repeat_ngram_size",
                hint="export LoRA and start vLLM with --lora-modules; leave the others out",
            )

    def ask(self, job: WriteJob, slot: int) -> list[int]:
        """The answer's tokens; an error unless vLLM says that the virtual tokens were in its cache."""
        front, sampling = job.served.front, job.sampling
        length = front.num_virtual_tokens
        body: dict[str, Any] = {
            "model": self.model, "prompt": [*[_PLACEHOLDER] * length, *job.ids], "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or -1,
            "seed": sampling.seed, "min_tokens": sampling.min_tokens, "return_token_ids": True,
            "repetition_penalty": sampling.repetition_penalty, "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty, "stop_token_ids": sorted(job.served.ends),
            # Without a salt the cache would serve another foreword's block under the same placeholder ids.
            "cache_salt": "foreword:base",
        }  # fmt: skip
        if length:
            name = self._prefix(front)
            body |= {"kv_transfer_params": {"foreword": name}, "cache_salt": f"foreword:{name}"}
        try:
            answer = self._post(body)
            used = (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens")
            tokens = [int(token) for token in answer["choices"][0]["token_ids"]]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as problem:
            raise EngineFaultError("vLLM did not answer", received=str(problem)[:300]) from problem
        if length and (used is None or used < length):
            raise EngineFaultError(
                "vLLM did not use the foreword", expected=f"{length} cached tokens", received=used,
                hint="start it with the export's serve.sh, which has --enable-prompt-tokens-details",
            )  # fmt: skip
        return tokens

    def _prefix(self, front: Foreword) -> str:
        """The name of the foreword's file, written where it is not there."""
        name = f"foreword-{front.digest()[:24]}"
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            record = BaseRecord(id=self.base.id, architecture=self.base.architecture, kind=self.base.kind)
            manifest = Manifest(base=record, method="prefix")
            cache = cache_of(Exporting(name, front, manifest, self.base, self.folder, self.folder), "vllm")
            write_atomically(path, safetensors.torch.save({"kv": cache}, {"format": "pt"}))
        return name

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as problem:
            text = problem.read(2000).decode("utf-8", "replace")
            raise ValueError(f"it refused with {problem.code}: {text}") from problem
