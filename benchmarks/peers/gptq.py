"""Our GPTQ beside those of GPTQModel and llm-compressor: one layer, one Gram matrix, one grid.

The packages live in environments of their own (CPU; torch first, GPTQModel without isolation):

    python -m venv GM
    GM/bin/pip install torch==2.13.0 wheel numpy setuptools ninja packaging
    GM/bin/pip install --no-build-isolation gptqmodel==7.6.0 optimum
    python -m venv LC
    LC/bin/pip install torch==2.13.0
    LC/bin/pip install llmcompressor==0.14.0.1
    python benchmarks/peers/gptq.py --gptqmodel GM/bin/python --llmcompressor LC/bin/python

Weights and inputs of one linear of every site of some blocks are written to a file; every package
sums its Gram matrix of those inputs, and solves the linear by itself (`gptq_peer.py`). The error is
tr(ΔHΔᵀ)/tr(WHWᵀ), H summed in float64. Symmetric grids, no clipping, equal damping, float32.
Order `none` is that of the inputs, `diagonal` that of falling diagonals of H with static groups.

`same grid`: our `gptq.quantize` on the very scales that a package arrived at, so that nothing but
the solver differs. `own grid`: every package finds its scales. Ours have eight significant bits,
theirs are float32. With order `none` there is more between them: ours fits a group when it is
reached, to weights that make up for all before; GPTQModel to weights as they were when the block of
128 columns began; llm-compressor to the weights of the model. None of these is best everywhere.

Ends with 1 where ours is worse than a package by more than 2 per cent in the geometric mean over
linears: on the same grid in any setting, on its own grid over all settings. Settings that are
worse by more on their own grid are named. Seconds are processor time on one thread, of one linear
with its factor, the least of some tries.

Shapes: B sequences, T tokens, O outputs, I inputs of one linear; G groups.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gptq_tables import Row, linear_by_linear, summary, verdict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from babelpress.errors import BabelpressError, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened, open_model
from babelpress.models.walk import Walk
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import Blend, blend
from babelpress.moments.moments import Moments
from babelpress.numerics.grids import CHANNEL, Codes, Grid
from babelpress.quantize import gptq, rtn
from babelpress.system.files import write_json
from babelpress.text.calibration import build
from babelpress.text.corpus import open_corpus
from babelpress.text.languages import select
from babelpress.text.token_blocks import TokenBlocks

PEER = Path(__file__).with_name("gptq_peer.py")
BITS = (4, 3, 2)
GROUPS = (64, 128, CHANNEL)
ON_GRID = 1e-3  # steps that a peer's weights may lie off their grid: float32 rounds


@dataclass(frozen=True, slots=True)
class Setting:
    """What all packages are asked to do."""

    bits: int
    group: int | str
    order: str
    damp: float

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"{self.bits}-{self.group}-{self.order}"

    def asked(self) -> dict[str, Any]:
        """In the words of `gptq_peer.py`."""
        return asdict(self) | {"group": 0 if self.group == CHANNEL else self.group}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given(Grid):
    """A symmetric grid whose scales are known, group after group, instead of being fitted."""

    scales: Iterator[Tensor]

    def fit(self, weight_OB: Tensor) -> tuple[Tensor, Tensor]:
        """The scales of the next group."""
        scale_O = next(self.scales)
        assert len(scale_O) == len(weight_OB)
        return scale_O, torch.full_like(scale_O, 2 ** (self.bits - 1))

    def fit_groups(self, weight_OI: Tensor, where: str) -> tuple[Tensor, Tensor]:
        """The scales of all groups."""
        scale_OG = torch.stack(list(self.scales), 1)
        assert self.width(weight_OI.shape[1], where) * scale_OG.shape[1] == weight_OI.shape[1]
        return scale_OG, torch.full_like(scale_OG, 2 ** (self.bits - 1))


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear and what it was given; `moments` are ours, `gram_II` is the judge's, in float64."""

    name: str
    weight_OI: Tensor
    input_TI: Tensor
    moments: Moments
    gram_II: Tensor

    @classmethod
    def of(cls, name: str, weight_OI: Tensor, input_TI: Tensor) -> "Layer":
        moments = Accumulator(input_TI.shape[1], gram=True).add(input_TI, where=name).finish()
        exact_TI = input_TI.double()
        return cls(name, weight_OI, input_TI, moments, exact_TI.T @ exact_TI)

    def stats(self) -> Blend:
        """As a method sees them, nothing computed yet."""
        return blend({"all": self.moments}, {"all": 1.0}, self.name)

    def error(self, pressed_OI: Tensor) -> float:
        """tr(ΔHΔᵀ)/tr(WHWᵀ)."""
        kept_OI = self.weight_OI.double()
        return self._size(kept_OI - pressed_OI.double()) / self._size(kept_OI)

    def _size(self, weight_OI: Tensor) -> float:
        return float(((weight_OI @ self.gram_II) * weight_OI).sum())


# ---- the linears ---------------------------------------------------------------------------


@torch.no_grad()
def captured(
    opened: Opened, blocks: Mapping[str, TokenBlocks], indices: Iterable[int]
) -> list[Layer]:
    """The first linear of every site of some blocks of the dense model, with its inputs."""
    walk = Walk(opened.model)
    first = walk.start(next(iter(blocks.values())).ids_BT[:1])
    found: list[Layer] = []
    for index in indices:
        layers = linears(walk.blocks[index])
        names = [site.linears[0] for site in walk.sites(index, first)]
        inputs = seen(opened, blocks, {name: layers[name] for name in names})
        for name, input_TI in inputs.items():
            weight_OI = weight(layers[name]).detach().float().contiguous()
            found.append(Layer.of(f"{index}.{name}", weight_OI, input_TI))
    return found


def seen(
    opened: Opened, blocks: Mapping[str, TokenBlocks], layers: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The inputs (T, I) of linears over all tokens that count."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    counted: list[Tensor] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            found[name].append(args[0][counted[-1]].float())

        return hook

    handles = [each.register_forward_pre_hook(look(name)) for name, each in layers.items()]
    for each in blocks.values():
        counted.append(each.counted_BT)
        opened.model(each.ids_BT, use_cache=False)  # padding comes last
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts).contiguous() for name, parts in found.items()}


# ---- solving -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Solved:
    """The weights that a package writes back for one linear and setting."""

    weight_OI: Tensor
    seconds: float


def ours(layer: Layer, setting: Setting, grid: Grid, repeats: int = 1) -> Solved:
    """`gptq.quantize` as a run calls it, but for one linear."""
    keep_OI = torch.ones_like(layer.weight_OI, dtype=torch.bool)
    tries: list[tuple[float, Codes]] = []
    for _ in range(repeats):
        stats = layer.stats()  # anew, for it keeps the factor
        start = time.process_time()
        codes = gptq.quantize(
            layer.weight_OI, stats, grid, keep_OI, damp=setting.damp, order=setting.order
        )
        tries.append((time.process_time() - start, codes))
    return Solved(tries[0][1].dequantize(), min(seconds for seconds, _ in tries))


def nearest(layer: Layer, setting: Setting) -> Tensor:
    """Ours, rounded to nearest."""
    keep_OI = torch.ones_like(layer.weight_OI, dtype=torch.bool)
    grid = Grid(setting.bits, setting.group)
    return rtn.quantize(layer.weight_OI, layer.stats(), grid, keep_OI).dequantize()


class Peer:
    """What another package made of the linears."""

    def __init__(self, package: str, python: Path, inputs: Path):
        self.package, self.outputs = package, inputs.with_name(f"{package}.safetensors")
        quiet = {"OMP_NUM_THREADS": "1", "GPTQMODEL_CPU_WORKERS": "2", "HF_HUB_OFFLINE": "1"}
        if not python.exists():
            raise BadSetting(f"{python} is not there. Give the Python of an environment.")
        done = subprocess.run(
            [python, PEER, package, inputs, self.outputs],
            env=os.environ | quiet,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BadSetting(f"{package} failed:\n{done.stdout}")
        with safe_open(self.outputs, framework="pt") as file:
            self.versions = file.metadata()["versions"]

    def solved(self, layer: Layer, setting: Setting) -> tuple[Solved, Iterator[Tensor]]:
        """Its weights, and the scales (O,) of group after group that they are multiples of."""
        parts = (f"{layer.name}/{setting.key}/{part}" for part in ("weight", "scale", "seconds"))
        with safe_open(self.outputs, framework="pt") as file:
            weight_OI, scale_OG, seconds = map(file.get_tensor, parts)
        self._check(weight_OI, scale_OG, setting)
        scales = iter(scale_OG.T.contiguous())
        return Solved(weight_OI, float(seconds)), scales

    def gram_difference(self, layer: Layer) -> float:
        """The largest difference of its Gram matrix from ours, in the largest entry of ours."""
        with safe_open(self.outputs, framework="pt") as file:
            gram_II = file.get_tensor(f"{layer.name}/gram").double()
        mean_II = layer.stats().require_gram().double()
        same_size_II = gram_II * (mean_II.trace() / gram_II.trace())
        return float((same_size_II - mean_II).abs().max() / mean_II.abs().max())

    def _check(self, weight_OI: Tensor, scale_OG: Tensor, setting: Setting) -> None:
        steps_OGB = weight_OI.unflatten(1, (scale_OG.shape[1], -1)) / scale_OG[..., None]
        half = 2 ** (setting.bits - 1)
        whole_OGB = steps_OGB.round().clamp(-half, half - 1)
        off = float((steps_OGB - whole_OGB).abs().max())
        if off > ON_GRID:
            raise BadSetting(f"{self.package} leaves its grid by {off} steps at {setting.key}.")


# ---- side by side --------------------------------------------------------------------------


def compared(layer: Layer, setting: Setting, peers: list[Peer], repeats: int) -> Row:
    """All packages on one linear and setting."""
    our = ours(layer, setting, Grid(setting.bits, setting.group), repeats)
    row = Row(
        layer=layer.name,
        bits=setting.bits,
        group=setting.group,
        order=setting.order,
        rtn=layer.error(nearest(layer, setting)),
        ours=layer.error(our.weight_OI),
        seconds=our.seconds,
    )
    for peer in peers:
        theirs, scales = peer.solved(layer, setting)
        grid = Given(setting.bits, setting.group, scales=scales)
        row.theirs[peer.package] = layer.error(theirs.weight_OI)
        row.their_seconds[peer.package] = theirs.seconds
        row.ours_on_their_grid[peer.package] = layer.error(ours(layer, setting, grid).weight_OI)
    return row


# ---- the command ---------------------------------------------------------------------------


def arguments() -> Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gptqmodel", type=Path, help="the Python that has gptqmodel")
    parser.add_argument("--llmcompressor", type=Path, help="the Python that has llmcompressor")
    parser.add_argument("--model", default="babel-mini", help="a folder, hub id or babel-mini")
    parser.add_argument("--data", default="embedded", help="a corpus")
    parser.add_argument("--languages", default="eng,deu,swh,hin,arb,zho,rus,yor")
    parser.add_argument("--tokens", type=int, default=1024, help="of each language")
    parser.add_argument("--length", type=int, default=128, help="tokens in a sequence")
    parser.add_argument("--blocks", default="0,-1", help="which of the model; -1 is the last")
    parser.add_argument("--damp", type=float, default=0.01, help="in mean diagonals")
    parser.add_argument("--repeats", type=int, default=3, help="tries that are timed")
    parser.add_argument("--seed", type=int, default=0, help="which text is taken")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures of every linear")
    return parser.parse_args()


def prepared(given: Namespace) -> list[Layer]:
    """The linears of the model that was asked for."""
    opened = open_model(given.model, dtype="float32")
    blocks = build(
        open_corpus(given.data),
        opened.tokenizer,
        select(given.languages),
        tokens=given.tokens,
        length=given.length,
        seed=given.seed,
        count_special=True,
    ).blocks
    count = len(Walk(opened.model).blocks)
    indices = [int(index) for index in given.blocks.split(",")]
    if any(not -count <= index < count for index in indices):
        raise BadSetting(f"--blocks is {given.blocks}. Give numbers from {-count} to {count - 1}.")
    indices = [index % count for index in indices]
    return captured(opened, blocks, sorted(set(indices)))


def write_inputs(path: Path, layers: list[Layer], settings: list[Setting], repeats: int) -> None:
    """The file that `gptq_peer.py` reads."""
    asked = {
        "linears": [layer.name for layer in layers],
        "settings": {setting.key: setting.asked() for setting in settings},
        "repeats": repeats,
    }
    weights = {f"{layer.name}/weight": layer.weight_OI for layer in layers}
    inputs = {f"{layer.name}/input": layer.input_TI for layer in layers}
    save_file(weights | inputs, path, {"asked": json.dumps(asked)})


def main() -> bool:
    """Solve everything everywhere, print the tables; True where ours is equal or better."""
    given = arguments()
    torch.set_num_threads(1)
    pythons = {name: vars(given)[name] for name in ("gptqmodel", "llmcompressor")}
    packages = [name for name, python in pythons.items() if python]
    if not packages:
        raise BadSetting("nothing to compare with. Give --gptqmodel, --llmcompressor or both.")
    layers = prepared(given)
    orders = gptq.ORDERS
    settings = [Setting(*each, given.damp) for each in product(BITS, GROUPS, orders)]
    tokens = len(layers[0].input_TI)
    print(f"{given.model}, {len(layers)} linears, {tokens} tokens of {given.languages}")
    with TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.safetensors"
        write_inputs(inputs, layers, settings, given.repeats)
        peers = [Peer(name, pythons[name], inputs) for name in packages]
        for peer in peers:
            most = max(peer.gram_difference(layer) for layer in layers)
            print(f"{peer.versions}; its Gram matrices are ours within {most:.1e}")
        pairs = product(layers, settings)
        rows = [compared(layer, setting, peers, given.repeats) for layer, setting in pairs]
    print(f"\n{linear_by_linear(rows, packages)}\n\n{summary(rows, packages)}\n")
    if given.out:
        write_json(given.out, [asdict(row) for row in rows])
    good = [verdict(rows, package) for package in packages]
    return all(good)


if __name__ == "__main__":
    try:
        sys.exit(0 if main() else 1)
    except BabelpressError as error:
        sys.exit(f"gptq.py: {error}")
