"""Ask an unmodified vLLM (``--enable-prompt-embeds``) with a soft prompt in front of a row's tokens.

The whole input goes to ``/v1/completions`` as embeddings: the soft prompt's, and the rows of the base's own table for
the tokens. This file needs torch and safetensors alone: it is copied beside the soft prompt of an export.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

TABLES = ("model.embed_tokens.weight", "transformer.wte.weight", "gpt_neox.embed_in.weight", "embed_tokens.weight")


def table_of(model: str | Path) -> torch.Tensor:
    """The table of token embeddings ``[V, E]`` out of a folder of safetensors."""
    for path in sorted(Path(model).glob("*.safetensors")):
        with safetensors.safe_open(path, "pt") as file:
            known = [name for name in TABLES if name in set(file.keys())]
            if known:
                table: torch.Tensor = file.get_tensor(known[0])
                return table
    raise FileNotFoundError(f"there is no table of token embeddings in {model}")


def embeddings(prompt: str | Path, table: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """The soft prompt of the file ``prompt`` and the embeddings of ``ids``, ``[P + T, E]``."""
    front = safetensors.torch.load_file(str(prompt))["prompt"]
    return torch.cat([front.to(table.dtype), table[torch.tensor(list(ids))]])


def ask(url: str, model: str, vectors: torch.Tensor, **options: Any) -> dict[str, Any]:
    """vLLM's answer to an input of embeddings.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        model: as the server calls it.
        vectors: ``[P + T, E]``, of :func:`embeddings`.
        options: of ``/v1/completions``: ``max_tokens``, ``temperature``, ...
    """
    buffer = io.BytesIO()
    torch.save(vectors.contiguous(), buffer)
    body = {"model": model, "prompt_embeds": base64.b64encode(buffer.getvalue()).decode(), **options}
    request = urllib.request.Request(
        url.rstrip("/") + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer
