"""Embedding and head at eight bits, a scale for every row.

In small multilingual models they are most of the file. Their rows are tokens, each met alone, so
they are rounded to nearest and no calibration is needed. A tied head follows the embedding.
"""

from torch import nn
from transformers import PreTrainedModel

from babelpress.errors import NotFinite
from babelpress.models.linears import set_weight, weight
from babelpress.numerics.finite import all_finite
from babelpress.numerics.grids import CHANNEL, Codes, Grid

GRID = Grid(8, CHANNEL)


def quantize_tables(model: PreTrainedModel) -> dict[str, Codes]:
    """Round both in place; their codes by full module name."""
    names = {module: name for name, module in model.named_modules()}
    tables: list[nn.Module] = [model.get_input_embeddings()]
    head = model.get_output_embeddings()
    if head is not None and weight(head).data_ptr() != weight(tables[0]).data_ptr():
        tables.append(head)
    found: dict[str, Codes] = {}
    for table in tables:
        weight_VH = weight(table).float()
        if not all_finite(weight_VH):
            raise NotFinite(f"a weight of {names[table]} is NaN or infinite.")
        scale_V1, zero_V1 = GRID.fit_groups(weight_VH, names[table])
        codes = Codes.of(GRID, GRID.code(weight_VH, scale_V1, zero_V1), scale_V1, zero_V1)
        set_weight(table, codes.dequantize())
        found[names[table]] = codes
    return found
