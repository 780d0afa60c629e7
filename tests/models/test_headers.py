"""Headers tell what files hold, and bytes go from file to file as they are."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from babelpress.errors import BadModel
from babelpress.models import headers

TENSORS = {
    "b": torch.tensor([[1, 2], [3, 5]], dtype=torch.bfloat16),
    "a": torch.tensor([7], dtype=torch.uint8),
    "c": torch.tensor([0.25, 0.5, 4.0], dtype=torch.float32),
    "none": torch.zeros(0, 3),
    "scalar": torch.tensor(9, dtype=torch.int64),
}


def test_entries_are_the_tensors_of_files(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", {"format": "pt"})
    found = {each.name: each for each in headers.entries([tmp_path / "x.safetensors"])}
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].shape == tuple(tensor.shape)
        assert (found[name].bytes, found[name].numbers) == (tensor.nbytes, tensor.numel())
    data = (tmp_path / "x.safetensors").read_bytes()
    assert data[found["c"].start : found["c"].end] == struct.pack("<3f", 0.25, 0.5, 4.0)


def test_what_is_written_is_read_alike(tmp_path):
    one, two = dict(list(TENSORS.items())[:2]), dict(list(TENSORS.items())[2:])
    save_file(one, tmp_path / "1.safetensors")
    save_file(two, tmp_path / "2.safetensors")
    both = headers.entries([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    headers.write(tmp_path / "1.safetensors", both)  # in place of one that it is made of
    again = load_file(tmp_path / "1.safetensors")
    assert again.keys() == TENSORS.keys()
    assert all(torch.equal(again[name], each) for name, each in TENSORS.items())
    assert all(again[name].dtype == each.dtype for name, each in TENSORS.items())
    save_file(TENSORS, tmp_path / "whole.safetensors", {"format": "pt"})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    assert len((tmp_path / "1.safetensors").read_bytes()) == len(whole)


def test_the_main_type_is_that_of_most_numbers():
    rows = [("F32", (3,)), ("BF16", (2, 2)), ("I64", (50,))]
    found = [headers.Entry(None, "x", dtype, shape, 0, 1) for dtype, shape in rows]  # type: ignore[arg-type]
    assert headers.main_dtype(found) == "bfloat16"
    assert headers.main_dtype(found[:1]) == "float32"
    assert headers.main_dtype(found[2:]) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"\x05\x00", struct.pack("<Q", 99) + b"{}", struct.pack("<Q", 2) + b"[]"],
)
def test_a_file_of_another_kind_is_one_line(data, tmp_path):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadModel, match="is not a safetensors file, or is cut short"):
        headers.entries([tmp_path / "x"])
    with pytest.raises(BadModel, match="cannot read"):
        headers.entries([tmp_path / "nothing"])


def test_a_header_without_places_is_one_line(tmp_path):
    text = json.dumps({"a": {"dtype": "F32"}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(BadModel, match="its header tells of no tensors"):
        headers.entries([tmp_path / "x"])


def test_a_source_that_was_cut_meanwhile_is_an_error_and_no_file(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors")
    found = headers.entries([tmp_path / "x.safetensors"])
    data = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(data[:-10])
    with pytest.raises(BadModel, match="is cut short"):
        headers.write(tmp_path / "y.safetensors", found)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
