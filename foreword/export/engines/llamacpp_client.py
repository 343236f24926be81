"""Ask an unmodified llama-server with a foreword in front, and fail where the server did not use it.

This file needs nothing but Python's own library: it is copied beside the state files of an export. The server matches
a request's tokens with what its slot holds, so each request begins with the placeholder ids of the state file. Where
the state is gone (another request took the slot, ``cache_prompt`` is off), llama-server computes the placeholders as if
they were text and answers something else without a word: here that is an error.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

TIMEOUT = 600


class PrefixNotUsed(RuntimeError):
    """The server answered without the foreword's keys and values; the answer is not given out."""


class LlamaServer:
    """A llama-server that was started by ``serve.sh``.

    Args:
        url: such as ``http://127.0.0.1:8080``.
        slots: how many slots it has (``-np``); requests of one slot wait for each other.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", slots: int = 1) -> None:
        self.url = url.rstrip("/")
        self._locks = [threading.Lock() for _ in range(slots)]

    def ask(
        self, state: str, placeholders: Sequence[int], ids: Sequence[int], slot: int = 0, **options: Any
    ) -> dict[str, Any]:
        """The server's answer to ``ids`` behind a foreword.

        Args:
            state: name of a state file in the server's ``--slot-save-path``.
            placeholders: its P placeholder ids.
            ids: the row's own token ids.
            slot: which slot to use.
            options: of ``/completion``: ``n_predict``, ``temperature``, ``stop``, ...

        Raises:
            PrefixNotUsed: the state could not be restored, or was not used.
        """
        if options.get("cache_prompt") is False:
            raise PrefixNotUsed("cache_prompt=false makes the server compute the placeholders as text")
        wanted = {"n_predict": 64, "temperature": 0.0, "return_tokens": True, **options, "cache_prompt": True}
        with self._locks[slot]:
            restored = self.restore(state, slot)
            if restored != len(placeholders):
                raise PrefixNotUsed(f"slot {slot} restored {restored} of {len(placeholders)} tokens")
            answer = self._post("/completion", {**wanted, "prompt": [*placeholders, *ids], "id_slot": slot})
        used = answer.get("timings", {}).get("cache_n", 0)
        if used < len(placeholders):
            raise PrefixNotUsed(f"the server used {used} of the {len(placeholders)} virtual tokens")
        return answer

    def complete(self, ids: Sequence[int], slot: int = 0, **options: Any) -> dict[str, Any]:
        """The server's answer to ``ids`` with nothing restored in front: the bare model, or one with a LoRA adapter."""
        wanted = {"temperature": 0.0, "return_tokens": True, **options}
        with self._locks[slot]:
            return self._post("/completion", {**wanted, "prompt": [*ids], "id_slot": slot})

    def restore(self, state: str, slot: int = 0) -> int:
        """Put a state file into a slot; how many tokens it holds."""
        return int(self._post(f"/slots/{slot}?action=restore", {"filename": state}).get("n_restored", 0))

    def get(self, path: str) -> dict[str, Any]:
        """What the server says of itself: ``/props``."""
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as problem:
            text = problem.read(2000).decode("utf-8", "replace")
            raise PrefixNotUsed(f"the server refused {path.split('?')[0]} with {problem.code}: {text}") from problem
