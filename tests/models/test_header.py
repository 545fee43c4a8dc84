"""Headers of safetensors files: read within limits, and what is absurd is refused at once."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from kdcore.errors import UserError
from kdcore.models.header import LIMIT, MOST_TENSORS, StoredTensor, read_header, wrapper


def write(path, header, data=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_names_types_and_shapes(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.int8)}, tmp_path / "m", {"format": "pt"})
    assert read_header(tmp_path / "m", "f") == {"a": StoredTensor("F32", (2, 3)), "b": StoredTensor("I8", (4,))}


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b"[" * 100_000,
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},  # the data is missing
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [2.5], "data_offsets": [0, 0]}},
        {"a": {"dtype": 4, "shape": [], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [0], "data_offsets": [0]}},
    ],
    ids=lambda header: str(header)[:40],
)
def test_what_is_no_header_is_refused(tmp_path, header):
    with pytest.raises(UserError, match="cannot be read"):
        read_header(write(tmp_path / "m", header), "f")


@pytest.mark.parametrize(("names", "reason"), [(500_000, "longer than"), (MOST_TENSORS + 1, "names 20,001 tensors")])
def test_absurdly_many_names_are_refused(tmp_path, names, reason):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    file = write(tmp_path / "m", {f"layer.{i}": entry for i in range(names)})
    with pytest.raises(UserError, match=reason):
        read_header(file, "f")


def test_as_many_names_as_allowed_are_read(tmp_path):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    assert len(read_header(write(tmp_path / "m", {f"a{i}": entry for i in range(MOST_TENSORS)}), "f")) == MOST_TENSORS


@pytest.mark.parametrize("length", [LIMIT + 1, 2**63, 2**64 - 1])
def test_a_length_that_is_a_lie(tmp_path, length):
    (tmp_path / "m").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="header of"):
        read_header(tmp_path / "m", "f")


@pytest.mark.parametrize("before", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_wrappers(before):
    names = [f"{before}bert.embeddings.word_embeddings.weight", f"{before}classifier.bias", "loss.weight"]
    assert wrapper(names) == before
    assert wrapper(["classifier.bias"]) == ""
