"""Mixed load for a while: clients that vanish, bad JSON, huge prompts, unknown names, forewords added and removed.

    python bench/serve_soak.py [--base MODEL] [--seconds 1800]

Prints the server's memory after 30% of the time beside memory at the end, and how often each status came back (every
request is answered or refused with one; "gone": the client left).
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import threading
import time
from pathlib import Path

import httpx
from serve import Bench, files, on_a_port

from foreword import samples
from foreword.core.base.load import Base, load_base


def soak(base: Base, seconds: float) -> None:
    """Load the server and print memory early and at the end, and what clients were answered."""
    codes: dict[int, int] = {}
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files(Bench(base, 1, 8, argparse.Namespace()), folder, 8)
        data = (folder / "f0.foreword").read_bytes()
        with on_a_port(base, folder) as (url, _):
            began = time.monotonic()

            def client(seed: int) -> None:
                rng = random.Random(seed)
                with httpx.Client(base_url=url, timeout=120) as asking:
                    while time.monotonic() < began + seconds:
                        code = anything(asking, rng, data)
                        codes[code] = codes.get(code, 0) + 1

            threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            for share in (0.3, 1.0):
                time.sleep(max(0.0, began + seconds * share - time.monotonic()))
                memory.append(resident_bytes())
            for thread in threads:
                thread.join()
    told = ", ".join(f"{code or 'gone'}: {count}" for code, count in sorted(codes.items()))
    print(f"memory after {seconds:.0f} s / after 30%: {memory[1] / memory[0]:.3f} (at most 1.05); {told}")


def resident_bytes() -> float:
    """Memory of this process now, where the system says it."""
    status = Path("/proc/self/statm")
    if status.exists():
        return float(status.read_text().split()[1]) * resource.getpagesize()
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def anything(client: httpx.Client, rng: random.Random, data: bytes) -> int:
    """One request of some kind; its status, 0 where the client went away."""
    kind, body = rng.randrange(7), {"model": f"f{rng.randrange(8)}", "prompt": "the old dog", "max_tokens": 8}
    if kind == 0:
        return client.post("/v1/completions", content=b"{", headers={"Content-Type": "application/json"}).status_code
    if kind == 1:
        return client.post("/v1/completions", json={**body, "prompt": "long " * 5000}).status_code
    if kind == 2:
        return client.post("/v1/completions", json={**body, "model": "nobody"}).status_code
    if kind == 3:
        with client.stream("POST", "/v1/completions", json={**body, "stream": True, "max_tokens": 60}) as answer:
            next(answer.iter_text(), "")
        return 0
    if kind == 4:
        name = f"extra{rng.randrange(3)}"
        client.post("/v1/forewords", params={"name": name}, content=data)
        return client.delete(f"/v1/forewords/{name}").status_code
    return client.post("/v1/completions", json=body).status_code


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="a model's folder or hub id; default: SmolLM2-135M-Instruct")
    parser.add_argument("--seconds", type=float, default=1800.0)
    options = parser.parse_args()
    soak(load_base(options.base or str(samples.smollm2())), options.seconds)


if __name__ == "__main__":
    main()
