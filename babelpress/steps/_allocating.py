"""Let a rule say how much each block gives, and make patterns of what it says.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from babelpress.allocate import RULES, _exact
from babelpress.models.walk import Walk
from babelpress.moments.blend import Blend
from babelpress.press.method import Method, Pruner
from babelpress.press.sites import looking, weights_of
from babelpress.registry import taken
from babelpress.steps._doing import Pressed
from babelpress.steps._looking import Source

UNIFORM = "uniform"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of `allocate/` with its options."""

    name: str
    options: Mapping[str, Any]

    @property
    def differs(self) -> bool:
        """Whether blocks may get something else than all others."""
        return self.name != UNIFORM

    def allocate(
        self, walk: Walk, source: Source, method: Method, shares: Mapping[str, float]
    ) -> Pruner:
        """The pruner with a pattern for every linear of every block.

        Experts that saw too few tokens stay as they are, and count nowhere; nor do blocks that are
        left out as a whole.
        """
        assert isinstance(method, Pruner)
        measure = RULES.get(self.name)
        measured: list[float] = []
        shapes: dict[int, dict[str, tuple[int, int]]] = {}
        for index in range(len(walk.blocks)):
            weights, stats = seen_of(walk, index, source, method, shares)
            if weights:
                measured.append(measure(weights, stats, **taken(measure, self.options)))
                shapes[index] = {n: (each.shape[0], each.shape[1]) for n, each in weights.items()}
        if not measured:
            return method
        spread = RULES.optional(self.name, "densities")
        assert spread is not None
        asked = _exact.density(method.pattern)
        densities = spread(measured, asked, **taken(spread, self.options))
        patterns = _exact.patterns(method.pattern, list(shapes.values()), densities)
        return replace(method, allocated=dict(zip(shapes, patterns, strict=True)))


def seen_of(
    walk: Walk, index: int, source: Source, method: Method, shares: Mapping[str, float]
) -> tuple[dict[str, Tensor], dict[str, Blend]]:
    """The weights of a block that are to be pressed, and the means that their inputs had."""
    moments = source.moments(index)
    look = looking(walk, index, moments, method, shares)
    weights: dict[str, Tensor] = {}
    means: dict[str, Blend] = {}
    for site, of_site in weights_of(walk, index, moments, method).items():
        stats, _ = look(site)
        if stats is not None:
            weights |= of_site
            means |= dict.fromkeys(of_site, stats)
    return weights, means


def shares(pressed: Pressed) -> list[float]:
    """The share of each block that went."""
    zeros: dict[int, int] = {}
    weights: dict[int, int] = {}
    for site in pressed.sites:
        zeros[site.block] = zeros.get(site.block, 0) + site.zeros
        weights[site.block] = weights.get(site.block, 0) + site.weights
    return [zeros[block] / weights[block] for block in sorted(weights)]
