"""Four prefixes at once in one unmodified llama-server, and what the client says when something is wrong with it.

    LLAMA_SERVER=llama-server python bench/engine_faults.py [--rounds 25] [--json]

The prefixes are made of the demo's trained one; each row's expected answer is that of the same prefix alone on our own
engine. Where there is no llama-server, ``bench/engines/llama_server.py`` runs llama.cpp's server out of a wheel.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from export import float32_gguf, trained

from foreword import samples
from foreword.artifact.manifest import Golden
from foreword.core.inject.value import Foreword, KeyValue
from foreword.data.readers.read import read
from foreword.export.base import Exporting
from foreword.export.engines.llamacpp_client import LlamaServer, PrefixNotUsed
from foreword.export.llamacpp import LlamaCpp
from foreword.export.replay import _ends, _running, _until_end, greedy
from foreword.runs.use.use import open_foreword
from foreword.storage import cache_folder


def variants(value: Foreword) -> list[Foreword]:
    """The prefix, and three with noise that changes answers."""
    out = [value]
    for seed in (1, 2, 3):
        rng = torch.Generator().manual_seed(seed)
        sites = {}
        for name, kv in value.sites.items():
            noise = (torch.randn(part.shape, generator=rng) * 0.5 * part.std() for part in (kv.keys, kv.values))
            sites[name] = KeyValue(*(part + extra for part, extra in zip((kv.keys, kv.values), noise, strict=True)))
        out.append(Foreword(value.text, sites=sites))
    return out


def at_once(client: LlamaServer, files: list[str], front: list[int], rows: list[list[int]], rounds: int) -> list[Any]:
    """Every prefix in a thread of its own, each on its slot: [prefix][request] tokens."""
    answers: list[Any] = [[] for _ in files]

    def ask(slot: int) -> None:
        for number in range(rounds):
            reply = client.ask(files[slot], front, rows[number % len(rows)], slot=slot, n_predict=8, top_k=1)
            answers[slot].append(reply["tokens"])

    threads = [threading.Thread(target=ask, args=(slot,)) for slot in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def fault(name: str, run: Any, expected: list[int]) -> dict[str, Any]:
    """What came of a planted fault: refused, or the right answer all the same; a wrong answer is a failure."""
    try:
        tokens = run()
    except PrefixNotUsed as problem:
        return {"fault": name, "outcome": "refused", "detail": str(problem)[:120]}
    return {"fault": name, "outcome": "right" if tokens == expected else "WRONG", "detail": ""}


class WithoutRestore(LlamaServer):
    """A client that believes the slot still holds the state."""

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "restore" in path:
            return {"n_restored": int(os.environ["PREFIX_LENGTH"])}
        return super()._post(path, body)


class WithoutCache(LlamaServer):
    """Something between client and server turns the cache off."""

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return super()._post(path, {**body, "cache_prompt": False})


def faults(url: str, folder: Path, front: list[int], row: list[int], expected: list[int]) -> list[dict[str, Any]]:
    """Every planted fault and its outcome."""
    client, state = LlamaServer(url, 4), folder / "p0.v4.bin"
    if not state.exists():
        state = folder / "p0.v3.bin"
    os.environ["PREFIX_LENGTH"] = str(len(front))
    content = state.read_bytes()
    ask = {"n_predict": 8, "top_k": 1}

    def evicted() -> Any:
        client.ask(state.name, front, row, **ask)
        client.complete([200, 201, 202], n_predict=4)
        return WithoutRestore(url, 4).ask(state.name, front, row, **ask)["tokens"]

    def changed(name: str, data: bytes) -> Any:
        (folder / name).write_bytes(data)
        return client.ask(name, front, row, **ask)["tokens"]

    other = content[:4] + bytes([9]) + content[5:]
    return [
        fault("the slot's state was overwritten", evicted, expected),
        fault("cache_prompt=false", lambda: client.ask(state.name, front, row, cache_prompt=False), expected),
        fault("the cache is off on the way", lambda: WithoutCache(url, 4).ask(state.name, front, row, **ask)["tokens"],
              expected),
        fault("a truncated state file", lambda: changed("cut.bin", content[: len(content) // 2]), expected),
        fault("a state file of another version", lambda: changed("version.bin", other), expected),
        fault("no such state file", lambda: client.ask("none.bin", front, row, **ask)["tokens"], expected),
        fault("other placeholders than the file's",
              lambda: client.ask(state.name, [7] * len(front), row, **ask)["tokens"], expected),
        fault("fewer placeholders", lambda: client.ask(state.name, front[1:], row, **ask)["tokens"], expected),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="requests of each prefix")
    parser.add_argument("--rows", type=int, default=10, help="different rows")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    work = cache_folder("export-bench")
    opened = open_foreword(trained(work))
    table = read(samples.reuters_r8()[1])
    rows = [row for row in table.rows if len(str(row.fields["text"]).split()) <= 30][: asked.rows]
    ids = [list(example.input_ids) for example in opened.encode(table.with_rows(rows), labelled=False)]
    golden = [Golden.model_construct(input={}, input_ids=ids[0], output="")]
    manifest = opened.manifest.model_copy(update={"golden": golden})
    chosen = LlamaCpp(gguf=str(float32_gguf(work / "base-f32.gguf")), cache_type="f32", slots=4)
    server = os.environ.get("LLAMA_SERVER", "llama-server")
    expected, ends = [], _ends(opened.base.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exporting = Exporting("p0", opened.value, manifest, opened.base, folder, folder)
        for number, value in enumerate(variants(opened.value)):
            exporting = replace(exporting, name=f"p{number}", value=value)
            for file, content in chosen.write(exporting).items():
                (folder / file).write_bytes(content)
            expected.append([_until_end(answer, ends) for answer in greedy(exporting, ids)])
        front = json.loads((folder / "request.json").read_text())["ids"][: opened.value.num_virtual_tokens]
        os.environ.setdefault("CONTEXT", "4096")
        with _running(folder, server) as url:
            files = [f"p{number}.v4.bin" for number in range(4)]
            answers = at_once(LlamaServer(url, 4), files, front, ids, asked.rounds)
            right = sum(
                _until_end(reply, ends) == expected[slot][number % len(ids)]
                for slot, replies in enumerate(answers)
                for number, reply in enumerate(replies)
            )
            outcome = faults(url, folder, front, ids[0], expected[0][0])
    distinct = len({json.dumps(answer) for answer in expected})
    result = {"requests": 4 * asked.rounds, "right": right, "distinct_prefixes": distinct, "faults": outcome}
    if asked.json:
        print(json.dumps(result))
    else:
        print(f"{right} of {4 * asked.rounds} answers are those of the prefix alone ({distinct} prefixes that differ)")
        for line in outcome:
            print(f"{line['outcome']:8} {line['fault']}: {line['detail']}")
    sys.exit(int(right < 4 * asked.rounds or any(line["outcome"] == "WRONG" for line in outcome)))


if __name__ == "__main__":
    main()
