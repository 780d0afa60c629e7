"""The ledger counts every byte once."""

import pico
import pytest
import torch
from coding import coded

from babelpress.models.ledger import ledger, stored_bytes
from babelpress.models.linears import linears, weight
from babelpress.models.walk import Walk
from babelpress.numerics.grids import Grid
from babelpress.press.codes import row
from babelpress.quantize import QUANTIZERS


def quantized(model, walk, grid):
    """Codes of every linear of a model, rounded to nearest."""
    found = {}
    for index, block in enumerate(walk.blocks):
        for name, layer in linears(block).items():
            weight_OI = weight(layer)
            keep_OI = torch.ones_like(weight_OI, dtype=torch.bool)
            stats = type("Stats", (), {"where": name})()
            found[walk.name(index, name)] = QUANTIZERS.get("rtn")(weight_OI, stats, grid, keep_OI)
    return found


def test_codes_scales_and_zero_points_are_counted_in_bits():
    # 6 rows of 16: 96 codes; two groups a row: 12 scales of two bytes
    assert stored_bytes(row(coded(6, 16, bits=4))) == 96 * 4 / 8 + 12 * 2
    assert stored_bytes(row(coded(6, 16, bits=3))) == 96 * 3 / 8 + 12 * 2
    assert stored_bytes(row(coded(6, 16, bits=3, symmetric=False))) == 96 * 3 / 8 + 12 * (2 + 3 / 8)


@pytest.mark.parametrize("family", pico.EVERY)
def test_parts_add_up_to_the_whole_and_parameters_to_those_of_the_model(family):
    model = pico.model(family)
    walk = Walk(model)
    codes = quantized(model, walk, Grid(4, 16))

    found = ledger(model, {n: row(c) for n, c in codes.items()}, walk.index_of, torch.bfloat16)

    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["bytes_dense"] == 2 * found["parameters"]
    for key in ("parameters", "bytes_dense", "bytes_stored"):
        assert found[key] == sum(part[key] for part in found["parts"])
    parts = {part["part"]: part for part in found["parts"]}
    tied = model.config.tie_word_embeddings
    assert ("head" in parts) == (not tied)
    assert parts["embedding"]["parameters"] == weight(model.get_input_embeddings()).numel()
    assert parts["embedding"]["bits"] == 16
    saved = sum(2 * c.codes_OI.numel() - stored_bytes(row(c)) for c in codes.values())
    assert found["bytes_dense"] - found["bytes_stored"] == saved
    assert found["bits_per_weight"] == pytest.approx(
        8 * found["bytes_stored"] / found["parameters"], abs=1e-4
    )


def test_a_quantized_embedding_is_counted_as_such():
    model = pico.model("llama")
    table = weight(model.get_input_embeddings())
    codes = {"model.embed_tokens": row(coded(len(table), 32, bits=8, group=32))}

    found = ledger(model, codes, Walk(model).index_of, torch.float32)

    parts = {part["part"]: part for part in found["parts"]}
    assert parts["embedding"]["bytes_stored"] == len(table) * (32 + 2)
    assert parts["blocks"]["bits"] == parts["head"]["bits"] == 32
