"""How our cost grows: with tokens, blocks, languages and width.

    python benchmarks/speed/curves.py --folder FOLDER [--hidden 768] [--samples 32] [--repeats 3]

Each curve changes one thing: tokens and blocks × 1, 2, 4, languages × 1, 8, 31 (the same tokens
shared out), width × 1, 2. Seconds are of gathering and pressing in this process, without loading
and saving, the least of some repeats; configurations take turns, so that a busy neighbour hits all
of them. The exponent is the slope of the least-squares line of log seconds over log size.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from inside_ours import method_of
from shape import Shape, load_ids, make

from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments import gather as feeding
from babelpress.press import blocks as press
from babelpress.press.method import Method
from babelpress.text.token_blocks import TokenBlocks

METHODS = ("wanda 0.5", "sparsegpt 0.5", "gptq 4/128")
LANGUAGES = (1, 8, 31)


@dataclass(frozen=True, slots=True)
class Point:
    """One size on a curve."""

    curve: str
    size: float
    shape: Shape
    languages: int = 1


def points(base: Shape) -> list[Point]:
    """All sizes; the first of every curve is the base."""
    tokens = [Point("tokens", n, replace(base, samples=base.samples * n)) for n in (1, 2, 4)]
    blocks = [Point("blocks", n, replace(base, blocks=base.blocks * n)) for n in (1, 2, 4)]
    # 31 languages need a sample each, and every language count the same samples
    enough = replace(base, samples=-(-base.samples // 31) * 31)
    languages = [Point("languages", n, enough, n) for n in LANGUAGES]
    width = [Point("width", n, replace(base, hidden=base.hidden * n)) for n in (1, 2)]
    return tokens + blocks + languages + width


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of the least-squares line in logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - middle_x) ** 2 for a in x)


def blocks_of(point: Point, folder: Path) -> dict[str, TokenBlocks]:
    """The samples, shared out to languages."""
    ids_NT = load_ids(folder, point.shape.samples)
    parts = ids_NT.tensor_split(point.languages)
    return {
        f"l{index:02}": TokenBlocks(f"l{index:02}", part, torch.ones_like(part, dtype=torch.bool))
        for index, part in enumerate(parts)
    }


def folder_of(root: Path, shape: Shape) -> Path:
    """Where a shape's model and tokens lie."""
    words = "-".join(str(value) for value in asdict(shape).values())
    return make(shape, root / f"shape-{words}")


@torch.no_grad()
def once(point: Point, root: Path, method: Method) -> dict[str, float]:
    """Seconds of gathering and of pressing."""
    folder = folder_of(root, point.shape)
    walk = Walk(open_model(str(folder)).model)
    blocks = blocks_of(point, folder)
    shares = dict.fromkeys(blocks, 1 / len(blocks))
    spent = {"gather": 0.0, "press": 0.0}
    since = time.perf_counter()
    for index, moments in feeding.gather_dense(walk, blocks, gram=method.needs_gram):
        gathered = time.perf_counter()
        press.press_block(walk, index, moments, method, shares, {})
        pressed = time.perf_counter()
        spent["gather"] += gathered - since
        spent["press"] += pressed - gathered
        since = pressed
    return spent


def measure(base: Shape, root: Path, repeats: int) -> list[dict[str, Any]]:
    """Every method at every point, in turns."""
    least: dict[tuple[str, Point], dict[str, float]] = {}
    for _ in range(repeats):
        for point in points(base):
            for words in METHODS:
                spent = once(point, root, method_of(words))
                spent["sum"] = sum(spent.values())
                before = least.get((words, point), spent)
                least[words, point] = {k: min(v, before[k]) for k, v in spent.items()}
    return [
        {"method": words, "curve": p.curve, "size": p.size, **spent}
        for (words, p), spent in least.items()
    ]


def exponents(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By method and curve."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["method"], row["curve"]), []).append(row)
    return [
        {"method": method, "curve": curve, "sizes": [r["size"] for r in there]}
        | {
            part: exponent([r["size"] for r in there], [r[part] for r in there])
            for part in ("gather", "press", "sum")
        }
        | {"seconds": [r["sum"] for r in there]}
        for (method, curve), there in found.items()
    ]


def lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """As a Markdown table."""
    told = ["| method | × | sizes | seconds | gather | press | together |", "|---" * 7 + "|"]
    for row in found:
        sizes = ", ".join(f"{size:g}" for size in row["sizes"])
        spent = ", ".join(f"{each:.2f}" for each in row["seconds"])
        slopes = " | ".join(f"{row[part]:.2f}" for part in ("gather", "press", "sum"))
        told.append(f"| {row['method']} | {row['curve']} | {sizes} | {spent} | {slopes} |")
    return told


def main() -> None:
    """Print the exponents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the models")
    parser.add_argument("--repeats", type=int, default=3)
    for name, default in (("hidden", 768), ("blocks", 3), ("samples", 32), ("length", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = vars(parser.parse_args())
    root, repeats = given.pop("folder"), given.pop("repeats")
    print("\n".join(lines(exponents(measure(Shape(**given), root, repeats)))))


if __name__ == "__main__":
    main()
