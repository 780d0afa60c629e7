"""What blocks may get where a rule chooses: options, the method with each, and what each takes.

Shapes: B blocks, O options.

Tested in tests/steps/test_choosing.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from babelpress.allocate import _exact, _options
from babelpress.models.ledger import stored_bytes
from babelpress.numerics.grids import Grid
from babelpress.press.method import Method, Pruner, Quantizer

FINE = 1_000_000  # parts of a weight that densities are counted in

Shape = tuple[int, int]
Shapes = Mapping[int, Mapping[str, Shape]]  # by block, then by linear: those to be pressed


@dataclass(frozen=True, slots=True)
class Choices:
    """What blocks may get: `names` of options, the method with each, and what each would take.

    `blocks` are the numbers of those that are pressed at all; `size_BO` and `budget` are in bits,
    or in weights that stay, `fine` of each. `plain` is the method that gives every block what is
    asked for, `chosen_by` the one for the options chosen (B,) where they are not that.
    """

    names: list[float]
    methods: Sequence[Method]
    blocks: list[int]
    size_BO: list[list[int]]
    budget: int
    asked: float
    plain: Method
    chosen_by: Callable[[Sequence[int]], Method]
    fine: int = 1

    @property
    def even(self) -> list[int]:
        """The choice that is the plain method: empty where what is asked for is no option."""
        there = self.asked in self.names
        return [self.names.index(self.asked)] * len(self.blocks) if there else []

    def final(self, chosen_B: Sequence[int]) -> Method:
        """The method for the options chosen."""
        return self.plain if [*chosen_B] == self.even else self.chosen_by(chosen_B)


Offer = Callable[[Shapes, Any], Choices]


def pruning(pattern: str, densities: str) -> Offer:
    """Shares of weights that stay; in the end every linear loses what the pattern asks."""
    names = _options.densities(pattern, densities)

    def offer(shapes: Shapes, method: Pruner) -> Choices:
        asked, fine = round(_exact.density(method.pattern), 6), _exact.parts(method.pattern) or FINE
        count = {
            b: sum(rows * inputs for rows, inputs in own.values()) for b, own in shapes.items()
        }
        methods = [
            replace(
                method,
                allocated={
                    b: _exact.nearest(method.pattern, own, kept) for b, own in shapes.items()
                },
            )
            for kept in names
        ]

        def final(chosen_B: Sequence[int]) -> Pruner:
            found = _exact.patterns(
                method.pattern, list(shapes.values()), [names[each] for each in chosen_B]
            )
            return replace(method, allocated=dict(zip(shapes, found, strict=True)))

        return Choices(
            names,
            methods,
            list(shapes),
            [[each * round(kept * fine) for kept in names] for each in count.values()],
            sum(count.values()) * round(asked * fine),
            asked,
            method,
            final,
            fine,
        )

    return offer


def quantizing(grid_of: Callable[[int], Grid], asked: int, bits: str) -> Offer:
    """Bits of codes; with scales and zero points no more in all than with as many everywhere."""
    names = _options.bits(asked, bits)

    def offer(shapes: Shapes, method: Quantizer) -> Choices:
        def final(chosen_B: Sequence[int]) -> Quantizer:
            pairs = zip(shapes, chosen_B, strict=True)
            return replace(method, grids={block: grid_of(names[each]) for block, each in pairs})

        return Choices(
            [*names],
            [replace(method, grid=grid_of(each)) for each in names],
            list(shapes),
            [[_bits(own, grid_of(each)) for each in names] for own in shapes.values()],
            sum(_bits(own, grid_of(asked)) for own in shapes.values()),
            asked,
            method,
            final,
        )

    return offer


def _bits(linears: Mapping[str, Shape], grid: Grid) -> int:
    """What the codes of a block take, with scales and zero points."""
    found = 0.0
    for name, shape in linears.items():
        row = {
            "shape": shape,
            "group": grid.width(shape[1], name),
            "symmetric": grid.symmetric,
            "bits": grid.bits,
        }
        found += 8 * stored_bytes(row)
    return round(found)
