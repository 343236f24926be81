"""The house: a stranger finds things under the name their field uses, and no file or function grows out of hand."""

from __future__ import annotations

import ast
import re
import statistics
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import foreword

ROOT = Path(foreword.__file__).parent

# A question, the file that answers it, and the word that a stranger would look for in its name or its room's.
QUESTIONS = [
    ("Where is a label's word scored?", "core/passes/scoring.py", "scoring"),
    ("Where are hooks put on the model and taken off again?", "core/attention/hooks.py", "hooks"),
    ("Where do a prefix's keys and values enter attention?", "core/attention/attend.py", "attention"),
    ("Where are LoRA's deltas added to a linear layer?", "core/inject/lora_deltas.py", "lora"),
    ("Where does a soft prompt get its initial values?", "core/inject/initial_values.py", "initial_values"),
    ("Where is a base model found and loaded?", "core/base/load.py", "base/load"),
    ("Where is a GGUF file read?", "core/base/gguf.py", "gguf"),
    ("Where is the LSTM?", "core/base/lstm.py", "lstm"),
    ("Where is a base told from another one?", "core/base/fingerprint.py", "fingerprint"),
    ("Where are floating point operations counted?", "core/passes/flops.py", "flops"),
    ("Where is gradient checkpointing?", "core/attention/checkpointing.py", "checkpointing"),
    ("Where are rows packed without padding?", "core/attention/packing.py", "packing"),
    ("Where is prefix tuning?", "methods/prefix.py", "prefix"),
    ("Where is a .csv file read?", "data/readers/delimited.py", "readers/delimited"),
    ("Where is a .jsonl file read?", "data/readers/json_lines.py", "json_lines"),
    ("Where are chat messages turned into prompt and completion?", "data/readers/chat_messages.py", "chat_messages"),
    ("Where is a template rendered?", "data/task/template.py", "template"),
    ("Where is a row tokenised?", "data/tokens/tokenize.py", "tokenize"),
    ("Where are near-duplicates found?", "data/quality/near_duplicates.py", "near_duplicates"),
    ("Where are train, dev and test split?", "data/quality/split.py", "split"),
    ("Where is the training loop?", "training/loop.py", "training/loop"),
    ("Where is the learning rate searched?", "training/lr_search.py", "lr_search"),
    ("Where is a checkpoint written?", "training/checkpoint.py", "checkpoint"),
    ("Where do several processes share a batch?", "training/distributed.py", "distributed"),
    ("Where is BLEU computed?", "evaluation/metrics/text_overlap.py", "metrics"),
    ("Where is a confidence interval computed?", "evaluation/statistics/intervals.py", "intervals"),
    ("Where is the verdict?", "evaluation/statistics/verdict.py", "verdict"),
    ("Where is the HTML report drawn?", "evaluation/report/html.py", "report/html"),
    ("Where is the .foreword file written?", "artifact/store.py", "artifact/store"),
    ("Where is a foreword exported to PEFT?", "export/peft.py", "export/peft"),
    ("Where is a LoRA compared with a prompt?", "studies/compare/compare.py", "compare"),
    ("Where are prompts searched with gradients?", "studies/search/hotflip.py", "hotflip"),
]
# Names that said nothing to a stranger; none of them comes back as a file or as something that a file defines.
GONE = set(
    "hold patched past frozen mass narrow states seeds swap adapt roofline many crew course claim abreast scratch pace"
    " worth planes sums operators honest race shots folds exchange".split()
)
SAME_NAME = {"__init__.py", "base.py", "settings.py"}
# Parameters that somebody else's convention demands.
BY_CONVENTION = {
    ("sklearn.py", "__init__"): "an estimator's parameters are those of its constructor",
    ("core/base/lstm.py", "__init__"): "a configuration of transformers takes its values by name",
    ("core/base/lstm.py", "forward"): "a causal model of transformers takes what generate and Trainer give it",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> dict[str, str]:
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}


@cache
def definitions() -> list[tuple[str, Function | ast.ClassDef]]:
    """Every class and function, with the file that it is in."""
    return [
        (name, node)
        for name, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function | ast.ClassDef)
    ]


def functions() -> list[tuple[str, Function]]:
    return [(name, node) for name, node in definitions() if not isinstance(node, ast.ClassDef)]


def length(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def in_lower_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_")


@pytest.mark.parametrize(("question", "answer", "term"), QUESTIONS, ids=[answer for _, answer, _ in QUESTIONS])
def test_a_question_is_answered_by_the_file_of_that_name(question: str, answer: str, term: str) -> None:
    assert answer in sources(), question
    assert term in answer.removesuffix(".py"), question


def test_thirty_questions_are_asked() -> None:
    assert len(QUESTIONS) >= 30
    assert len({answer for _, answer, _ in QUESTIONS}) == len(QUESTIONS)


def test_no_file_name_stands_twice() -> None:
    names = Counter(Path(name).name for name in sources())
    assert [name for name, times in names.items() if times > 1 and name not in SAME_NAME] == []


def test_files_are_small() -> None:
    lengths = {name: text.count("\n") for name, text in sources().items() if not name.endswith("__init__.py")}
    assert [name for name, lines in lengths.items() if lines > 400] == []
    assert statistics.median(lengths.values()) <= 120


def test_names_that_say_nothing_are_gone() -> None:
    assert [name for name in sources() if Path(name).stem in GONE] == []
    words = [
        (file, node.name)
        for file, text in sources().items()
        for node in ast.parse(text).body
        if isinstance(node, Function | ast.ClassDef)
    ]
    assert [(file, name) for file, name in words if in_lower_case(name) in GONE] == []


@pytest.mark.parametrize("name", ["check", "resume", "Task", "Progress", "Encoder"])
def test_a_public_name_is_defined_in_one_place(name: str) -> None:
    places = [
        file
        for file, text in sources().items()
        for node in ast.parse(text).body
        if isinstance(node, Function | ast.ClassDef) and node.name == name
    ]
    assert len(places) == 1, places


def test_functions_are_small() -> None:
    lengths = sorted(length(node) for _, node in functions())
    assert [(name, node.name, length(node)) for name, node in functions() if length(node) > 50] == []
    assert lengths[int(0.9 * len(lengths))] <= 25


def test_functions_take_few_parameters() -> None:
    """Outside of the command line, where a parameter is an option."""
    many = set()
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
        if count > 7 and not name.startswith("cli/"):
            many.add((name, node.name))
    assert many == set(BY_CONVENTION)


def test_every_file_that_a_page_names_is_there() -> None:
    root = ROOT.parent
    for page in [*(root / "docs").glob("*.md"), *root.glob("*.md")]:
        if page.name != "log.md":
            for name in re.findall(r"`(foreword/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
                assert (root / name).is_file(), f"{page.name} names {name}"
