"""Embedding and head at eight bits."""

from typing import Any

import pico
import pytest
import torch

from babelpress.errors import NotFinite
from babelpress.models.linears import weight
from babelpress.press.embeddings import quantize_tables


@pytest.mark.parametrize("family", pico.EVERY)
def test_both_tables_are_what_their_codes_stand_for_and_nothing_else_changes(family):
    model = pico.model(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    found = quantize_tables(model)

    every: Any = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = [table for table in every if table is not None]  # an encoder may have no such head
    tied = len({weight(table).data_ptr() for table in tables}) == 1
    assert len(found) == (1 if tied else len(tables))
    for name, codes in found.items():
        table = model.get_submodule(name)
        assert torch.equal(weight(table), codes.dequantize())
        assert codes.scale_OG.shape == (len(codes.codes_OI), 1)
        assert (weight(table) - before[f"{name}.weight"]).abs().max() <= codes.scale_OG.max()
        assert not torch.equal(weight(table), before[f"{name}.weight"])
    same = [n for n, t in model.state_dict().items() if torch.equal(t, before[n])]
    changed = {f"{name}.weight" for name in found}
    shared = {n for n in before if n.endswith("weight") and n not in same} - changed
    assert not shared or tied
    assert len(same) == len(before) - len(changed) - len(shared)


def test_a_row_is_rounded_to_a_127th_and_a_half_of_its_largest_weight():
    model = pico.model("llama")
    table = weight(model.get_input_embeddings())
    before = table.clone()

    quantize_tables(model)

    # scales have eight bits: 1/256 more at most; the largest may fall on the last code but one
    step = before.abs().amax(1, keepdim=True) / 127.5 * (1 + 1 / 256)
    error = (table - before).abs()
    inside = before.abs() < before.abs().amax(1, keepdim=True)
    assert (error <= step * 0.5 + 1e-7)[inside].all()
    assert (error <= step).all()


def test_a_table_that_is_not_finite_stops_with_its_name():
    model = pico.model("llama")
    weight(model.get_input_embeddings())[3, 5] = float("nan")

    with pytest.raises(NotFinite, match=r"a weight of model\.embed_tokens is NaN"):
        quantize_tables(model)
