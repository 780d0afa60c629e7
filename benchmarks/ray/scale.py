"""The numbers of docs/scale.md: 500 recipes in 100 languages on a 70B model and a 400B mixture.

    python benchmarks/ray/scale.py

Arithmetic from the assumptions below, nothing measured: change them and run it again. Every row
says its formula. I inputs and O outputs of a linear, T tokens, L languages; sums run over the
linears (or, where it says sites, over what they share inputs with) of all blocks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

GPUS, MACHINES = 64, 8
BF16, TF32, FP32 = 400e12, 200e12, 30e12  # operations a second of one GPU
HBM, PCIE = 3.4e12, 50e9  # bytes a second of its memory, and into it
LINK = 300e9  # bytes a second from one GPU of a machine to the others
STORE, NVME, HASH = 20e9, 10e9, 1.5e9  # of the shared storage, a machine's own, SHA-256 on a core
LANGUAGES, TEXT, SCORED = 100, 100 * 65_536, 100 * 200 * 64
RECIPES, MINIMAX, ROUNDS = 500, 167, 20
LOOKS = ROUNDS + 1  # a minimax recipe presses in every round, and once more with what it found
PRESSED = RECIPES - MINIMAX + MINIMAX * LOOKS  # times that a whole model is pressed
HOUR, DAY = 3600, 86_400
ONCE, COPY = 4, 12  # bytes of float32: read; read, added to what is read and written again
DOT = 8  # bytes a number of a product that is kept, and added up: half a square of 4 + 4 + 4 + 4


@dataclass(frozen=True, slots=True)
class Site:
    """Inputs that the linears of `outputs` share, `copies` of it in a block (experts)."""

    inputs: int
    outputs: tuple[int, ...]
    copies: int = 1
    used: int = 1  # copies that a token reaches


@dataclass(frozen=True, slots=True)
class Model:
    """A shape, and what follows from it."""

    hidden: int
    blocks: int
    vocabulary: int
    sites: tuple[Site, ...]

    def total(self, of: Callable[[Site], float]) -> float:
        """The sum over all sites of all blocks."""
        return self.blocks * sum(site.copies * of(site) for site in self.sites)

    @property
    def table(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def weight_bytes(self) -> float:
        return 2 * (self.total(lambda s: s.inputs * sum(s.outputs)) + 2 * self.table)

    @property
    def used(self) -> float:
        """Weights of the linears that a token meets."""
        return self.blocks * sum(s.used * s.inputs * sum(s.outputs) for s in self.sites)

    @property
    def squares(self) -> float:
        return self.total(lambda s: s.inputs**2)

    @property
    def gram_bytes(self) -> float:
        """Of all languages."""
        return ONCE * self.squares * LANGUAGES

    @property
    def hidden_bytes(self) -> float:
        """The hidden states of all text at one block."""
        return 2 * TEXT * self.hidden

    # ---- seconds on one GPU --------------------------------------------------------------

    @property
    def forward(self) -> float:
        return 2 * self.used * TEXT / BF16

    @property
    def gram(self) -> float:
        return self.blocks * sum(s.used * s.inputs**2 for s in self.sites) * TEXT / TF32

    @property
    def solve(self) -> float:
        cubes = self.total(lambda s: 4 / 3 * s.inputs**3)
        return (cubes + self.total(lambda s: sum(s.outputs) * s.inputs**2)) / FP32

    @property
    def blend(self) -> float:
        return COPY * self.squares * LANGUAGES / HBM

    @property
    def product(self) -> float:
        """ΔᵀΔ in float32; WᵀW of bfloat16 weights costs little beside it, and once."""
        return self.total(lambda s: sum(s.outputs) * s.inputs**2) / FP32

    @property
    def dots(self) -> float:
        """One product with the Gram matrices of all languages, for every linear."""
        return DOT * LANGUAGES * self.total(lambda s: len(s.outputs) * s.inputs**2) / HBM

    @property
    def pressing(self) -> float:
        """Both ΔᵀΔ and WᵀW meet every language's matrices."""
        return self.blend + self.solve + self.product + 2 * self.dots

    @property
    def pressing_then(self) -> float:
        """WᵀW, which no recipe changes, meets them once for all recipes."""
        return self.blend + self.solve + self.product + self.dots

    @property
    def into(self) -> float:
        """Moments into the GPU."""
        return self.gram_bytes / PCIE

    @property
    def scores(self) -> float:
        return 2 * (self.used + self.table) * SCORED / BF16


SEVENTY = Model(
    8192,
    80,
    128_256,
    (
        Site(8192, (8192, 1024, 1024)),
        Site(8192, (8192,)),
        Site(8192, (28_672, 28_672)),
        Site(28_672, (8192,)),
    ),
)
MIXTURE = Model(
    5120,
    64,
    151_936,
    (
        Site(5120, (8192, 1024, 1024)),
        Site(8192, (5120,)),
        Site(5120, (6144,), copies=128, used=8),
        Site(3072, (5120,), copies=128, used=8),
    ),
)


def size(value: float) -> str:
    """Bytes in the largest unit that leaves at least one before the point."""
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f} B"


def span(value: float) -> str:
    """Seconds in words."""
    for unit, name in ((2 * DAY, "days"), (2 * HOUR, "h"), (120, "min")):
        if value >= unit:
            return f"{value / (unit // 2 if unit != 120 else 60):.3g} {name}"
    return f"{value:.3g} s"


def count(value: float) -> str:
    """A number of seconds, three digits of it."""
    return f"{float(f'{value:.3g}'):,.0f}"


Row = tuple[str, Callable[[Model], str], str]
SHAPES: tuple[Row, ...] = (
    ("weights, bf16", lambda m: size(m.weight_bytes), "2 (Σ O I + two tables)"),
    ("weights used by a token", lambda m: f"{m.used / 1e9:.1f} B", "Σ O I of what it reaches"),
    (
        "Gram, a block and language",
        lambda m: size(m.gram_bytes / m.blocks / LANGUAGES),
        "4 Σ I², sites",
    ),
    ("Gram, a language", lambda m: size(m.gram_bytes / LANGUAGES), "× blocks"),
    ("**Gram, 100 languages**", lambda m: f"**{size(m.gram_bytes)}**", "× L"),
    (
        "vectors, 100 languages",
        lambda m: size(40 * m.total(lambda s: s.inputs) * LANGUAGES),
        "40 L Σ I, sites",
    ),
)
BYTES: tuple[Row, ...] = (
    (
        "weights to the 100 moments tasks",
        lambda m: size(LANGUAGES * m.weight_bytes),
        "a task a language reads all",
    ),
    (
        "moments written, read, merged",
        lambda m: size(3 * m.gram_bytes),
        "written, read, written again",
    ),
    (
        "**moments read by recipes**",
        lambda m: f"**{size(PRESSED * m.gram_bytes)}**",
        "333 × once, 167 × 21 times",
    ),
    ("weights read by recipes", lambda m: size(RECIPES * m.weight_bytes), "500 ×"),
    (
        "weights written, read for scores",
        lambda m: size(2 * RECIPES * m.weight_bytes),
        "500 × twice; dropped then",
    ),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """Seconds on one GPU and bytes of the shared storage, of `times` such things."""

    name: str
    gpu: Callable[[Model], float]
    moved: Callable[[Model], float]
    formula: str

    def cells(self, model: Model) -> tuple[str, str]:
        cluster = max(self.gpu(model) / GPUS, self.moved(model) / STORE)
        return count(self.gpu(model)), span(cluster)


def _all(model: Model) -> float:
    return PRESSED * (model.pressing + model.into) + RECIPES * model.scores


PHASES = (
    Phase("forward, all text", lambda m: m.forward, lambda _: 0, "2 · weights used · T / bf16"),
    Phase("Gram, one triangle", lambda m: m.gram, lambda _: 0, "Σ I² · tokens at the site / TF32"),
    Phase(
        "moments, with weights and merge",
        lambda m: m.forward + m.gram,
        lambda m: LANGUAGES * m.weight_bytes + 3 * m.gram_bytes,
        "both; bytes as above",
    ),
    Phase("blend of a mixture", lambda m: m.blend, lambda _: 0, "12 L Σ I² / HBM, sites"),
    Phase("solve", lambda m: m.solve, lambda _: 0, "(4/3 Σ I³, sites + Σ O I²) / fp32"),
    Phase(
        "damage to 100 languages",
        lambda m: m.product + 2 * m.dots,
        lambda _: 0,
        "Σ O I² / fp32 + 2 · 8 L Σ I² / HBM",
    ),
    Phase("moments into the GPU", lambda m: m.into, lambda _: 0, "Gram / PCIe"),
    Phase(
        "one recipe, uniform",
        lambda m: m.pressing + m.into,
        lambda m: m.gram_bytes,
        "the four above; reads Gram once",
    ),
    Phase(
        "one recipe, minimax",
        lambda m: LOOKS * (m.pressing + m.into),
        lambda m: LOOKS * m.gram_bytes,
        "× 21",
    ),
    Phase(
        "scores, a recipe",
        lambda m: m.scores,
        lambda m: 2 * m.weight_bytes,
        "2 · (used + head) · 1.28 M / bf16",
    ),
    Phase(
        "checking a recipe's moments",
        lambda _: 0,
        lambda m: m.gram_bytes / HASH * STORE,
        "Gram / 1.5 GB/s, one core",
    ),
    Phase("**500 recipes**", _all, lambda m: PRESSED * m.gram_bytes, "3,840 pressings, 500 scores"),
    Phase("the same, computing alone", _all, lambda _: 0, "÷ 64"),
)


def then(m: Model) -> list[tuple[str, str]]:
    """What is left when a task is a block and rounds go in step."""
    looking = max(
        LOOKS * (m.forward + m.gram) / GPUS, LOOKS * m.hidden_bytes * m.blocks / MACHINES / NVME
    )
    pressing = PRESSED * m.pressing_then / GPUS
    links = PRESSED * 2 * m.gram_bytes / LANGUAGES / LINK / MACHINES
    scoring = max(RECIPES * m.scores / GPUS, 2 * RECIPES * m.weight_bytes / STORE)
    moved = 2 * RECIPES * m.weight_bytes + m.weight_bytes + m.hidden_bytes * (MACHINES - 1)
    return [
        ("bytes of the shared storage", size(moved)),
        ("inputs of its blocks on a machine", size(m.hidden_bytes * m.blocks / MACHINES)),
        ("Gram matrices of a block on a GPU", size(m.gram_bytes / m.blocks / (GPUS / MACHINES))),
        ("looking, 21 times", span(looking)),
        ("pressing", span(pressing)),
        ("the same, between GPUs", span(links)),
        ("scores", span(scoring)),
        ("**in all**", f"**{span(looking + pressing + links + scoring)}**"),
    ]


THEN = (
    "pressed weights twice, weights once, states between machines",
    "2 T · hidden · blocks / 8",
    "a block's, all languages, / 8",
    "the slower of 21 · (forward + Gram) / 64 and 21 · inputs / 10 GB/s",
    "3,840 · (blend + solve + ΔᵀΔ + one meeting) / 64",
    "3,840 · 2 · Gram of a language / 300 GB/s / 8: blends and ΔᵀΔ",
    "the slower of computing and storage",
    "",
)


def page() -> Iterator[str]:
    """The tables, a line each."""
    for rows in (SHAPES, BYTES):
        for name, cell, formula in rows:
            yield f"| {name} | {cell(SEVENTY)} | {cell(MIXTURE)} | {formula} |"
        yield ""
    for phase in PHASES:
        cells = (*phase.cells(SEVENTY), *phase.cells(MIXTURE))
        yield f"| {phase.name} | {' | '.join(cells)} | {phase.formula} |"
    yield ""
    for one, other, formula in zip(then(SEVENTY), then(MIXTURE), THEN, strict=True):
        yield f"| {one[0]} | {one[1]} | {other[1]} | {formula} |"


if __name__ == "__main__":
    print("\n".join(page()))
