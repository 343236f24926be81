"""Do other engines answer as we do? A trained foreword, exported, on each engine, against our own greedy tokens.

    python bench/export.py --engine mlx [--file model.foreword] [--rows 100] [--tokens 8] [--json]

Each engine is installed once in an environment of its own in the cache. Without ``--file`` a prefix is trained for a
minute on Reuters R8 with SmolLM2. llama.cpp gets the base as a GGUF in float32, written here from the sample's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foreword import api, samples
from foreword.core.inject.injection import injected
from foreword.data.readers.read import read
from foreword.runs.use.use import open_foreword
from foreword.settings import TaskOptions, TrainRequest, TrainSettings
from foreword.storage import building, cache_folder

PACKAGES = {"mlx": ["mlx[cpu]==0.32.4", "mlx-lm==0.32.2"], "llamacpp": ["llama-cpp-python==0.3.36"]}


def environment(engine: str) -> Path:
    """The Python of an engine's environment; made once."""
    folder = cache_folder("engines", f"{engine}-{'-'.join(PACKAGES[engine]).replace('[', '').replace(']', '')}")
    if not folder.exists():
        print(f"installing {', '.join(PACKAGES[engine])}", file=sys.stderr)
        with building(folder) as made:
            venv.create(made, with_pip=True)
            command = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[engine]]
            subprocess.run(command, check=True)
    return folder / "bin" / "python"


def trained(folder: Path) -> Path:
    """A prefix on Reuters R8, trained for some steps; made once."""
    file = folder / "run" / "model.foreword"
    if not file.exists():
        train, _ = samples.reuters_r8()
        short = [row.fields for row in read(train).rows if len(str(row.fields["text"]).split()) <= 40][:200]
        settings = TrainSettings(learning_rate=5e-2, max_steps=25)
        task = TaskOptions(
            guidance="Name the topic of each news story.\n\n", template="Story: {{ text }}\nTopic:", test_fraction=0.0
        )
        api.train(
            TrainRequest(short, str(samples.smollm2()), folder / "run", settings=settings, task_options=task,
                         skip_bad=True)
        )  # fmt: skip
    return file


def ours(opened: Any, ids: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy tokens, row by row."""
    model, out = opened.base.model, []
    for row in ids:
        with injected(model, [opened.value]), torch.no_grad():
            full = model.generate(
                torch.tensor([row]), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
                attention_mask=torch.ones(1, len(row), dtype=torch.long),
            )  # fmt: skip
        out.append(full[0, len(row) :].tolist())
    return out


def float32_gguf(target: Path) -> Path:
    """The sample's GGUF with every tensor in float32."""
    import gguf
    from gguf.quants import dequantize

    if target.exists():
        return target
    reader = gguf.GGUFReader(samples.smollm2_gguf())
    writer = gguf.GGUFWriter(target.with_suffix(".part"), "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(
            name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        )
    writer.add_file_type(0)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    target.with_suffix(".part").rename(target)
    return target


def job_of(engine: str, file: Path, work: Path, base: Path) -> tuple[dict[str, Any], str]:
    """What the engine's script is told besides the rows, and the state that each row begins with."""
    settings: dict[str, Any] = {}
    job: dict[str, Any] = {}
    if engine == "llamacpp":
        job = {"gguf": str(float32_gguf(work / "base-f32.gguf")), "cache_type": "f32", "flash_attention": True}
        settings = {**job, "slots": 1}
    told = api.export(file, work / engine, format=engine, settings=settings)
    if engine == "mlx":
        patched = work / "mlx-base"
        patched.mkdir(exist_ok=True)
        for path in base.iterdir():
            link = patched / path.name
            if path.name != "config.json" and not link.exists():
                link.symlink_to(path)
        config = json.loads((base / "config.json").read_text())
        patch = json.loads((work / engine / "config-patch.json").read_text())
        (patched / "config.json").write_text(json.dumps({**config, **patch}))
        job = {"base": str(patched)}
    state = next(name for name in told["files"] if name.endswith((".v3.bin", ".safetensors")))
    return job, str(work / engine / state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=sorted(PACKAGES), required=True)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--python", type=Path, help="an environment that has the engine already")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    work = cache_folder("export-bench")
    work.mkdir(parents=True, exist_ok=True)
    file = asked.file or trained(work)
    opened = open_foreword(file)
    table = read(samples.reuters_r8()[1])
    rows = [row for row in table.rows if len(str(row.fields["text"]).split()) <= 60][: asked.rows]
    ids = [list(example.input_ids) for example in opened.encode(table.with_rows(rows), labelled=False)]
    job, state = job_of(asked.engine, file, work, Path(opened.base.model.config._name_or_path))
    job |= {"tokens": asked.tokens}
    job["rows"] = [{"state": state, "ids": row, "length": opened.value.num_virtual_tokens} for row in ids]
    script = Path(__file__).parent / "engines" / f"{asked.engine}_engine.py"
    python = asked.python or environment(asked.engine)
    done = subprocess.run(
        [str(python), str(script)], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{asked.engine} failed:\n{done.stderr[-2000:]}")
    expected, answers = ours(opened, ids, asked.tokens), json.loads(done.stdout)
    equal = sum(a == b for a, b in zip(expected, answers, strict=True))
    first = sum(a[0] == b[0] for a, b in zip(expected, answers, strict=True))
    result = {"engine": asked.engine, "packages": PACKAGES[asked.engine], "rows": len(ids), "tokens": asked.tokens,
              "equal": equal, "first_token_equal": first}  # fmt: skip
    print(
        json.dumps(result) if asked.json else f"{asked.engine}: {equal} of {len(ids)} answers are ours, token by token"
    )


if __name__ == "__main__":
    main()
