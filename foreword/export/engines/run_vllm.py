"""Run inside vLLM's environment: starts its server on 127.0.0.1, asks it row by row, stops it. JSON in, JSON out.

In: ``base`` (a folder or hub id), ``folder`` (an export), ``part``, ``file``, ``length`` (P), ``placeholder``,
``request`` (what each request carries), ``options`` (of the server), ``rows`` (token ids), ``tokens`` (how many).
"""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from typing import Any

SECONDS = 600


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(job: dict[str, Any], port: int) -> subprocess.Popen[bytes]:
    """vLLM's server."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", job["base"], "--host"]
    command += ["127.0.0.1", "--port", str(port), "--served-model-name", "base", *job["options"]]
    quiet = {
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": job["folder"],
        "VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    path = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}"
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ, **quiet, "PATH": path}
    return subprocess.Popen(command, cwd=job["folder"], env=environment, stdout=sys.stderr)


def post(port: int, body: dict[str, Any]) -> dict[str, Any]:
    """The answer of ``/v1/completions``."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def wait(server: subprocess.Popen[bytes], port: int) -> None:
    """Until the server answers."""
    for _ in range(SECONDS):
        if server.poll() is not None:
            raise SystemExit(f"vLLM ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    raise SystemExit(f"vLLM did not start within {SECONDS} seconds")


def encoded(vectors: Any) -> str:
    """Embeddings as vLLM takes them."""
    import torch

    buffer = io.BytesIO()
    torch.save(vectors.contiguous(), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def bodies(job: dict[str, Any]) -> list[dict[str, Any]]:
    """One request a row."""
    common = {
        "model": "base", "max_tokens": job["tokens"], "temperature": 0, "ignore_eos": True, "return_token_ids": True,
        **job["request"],
    }  # fmt: skip
    if job["part"] != "prompt":
        front = [job["placeholder"]] * job["length"]
        return [{**common, "prompt": [*front, *ids]} for ids in job["rows"]]
    from vllm_prompt_client import embeddings, table_of

    table = table_of(job["base"])
    return [{**common, "prompt_embeds": encoded(embeddings(job["file"], table, ids))} for ids in job["rows"]]


def main() -> None:
    """The answers to the document on standard input."""
    job = json.load(sys.stdin)
    sys.path.insert(0, job["folder"])
    requests, port = bodies(job), free_port()
    server = start(job, port)
    answers = []
    try:
        wait(server, port)
        for body in requests:
            answer = post(port, body)
            cached = (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens")
            if job["part"] == "prefix" and cached is not None and cached < job["length"]:
                raise SystemExit(f"vLLM used {cached} of {job['length']} virtual tokens")
            answers.append(answer["choices"][0]["token_ids"])
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
    json.dump({"engine": f"vllm {version('vllm-cpu')}", "tokens": answers}, sys.stdout)


if __name__ == "__main__":
    main()
