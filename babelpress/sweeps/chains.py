"""Chains of steps that could make a model as small as is asked, for a program that shall load it.

A chain keeps tokens (`trim`), neurons (`shrink`) and bits (`quantize`). Neurons and bits are
chosen; tokens fill what room is then left. Of all chains that come to no more than a size those are
worth trying that no other one is milder than: what keeps fewer tokens, neurons and bits at once
than another that fits has nothing to win. Pruning is no part of them, as zeros make no file of
these programs smaller.

Sizes are foretold from shapes, tokens and the bits of a grid; what a model weighs in the end is the
folder that was exported. HARM, what such steps cost as a rule, decides nothing but the order in
which chains are tried.

Tested in tests/sweeps/test_chains.py.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from babelpress.errors import BadLayer, BadModel, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened, open_shapes
from babelpress.models.tokenizers import vocabulary_of
from babelpress.models.vocabulary import row_bytes
from babelpress.models.walk import Walk
from babelpress.runs.places import place_of
from babelpress.steps import KINDS

FULL = 16  # bits of a weight that is not quantized
LOWEST = 0.95  # share of its tokens that every language keeps at least
SPARE = 0.98  # of a size is filled with tokens, as files of tokenizers are foretold roughly
FFN = (1.0, 0.75, 0.5)  # shares of neurons
SCALE_BYTES = 2
BESIDE = 16_000  # bytes of card, configs and headers, more or less
# What a step costs the worst language as a rule, relative to all others here.
HARM: Mapping[str, Mapping[float | None, float]] = {
    "floor": {None: 0.0, 1.0: 0.02, 0.999: 0.04, 0.995: 0.06, 0.99: 0.1, 0.98: 0.2, 0.95: 0.4},
    "ffn": {1.0: 0.0, 0.75: 0.5, 0.5: 1.5},
    "bits": {FULL: 0.0, 8: 0.01, 4: 0.1, 3: 0.5, 2: 2.0},
    "tables": {FULL: 0.0, 8: 0.01},
}


@dataclass(frozen=True, slots=True)
class Engine:
    """What a program loads: the formats of dense and quantized models, bits of blocks and groups.

    `tables` are the bits that embedding and head may have in a quantized model; `single` says that
    the tokenizer lies in the one file with the weights.
    """

    dense: str
    coded: str
    bits: tuple[int, ...]
    groups: tuple[int, ...]
    tables: tuple[int, ...] = (FULL,)
    single: bool = False

    def format(self, bits: int) -> str:
        """What a model with so many bits is exported to."""
        return self.dense if bits == FULL else self.coded


ENGINES = {
    "transformers": Engine("safetensors", "compressed-tensors", (8, 4, 2), (128, 64, 32, 16)),
    "vllm": Engine("safetensors", "compressed-tensors", (8, 4), (128, 64, 32)),
    "llama.cpp": Engine("gguf", "gguf", (8, 4), (32,), (8, FULL), single=True),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """What a candidate keeps: tokens (None: all), of neurons a share, and bits of weights.

    `floor` is the share of its tokens that every language keeps with so many; `mixture` is that of
    the calibration.
    """

    tokens: int | None = None
    floor: float | None = None
    ffn: float = 1.0
    bits: int = FULL
    tables: int = FULL
    mixture: str = "uniform"

    @property
    def harm(self) -> float:
        """What it is expected to cost, beside others."""
        return math.fsum(table[getattr(self, name)] for name, table in HARM.items())

    @property
    def label(self) -> str:
        """The chain in words."""
        parts = [
            "" if self.tokens is None else f"{self.tokens:,} tokens",
            "" if self.ffn == 1 else f"{100 * self.ffn:g} % of neurons",
            "" if self.bits == FULL else f"{self.bits} bits",
            "" if self.tables == FULL else f"embeddings {self.tables} bits",
        ]
        said = ", ".join(filter(None, parts)) or "as it is"
        return said if self.mixture == "uniform" else f"{said}, calibrated on {self.mixture}"

    def milder(self, other: "Chain") -> bool:
        """Whether it keeps as much as another of everything, and more of something."""
        mine, theirs = self._kept(), other._kept()
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

    def _kept(self) -> tuple[float, ...]:
        tokens = math.inf if self.tokens is None else self.tokens
        return (tokens, self.ffn, self.bits, self.tables)

    def steps(self, group: int) -> list[dict[str, Any]]:
        """The steps of its recipe, in order; none where it keeps all."""
        found: list[dict[str, Any]] = []
        text = {"mixture": self.mixture, "propagate": "dense"}
        if self.tokens is not None:
            found.append({"trim": {"size": self.tokens, "floor": self.floor}})
        if self.ffn < 1:
            found.append({"shrink": {"ffn": self.ffn, **text}})
        if self.bits < FULL:
            tables = {} if self.tables == FULL else {"embeddings": f"{self.tables}bit"}
            found.append({"quantize": {"bits": self.bits, "group": group, **text, **tables}})
        return found


@dataclass(frozen=True, slots=True)
class Shapes:
    """What sizes are foretold from: rows of tokens, weights of linears by neurons.

    `rows` are all there are, `most` those that trim leaves at most, `floors` how many a language's
    share of tokens takes, the least share first; `loose` all other numbers by neurons, `row` the
    bytes of a token in the tables, `beside` those of the tokenizer's files. `notes` say what no
    chain can do.
    """

    item: int
    row: int
    rows: int
    most: int
    floors: Mapping[float, int]
    weights: Mapping[float, int]
    loose: Mapping[float, int]
    beside: int
    group: int
    single: bool
    notes: tuple[str, ...]

    def bytes(self, chain: Chain) -> int:
        """What a chain comes to, in a folder."""
        weights = self.weights[chain.ffn]
        blocks: float = weights * self.item
        if chain.bits < FULL:
            blocks = weights * (chain.bits / 8 + SCALE_BYTES / self.group)
        rows = self.rows if chain.tokens is None else chain.tokens
        loose = self.loose[chain.ffn] * self.item
        return round(rows * self._token(chain) + blocks + loose + BESIDE)

    def filled(self, chain: Chain, size: int) -> Chain | None:
        """The chain with as many tokens as there is room for; None where those are too few.

        One that fits by a hair has fewer too, where that can be, as it may come out too large.
        """
        whole = self.bytes(chain)
        if whole <= SPARE * size:
            return chain
        rest = SPARE * size - self.bytes(replace(chain, tokens=0))
        tokens = min(self.most, math.floor(rest / self._token(chain)))
        met = [floor for floor, least in self.floors.items() if least <= tokens]
        if met:
            return replace(chain, tokens=tokens, floor=max(met))
        return chain if whole <= size else None

    def _token(self, chain: Chain) -> float:
        """Bytes of a token: its rows, and what files of the tokenizer say of it.

        A single file with tokenizer and weights says about a third of what others do.
        """
        rows = self.row * (1 if chain.tables == FULL else (chain.tables + 0.5) / (8 * self.item))
        return rows + self.beside / self.rows / (3 if self.single else 1)


def shapes(opened: Opened, floors: Mapping[float, int], most: int, engine: Engine) -> Shapes:
    """What sizes of chains of a model are foretold from; `floors` and `most` are those of trim."""
    walk = Walk(open_shapes(place_of(opened.name)))
    weights, loose, notes = {}, {}, []
    inputs: set[int] = set()
    total = vocabulary_of(opened.model)
    tables = total * row_bytes(opened.model, opened.stored_dtype) // opened.stored_dtype.itemsize
    for share in FFN:
        try:
            small = walk if share == 1 else _shrunk(opened.name, walk, share)
        except (BadModel, BadSetting, BadLayer) as error:
            notes.append(f"no chain keeps {100 * share:g} % of the neurons: {error}")
            continue
        found = [weight(each).shape for block in small.blocks for each in linears(block).values()]
        inputs |= {shape[1] for shape in found}
        weights[share] = sum(math.prod(shape) for shape in found)
        numbers = sum(each.numel() for each in small.model.parameters())
        loose[share] = numbers - tables - weights[share]
    group = next((g for g in engine.groups if all(width % g == 0 for width in inputs)), 0)
    if not group:
        notes.append(
            f"no chain quantizes: of the groups {', '.join(map(str, engine.groups))} none divides "
            "all widths."
        )
    return Shapes(
        opened.stored_dtype.itemsize,
        row_bytes(opened.model, opened.stored_dtype),
        total,
        most,
        {floor: number for floor, number in sorted(floors.items()) if floor >= LOWEST},
        weights,
        loose,
        sum(map(len, opened.files.values())),
        group,
        engine.single,
        tuple(notes),
    )


def _shrunk(name: str, walk: Walk, share: float) -> Walk:
    """The model in shapes with a share of its neurons."""
    kind = KINDS.module("shrink")
    return kind.check(name, walk, kind.Settings(ffn=share))


def every(found: Shapes, engine: Engine) -> Iterator[Chain]:
    """All chains of an engine, with all tokens."""
    for ffn, bits in product(found.weights, [FULL, *(engine.bits if found.group else ())]):
        for tables in (FULL,) if bits == FULL else engine.tables:
            yield Chain(ffn=ffn, bits=bits, tables=tables)


def within(found: Shapes, engine: Engine, size: int) -> list[tuple[Chain, int]]:
    """The chains that are foretold to come to no more than a size, and to how much.

    Only those that no other one is milder than, what is expected to cost least first. Raises
    BadSetting where there is none, naming the least size.
    """
    fit = [each for each in (found.filled(chain, size) for chain in every(found, engine)) if each]
    if not fit:
        rows = next(iter(found.floors.values()), None)
        least = min(
            (replace(chain, tokens=rows) for chain in every(found, engine)), key=found.bytes
        )
        raise BadSetting(
            f"--size {size:,} bytes is less than any chain of steps comes to. The least is "
            f"{least.label}, about {found.bytes(least):,} bytes: give more, or fewer languages."
        )
    front = [chain for chain in fit if not any(other.milder(chain) for other in fit)]
    front = sorted(front, key=lambda chain: (chain.harm, found.bytes(chain)))
    return [(chain, found.bytes(chain)) for chain in front]


def usual(found: Shapes, engine: Engine) -> list[Chain]:
    """What is done mostly: the whole model at fewer bits, calibrated on English."""
    bits = [each for each in engine.bits if found.group and each in (8, 4)]
    return [Chain(bits=each, mixture="english") for each in bits]


UNITS = {
    "B": 1,
    **{f"{one}{end}": 1000**n for n, one in enumerate("KMG", 1) for end in ("", "B")},
    **{f"{one}IB": 1024**n for n, one in enumerate("KMG", 1)},
}


def parse_size(said: str, dense: int) -> int:
    """Bytes of 150MB, 1.2GB, 400KiB, a number of bytes, or a share of the dense model as 30%.

    Raises BadSetting for anything else.
    """
    text = said.strip().upper().replace(" ", "")
    unit: float = 1
    if text.endswith("%"):
        text, unit = text[:-1], dense / 100
    elif end := max((each for each in UNITS if text.endswith(each)), key=len, default=""):
        text, unit = text.removesuffix(end), UNITS[end]
    try:
        number = float(text) * unit
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 1):
        raise BadSetting(
            f"--size {said} is no size. Give bytes as 150MB or 1.2GB, or a share of the dense "
            "model as 30%."
        )
    return int(number)
