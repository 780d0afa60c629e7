"""Quantized models with their codes on disk, as a run leaves them, for every format."""

import pico
import pytest
import torch

from babelpress.export._source import Source
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.press import codes
from babelpress.press.codes import CodesFolder
from babelpress.quantize import QUANTIZERS
from babelpress.runs.manifest import Manifest

IDS = torch.tensor([[0, *b"juu ya mti mrefu, \xe0\xa4\xaa\xe0\xa5\x87\xe0\xa4\xa1\xe0\xa4\xbc"]])
MANIFEST = Manifest.model_validate(
    {
        "recipe": {"model": "pico", "steps": [{"quantize": {"method": "rtn"}}]},
        "steps": [
            {
                "kind": "quantize",
                "model": {"name": "pico"},
                "calibration": {"seed": 3, "fingerprint": "f00d", "languages": {"swh_Latn": {}}},
                "mixture": {"policy": "uniform", "shares": {"swh_Latn": 0.7, "hin_Deva": 0.3}},
                "cost": {"seconds": 1.5},
            }
        ],
    }
)


def make(family="llama", dtype=torch.float32):
    """A tiny model whose biases, unlike new ones, are not zero."""
    model = pico.model(family, dtype=dtype)
    model.set_attn_implementation("eager")  # one that rounds alike everywhere
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Opened(f"pico-{family}", model, pico.tokenizer(), dtype)


def round_to(folder, of, grid, *, skip=(), others=None):
    """Round a model to a grid, in place, and give the source that a run would.

    `grid` may be None; `others` are grids of further modules by name.
    """
    walk = Walk(of.model)
    wanted = {
        walk.name(index, name): grid
        for index, block in enumerate(walk.blocks)
        for name in linears(block)
        if name not in skip and grid is not None
    }
    made = {}
    for name, its in (wanted | (others or {})).items():
        module = of.model.get_submodule(name)
        made[name] = nearest(weight(module), its, name)
        set_weight(module, made[name].dequantize())
    codes.save(folder, made, walk.index_of)
    shares = {"swh_Latn": 0.7, "hin_Deva": 0.3}
    return Source("RUN", of, MANIFEST, CodesFolder.open(folder), None, shares)


def nearest(weight_OI, grid, where):
    """The nearest codes of a weight."""
    seen = (
        Accumulator(weight_OI.shape[1], gram=False).add(torch.ones(2, weight_OI.shape[1])).finish()
    )
    stats = blend({"swh_Latn": seen}, {"swh_Latn": 1.0}, where)
    keep_OI = torch.ones_like(weight_OI, dtype=torch.bool)
    return QUANTIZERS.get("rtn")(weight_OI, stats, grid, keep_OI)


@pytest.fixture(scope="session")
def opened():
    """`opened(family, dtype)`: a tiny model."""
    return make


@pytest.fixture(scope="session")
def quantized(tmp_path_factory):
    """`quantized(opened, grid, skip=(), others={})`: the source that a run would give."""
    return lambda of, grid, **rest: round_to(tmp_path_factory.mktemp("codes"), of, grid, **rest)


@pytest.fixture(scope="session")
def ids():
    """Tokens for the tiny models: ASCII and Devanagari bytes."""
    return IDS
