"""The floor: what the machine can do, what the work takes, and how near each phase is to it.

    python benchmarks/speed/floor.py [--hidden 768] [--blocks 12] [--samples 128] [--length 512]

Rates are measured: matrix products in bfloat16 and float32 (as they are by default, and where
float32 is asked to use whatever is fastest for products of bfloat16 numbers), Cholesky factors in
float64, bandwidth. Operations are counted: a forward pass of linears and causal attention, the
upper half of one Gram matrix a site, and for the solvers a factor a site and the updates of later
columns. The floor of a phase is its operations at the best rate that serves it. Two threads at one
time may have less than twice the rate of one; the rates are of all threads that torch has here.

Shapes: T tokens, H hidden, M intermediate (of a block's two widths).
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from shape import Shape

TRIES = 7
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations a second, bytes a second."""

    threads: int
    bf16: float
    fp32: float
    fp32_medium: float
    fp64_factor: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one pass, of all Gram matrices, and of solving, in all blocks."""

    forward: float
    gram: float
    factor: float
    update: float


def least(run: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs."""
    run()
    found: list[float] = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def rates(shape: Shape) -> Rates:
    """Measured on matrices of this shape."""
    tokens = min(shape.tokens, 4096)
    x_TM = torch.randn(tokens, shape.intermediate)
    weight_HM = torch.randn(shape.hidden, shape.intermediate)
    flops = 2 * tokens * shape.hidden * shape.intermediate
    small_TM, small_HM = x_TM.bfloat16(), weight_HM.bfloat16()
    product = lambda: torch.nn.functional.linear(x_TM, weight_HM)  # noqa: E731
    bf16 = flops / least(lambda: torch.nn.functional.linear(small_TM, small_HM))
    before = torch.get_float32_matmul_precision()
    fp32 = flops / least(product)
    torch.set_float32_matmul_precision("medium")
    medium = flops / least(product)
    torch.set_float32_matmul_precision(before)
    width = shape.intermediate
    eye = torch.eye(width, dtype=torch.float64) * 2
    factor = width**3 / 3 / least(lambda: torch.linalg.cholesky(eye))
    large, other = torch.zeros(1 << 25), torch.zeros(1 << 25)
    bandwidth = 2 * large.nbytes / least(lambda: other.copy_(large))
    return Rates(torch.get_num_threads(), bf16, fp32, medium, factor, bandwidth)


def work(shape: Shape) -> Work:
    """Counted; every linear is solved in columns, each of which updates half of the others."""
    hidden, wide, tokens = shape.hidden, shape.intermediate, shape.tokens
    weights = 4 * hidden**2 + 3 * hidden * wide
    attention = 2 * 2 * shape.length / 2 * hidden  # scores and values, the causal half
    forward = tokens * (2 * weights + attention)
    gram = tokens * (3 * hidden**2 + wide**2)
    factor = (3 * hidden**3 + wide**3) * 2 / 3  # a factor, and its inverse
    update = 4 * hidden**3 + 2 * wide * hidden**2 + hidden * wide**2
    return Work(*(shape.blocks * float(each) for each in (forward, gram, factor, update)))


def seconds(shape: Shape, measured: Rates, *, passes: int, gram: bool) -> dict[str, float]:
    """The floor by phase; of the passes over the last block one is enough."""
    needed = work(shape)
    blocks = passes * shape.blocks - (passes - 1)
    found = {"forward": needed.forward / shape.blocks * blocks / measured.bf16}
    if gram:
        found["gram"] = needed.gram / max(measured.fp32_medium, measured.fp32)
        best = max(measured.fp32_medium, measured.fp32)
        found["solve"] = needed.factor / measured.fp64_factor + needed.update / best
    return found


def lines(shape: Shape, measured: Rates) -> list[str]:
    """As Markdown."""
    needed = asdict(work(shape))
    operations = ", ".join(f"{name} {count / TERA:.2f} T" for name, count in needed.items())
    return [
        f"Machine, {measured.threads} threads: bfloat16 {measured.bf16 / GIGA:.0f} GF/s, "
        f"float32 {measured.fp32 / GIGA:.0f} ({measured.fp32_medium / GIGA:.0f} at medium "
        f"precision), float64 factor {measured.fp64_factor / GIGA:.0f}, "
        f"{measured.bandwidth / GIGA:.0f} GB/s.",
        f"Operations, {shape.samples} × {shape.length}: {operations}.",
    ]


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("hidden", "blocks", "samples", "length"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape(), name))
    shape = Shape(**vars(parser.parse_args()))
    measured = rates(shape)
    print("\n".join(lines(shape, measured)))
    for passes, propagate in ((1, "dense"), (2, "compressed")):
        floor = seconds(shape, measured, passes=passes, gram=True)
        print(f"{propagate}: " + ", ".join(f"{k} {v:.2f} s" for k, v in floor.items()))


if __name__ == "__main__":
    main()
