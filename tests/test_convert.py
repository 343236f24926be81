"""textgenrnn's weights as a base: the same probabilities as its own formula, and text that can be read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foreword import samples
from foreword.core.base.load import load_base
from foreword.errors import FileFormatError, SettingsError
from foreword.training.from_scratch.textgenrnn import arrays, save_textgenrnn


def weights() -> dict[str, np.ndarray]:
    """Arrays of textgenrnn's shapes."""
    dice = np.random.default_rng(0)
    shapes = {
        "embedding/embedding/embeddings:0": (9, 100), "attention/attention/attention_W:0": (356, 1),
        "output/output/kernel:0": (356, 9), "output/output/bias:0": (9,),
        "rnn_1/rnn_1/kernel:0": (100, 512), "rnn_1/rnn_1/recurrent_kernel:0": (128, 512), "rnn_1/rnn_1/bias:0": (1024,),
        "rnn_2/rnn_2/kernel:0": (128, 512), "rnn_2/rnn_2/recurrent_kernel:0": (128, 512), "rnn_2/rnn_2/bias:0": (1024,),
    }  # fmt: skip
    return {name: dice.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def as_keras(found: dict[str, np.ndarray], ids: list[int]) -> Tensor:
    """The next character's logits ``[V]`` behind 40 ids, as textgenrnn computes them from CuDNNLSTM's weights."""
    hidden = torch.tensor(found["embedding/embedding/embeddings:0"])[torch.tensor(ids)][None]
    parts = [hidden]
    for number, size in ((1, 100), (2, 128)):
        own = f"rnn_{number}/rnn_{number}"
        layer = nn.LSTM(size, 128, batch_first=True)
        gates = np.hsplit(found[f"{own}/kernel:0"], 4)
        inner = np.hstack([gate.T.reshape(gate.shape, order="F") for gate in gates])
        outer = np.hstack([gate.T for gate in np.hsplit(found[f"{own}/recurrent_kernel:0"], 4)])
        with torch.no_grad():
            layer.weight_ih_l0.copy_(torch.tensor(inner.T.copy()))
            layer.weight_hh_l0.copy_(torch.tensor(outer.T.copy()))
            layer.bias_ih_l0.copy_(torch.tensor(found[f"{own}/bias:0"][:512]))
            layer.bias_hh_l0.copy_(torch.tensor(found[f"{own}/bias:0"][512:]))
            hidden = layer(hidden)[0]
        parts.append(hidden)
    features = torch.cat(parts, -1)
    shares = torch.softmax((features @ torch.tensor(found["attention/attention/attention_W:0"])).squeeze(-1), -1)
    mean = (shares[..., None] * features).sum(1)
    return (mean @ torch.tensor(found["output/output/kernel:0"]) + torch.tensor(found["output/output/bias:0"]))[0]


def test_it_is_the_same_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = weights()
    monkeypatch.setattr("foreword.training.from_scratch.textgenrnn.arrays", lambda content, where: found)
    save_textgenrnn(b"", b'{"a": 1, "b": 2, "c": 3, "d": 4, " ": 5, "e": 6, "f": 7, "<s>": 8}', tmp_path)
    base = load_base(tmp_path)
    ids = base.tokenizer("a bad cafe")["input_ids"]
    assert ids == [8, 1, 5, 2, 1, 4, 5, 3, 1, 7, 6]
    assert base.tokenizer.decode(ids, skip_special_tokens=True) == "a bad cafe"
    assert base.tokenizer("aX")["input_ids"] == [8, 1, 0]
    with torch.no_grad():
        logits = base.model(torch.tensor([ids])).logits[0]
    for place in (0, 3, 10):
        expected = as_keras(found, ([0] * 40 + ids[: place + 1])[-40:])
        torch.testing.assert_close(logits[place], expected, atol=1e-4, rtol=1e-4)


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="HDF5"):
        save_textgenrnn(b"pickle", b"{}", tmp_path)


def test_the_weights_are_read_by_their_paths() -> None:
    found, content = weights(), io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, values in found.items():
            file[name] = values
    read = arrays(content.getvalue(), "weights.hdf5")
    assert read.keys() == found.keys()
    assert all(np.array_equal(read[name], values) for name, values in found.items())


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SettingsError, match=r"foreword\[textgenrnn\]"):
        save_textgenrnn(b"", b"{}", tmp_path)


@pytest.mark.real
def test_the_real_one_writes_english() -> None:
    base = load_base(samples.textgenrnn())
    assert sum(p.numel() for p in base.model.parameters()) == 462_717
    text = "What is the best way to learn a new language?"
    ids = torch.tensor([base.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        logp = base.model(ids).logits[0, :-1].log_softmax(-1)
        written = base.model.generate(  # type: ignore[operator]
            ids[:, :12], attention_mask=torch.ones_like(ids[:, :12]), max_new_tokens=20, do_sample=False
        )
    # Below two nats a character; one that knew no English would need about three.
    assert -logp.gather(-1, ids[0, 1:, None]).mean() < 2.0
    words = base.tokenizer.decode(written[0], skip_special_tokens=True).split()
    assert {"the", "a", "to", "of", "in", "I", "my", "is", "best"} & set(words)
