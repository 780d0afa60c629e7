"""How large weights are, against counts in Python and whole buffers compressed at once."""

from typing import Any

import pico
import pyarrow as pa
import pytest
import torch
from torch import nn

from babelpress.models.headers import Entry
from babelpress.models.sizes import PIECE, measured

NAMES = ["first.weight", "second.weight"]


def layers(sparsity=0.75, *, inputs=96) -> nn.ModuleDict:
    """Two linears; a share of the weights of each is zero."""
    torch.manual_seed(3)
    model = nn.ModuleDict({"first": nn.Linear(inputs, 40), "second": nn.Linear(40, inputs)})
    layers: Any = model.values()
    for layer in layers:
        layer.weight.data.masked_fill_(torch.rand_like(layer.weight) < sparsity, 0.0)
        layer.bias.data.zero_()
    return model


def slow_bytes(*tensors):
    """The bytes of tensors, one number at a time."""
    return b"".join(
        each.contiguous().view(torch.uint8).numpy()[i].tobytes()
        for each in (tensor.detach().reshape(-1) for tensor in tensors)
        for i in range(len(each.view(torch.uint8)))
    )


def compressed(data):
    """As pyarrow's stream makes it of one buffer."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_compressed_is_every_weight_in_the_dtype_of_the_file(dtype):
    model = layers()
    data = slow_bytes(*(parameter.to(dtype) for parameter in model.parameters()))

    found = measured(model, dtype)

    assert found == {
        "nonzero": sum(bool(x) for p in model.parameters() for x in p.reshape(-1).tolist()),
        "bytes_compressed": len(compressed(data)),
        "compressor": "zstd",
    }
    assert pa.decompress(compressed(data), len(data), "zstd", asbytes=True) == data


def test_zeros_shrink_what_is_compressed_and_not_what_is_counted_dense():
    sizes = [measured(layers(each), torch.bfloat16) for each in (0.0, 0.5, 0.9)]

    compress = [each["bytes_compressed"] for each in sizes]
    assert compress[0] > 1.3 * compress[1] > 1.5 * compress[2]


def test_what_the_dtype_of_the_file_cannot_hold_is_zero():
    model = nn.Linear(4, 2, bias=False)
    model.weight.data[:] = torch.tensor([[1e-9, 1.0, 0.0, 2.0]] * 2)

    assert measured(model, torch.float16)["nonzero"] == 4
    assert measured(model, torch.float32)["nonzero"] == 6


def test_a_linear_with_codes_counts_as_the_file_that_holds_them(tmp_path):
    model, path = layers(), tmp_path / "block.safetensors"
    path.write_bytes(bytes(range(7)) * 50)
    rest = (p for name, p in model.named_parameters() if name != "first.weight")
    data = slow_bytes(*rest) + path.read_bytes()

    found = measured(model, torch.float32, coded=["first"], packed=[path])

    assert found["bytes_compressed"] == len(compressed(data))


def test_experts_with_codes_are_left_out_slice_by_slice():
    model = pico.model("mixtral")
    (name, parameter), *_ = [
        (name, p) for name, p in model.named_parameters() if p.ndim == 3 and len(p) > 1
    ]
    path, _, leaf = name.rpartition(".")
    every: dict[str, torch.Tensor] = dict(model.named_parameters())
    every[name] = parameter[1:]

    found = measured(model, torch.float32, coded=[f"{path}.0.{leaf}"])

    assert found["bytes_compressed"] == len(compressed(slow_bytes(*every.values())))


def test_what_is_carried_over_is_read_from_its_file(tmp_path):
    model, path = layers(), tmp_path / "model.safetensors"
    path.write_bytes(b"head" + bytes(range(200)) + b"tail")
    entry = Entry(path, "tower", "U8", (200,), 4, 204)

    alone, found = (measured(model, torch.float32, carried=c) for c in ((), (entry,)))

    data = slow_bytes(*model.parameters()) + bytes(range(200))
    assert found["bytes_compressed"] == len(compressed(data))
    assert found["nonzero"] == alone["nonzero"] + 200


def test_pieces_make_no_difference(monkeypatch):
    model = layers(inputs=500)
    whole = measured(model, torch.float32)
    monkeypatch.setattr("babelpress.models.sizes.PIECE", 1000)

    found = measured(model, torch.float32)

    assert PIECE > 4 * 500 * 40
    assert found["nonzero"] == whole["nonzero"]
    assert found["bytes_compressed"] == pytest.approx(whole["bytes_compressed"], rel=0.03)
