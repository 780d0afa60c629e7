"""Solve the sites of a block, side by side: what a method makes of each on the means of a mixture.

Where a method wants the inputs of a site scaled, it is given weights for scaled inputs, and what it
gives back is for those; damage is always that to the dense model.

Shapes: O outputs, I inputs of a linear, R rows of one that were divided for a site further on.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from babelpress.models.linears import linears, weight
from babelpress.models.sites import Site
from babelpress.models.walk import Walk
from babelpress.moments.blend import Blend
from babelpress.moments.damage import Damage, site_damage, site_energy, unhurt
from babelpress.moments.expert_loads import Load, blended, languages_of
from babelpress.moments.store import BlockMoments
from babelpress.press.method import Method, Pressed, Weights
from babelpress.system.memory import short
from babelpress.system.threads import side_by_side

Look = Callable[[Site], tuple[Blend | None, Load | None]]
TOGETHER = 4  # sites for every thread that are solved before their weights are set
SMALL = 4096  # inputs of a site for whose factor one thread is enough


class Means:
    """Means of sites on one set of moments, and their factors, for who presses with them again.

    Those of one mixture take the memory of one language's moments, and as much again for the
    factors of every damp and order. An expert's are not kept.
    """

    def __init__(self) -> None:
        self._found: dict[object, tuple[Blend, None]] = {}

    def of(
        self,
        index: int,
        site: Site,
        shares: Mapping[str, float],
        make: Callable[[], tuple[Blend | None, Load | None]],
    ) -> tuple[Blend | None, Load | None]:
        """Those of a site of a block on these shares, made where they were not asked for before."""
        key = index, site, tuple(sorted(shares.items()))
        if key in self._found:
            return self._found[key]
        stats, load = make()
        if stats is not None and load is None:
            self._found[key] = stats, load
        return stats, load


@dataclass(frozen=True, slots=True)
class Scaled:
    """Inputs that are divided in the layer before, and what that does to weights.

    `rows` are the factors that rows of a linear were divided by, for a site further on.
    """

    inputs_I: Tensor | None
    rows: dict[str, Tensor]

    def scaled(self, weights: Weights) -> dict[str, Tensor]:
        """Weights for scaled inputs, in float32 where anything is scaled."""
        return {name: self._times(name, w.float(), 1) for name, w in weights.items()}

    def unscaled(self, weights: Weights) -> dict[str, Tensor]:
        """The inverse: what weights for scaled inputs are to inputs as they were."""
        return {name: self._times(name, w.float(), -1) for name, w in weights.items()}

    def _times(self, name: str, weight_OI: Tensor, power: int) -> Tensor:
        if self.inputs_I is not None:
            weight_OI = weight_OI * self.inputs_I.pow(power)
        if name in self.rows:
            weight_OI = weight_OI * self.rows[name].pow(-power)[:, None]
        return weight_OI


UNSCALED = Scaled(None, {})


@dataclass(frozen=True, slots=True)
class Solved:
    """What a method made of a site, whose means are not needed any more.

    `new` are weights for scaled inputs, None of an expert that stays as it is; `damage` is that to
    the dense model.
    """

    site: Site
    new: Pressed | None
    load: Load | None
    damage: dict[str, Damage]
    largest_I: Tensor
    scaled: Scaled = UNSCALED


def weights_of(
    walk: Walk, index: int, moments: BlockMoments, method: Method
) -> dict[Site, dict[str, Tensor]]:
    """The weights of all sites of a block that are to be pressed, as views."""
    layers = linears(walk.blocks[index])
    return {
        site: {name: weight(layers[name]) for name in site.linears}
        for site in moments
        if not method.skips(site)
    }


def looking(
    walk: Walk,
    index: int,
    moments: BlockMoments,
    method: Method,
    shares: Mapping[str, float],
    means: Means | None = None,
) -> Look:
    """What gives the means of a site of a block, none of an expert that stays as it is."""
    layers = linears(walk.blocks[index])
    languages = languages_of(moments.values())

    def make(site: Site) -> tuple[Blend | None, Load | None]:
        return blended(
            site,
            layers[site.linears[0]],
            moments[site],
            shares,
            languages=languages,
            enough=method.enough,
            where=walk.name(index, site.name),
            apart=method.languages_apart,
        )

    if means is None:
        return make
    return lambda site: means.of(index, site, shares, lambda: make(site))


def solve_all(
    walk: Walk,
    method: Method,
    old: Mapping[Site, Weights],
    moments: BlockMoments,
    look: Look,
    scaled: Callable[[Site], Scaled],
) -> Iterator[Solved]:
    """What a method makes of the sites of a block.

    Means are made for one site at a time, or for as many as there are threads: a mean Gram matrix
    and its factor are as large as a linear, or larger. Where memory is short, the largest site is
    solved alone, and together only what takes no more than it does. New weights are of some sites
    at a time: a block may have hundreds of experts.
    """

    # Before threads are side by side: products of bfloat16 weights share the process's precision.
    energy = {site: site_energy(weights, moments[site]) for site, weights in old.items()}

    def solve(site: Site) -> Solved:
        stats, load = look(site)
        if stats is None:
            whole = unhurt(moments[site], energy[site])
            return Solved(site, None, load, whole, torch.zeros(site.inputs))
        how, largest_I = scaled(site), stats.absmax_I.float()
        plain = how.inputs_I is None and not how.rows
        new = method.press(old[site] if plain else how.scaled(old[site]), stats)
        del stats  # a mean Gram matrix and its factor
        pressed = new.weights if plain else how.unscaled(new.weights)
        damage = site_damage(old[site], pressed, moments[site], energy[site])
        return Solved(site, _as_kept(new, old[site]), load, damage, largest_I, how)

    sites = list(old)
    if walk.model.device.type != "cpu" or any(site.inputs > SMALL for site in sites):
        yield from map(solve, sites)
        return

    def cost(site: Site) -> float:
        """Products of a factor, and of weights with a Gram matrix."""
        rows = sum(map(len, old[site].values()))
        return float(site.inputs**2 * (site.inputs + rows))

    def need(site: Site) -> int:
        """Numbers in memory, some times over: of a Gram matrix, and twice as often of weights."""
        return site.inputs * (site.inputs + 2 * sum(map(len, old[site].values())))

    some = TOGETHER * torch.get_num_threads()
    for start in range(0, len(sites), some):
        yield from side_by_side(
            solve, sites[start : start + some], cost=cost, need=need if short() else None
        )


def _as_kept(new: Pressed, old: Weights) -> Pressed:
    """With the weights in the dtype that the model has them in: all of a block wait to be set."""
    return replace(new, weights={name: w.to(old[name].dtype) for name, w in new.weights.items()})
