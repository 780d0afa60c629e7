"""Codes on disk come back as they were, and what is damaged is named."""

import pytest
import torch
from coding import coded, index_of

from babelpress.errors import BadRun
from babelpress.press import codes
from babelpress.press.codes import CodesFolder


@pytest.fixture
def some():
    return {
        "model.layers.0.mlp.up": coded(6, 16),
        "model.layers.0.mlp.down": coded(4, 24, bits=3, symmetric=False),
        "model.layers.12.mlp.up": coded(7, 16, bits=2),
        "model.embed": coded(9, 16, bits=8, group=16),
    }


def test_codes_come_back_as_they_were(some, tmp_path):
    codes.save(tmp_path / "codes", some, index_of)

    found = CodesFolder.open(tmp_path / "codes")

    assert found.names() == sorted(some)
    for name, each in some.items():
        back = found.load(name)
        assert (back.bits, back.symmetric, back.group) == (each.bits, each.symmetric, each.group)
        for key, tensor in each.tensors().items():
            assert torch.equal(back.tensors()[key], tensor)
            assert back.tensors()[key].dtype == tensor.dtype
        assert found.row(name) == {
            "file": found.row(name)["file"],
            "bits": each.bits,
            "symmetric": each.symmetric,
            "group": each.group,
            "shape": list(each.codes_OI.shape),
        }


def test_every_block_is_a_file_of_its_own_and_tables_have_one(some, tmp_path):
    codes.save(tmp_path / "codes", some, index_of)

    assert sorted(path.name for path in (tmp_path / "codes").iterdir()) == [
        "block_000.safetensors",
        "block_012.safetensors",
        "manifest.json",
        "other.safetensors",
    ]


def test_a_folder_without_codes_is_an_error(tmp_path):
    with pytest.raises(BadRun, match=r"holds no codes: nothing was quantized there\."):
        CodesFolder.open(tmp_path)


@pytest.mark.parametrize("left", [0, 100])
def test_a_damaged_file_is_named(some, tmp_path, left):
    codes.save(tmp_path / "codes", some, index_of)
    path = tmp_path / "codes" / "block_000.safetensors"
    path.write_bytes(path.read_bytes()[:left])

    with pytest.raises(BadRun, match=r"block_000\.safetensors is missing or not the file"):
        CodesFolder.open(tmp_path / "codes")
    path.unlink()
    with pytest.raises(BadRun, match=r"block_000\.safetensors is missing or not the file"):
        CodesFolder.open(tmp_path / "codes")
