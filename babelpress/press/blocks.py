"""Walk the blocks of a model: gather moments, press each site, pass on.

With `propagate: dense` every block is fed what the dense block before it gives: one pass per block
gathers moments that hold for every mixture, method and sparsity, and pressing needs no text. With
`propagate: compressed` every block is fed what the *pressed* block before it gives, as the
published Wanda and SparseGPT codes do: two passes per block, valid for one recipe.

Shapes: B sequences, T positions, H hidden size, I inputs, O outputs; one language a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from babelpress.errors import NotFinite
from babelpress.models.folds import Fold, find_folds
from babelpress.models.linears import Linear, linears, set_weight
from babelpress.models.reorders import Reorder
from babelpress.models.sites import Site
from babelpress.models.walk import Walk
from babelpress.moments.blend import Blend
from babelpress.moments.damage import Damage, Foretold, by_layer, foretold, mean_damage
from babelpress.moments.expert_loads import Load, layer_of
from babelpress.moments.gather import batches, gather, pass_on
from babelpress.moments.store import BlockMoments
from babelpress.numerics.counting import nonzeros
from babelpress.numerics.finite import all_finite
from babelpress.numerics.grids import Codes
from babelpress.press.method import Method, Weights
from babelpress.press.reordering import find_all_reorders, probed, reordered
from babelpress.press.sites import UNSCALED, Means, Scaled, Solved, looking, solve_all, weights_of
from babelpress.system.memory import give_back, large_goes_back
from babelpress.system.offload import Hold, changing, in_memory
from babelpress.system.progress import Progress, silent
from babelpress.text.token_blocks import TokenBlocks

Folds = Sequence[Mapping[str, Fold]]  # by block, then by site


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What pressing did to one site: exact zeros and weights, and the damage to each language.

    `were_zero` counts the weights that were zero before. `absmax_I` is the largest input in the
    calibration languages, as the pressed model sees it; `codes` are those of the linears by name
    inside the block. `folded` is False where the method wanted to scale the inputs and no layer
    before can take the scale, `ordered` where it wanted them in another order and none can. `load`
    is what reached an expert, None for what is none; an expert that saw too few tokens is left as
    it was, without codes.
    """

    block: int
    site: str
    zeros: int
    were_zero: int
    weights: int
    damage: dict[str, Damage]
    absmax_I: Tensor
    codes: dict[str, Codes]
    folded: bool
    ordered: bool = True
    load: Load | None = None

    @property
    def layer(self) -> tuple[object, ...]:
        """What the site is a part of: its block, and itself or the stack of its expert."""
        return layer_of(self.block, self.site, self.load)

    @property
    def left(self) -> bool:
        """Whether the site was left as it was, for an expert that saw too few tokens."""
        return self.load is not None and self.load.left


Settled = Callable[[list[SiteReport]], list[SiteReport]]


def as_they_are(reports: list[SiteReport]) -> list[SiteReport]:
    """Reports are kept whole."""
    return reports


# ---- one block -----------------------------------------------------------------------------


@large_goes_back()
def press_block(
    walk: Walk,
    index: int,
    moments: BlockMoments,
    method: Method,
    shares: Mapping[str, float],
    folds: Mapping[str, Fold],
    means: Means | None = None,
    reorders: Mapping[str, Reorder] | None = None,
) -> list[SiteReport]:
    """Press every site of a block in place, but those that `method.skip` names."""
    layers = linears(walk.blocks[index])
    as_is = looking(walk, index, moments, method, shares, means)
    in_order = reordered(walk, index, moments, method, as_is, reorders or {})
    if method.reorders:  # means that others made are of inputs as they were
        moments, means = in_order.moments, None
    dense = weights_of(walk, index, moments, method)
    if method.scales:  # which changes the linears of other sites, before those are solved
        dense = {s: {name: w.clone() for name, w in old.items()} for s, old in dense.items()}
    look = looking(walk, index, moments, method, shares, means)
    scales: dict[str, Tensor] = {}
    for site in dense if method.scales else ():
        fold, (stats, _) = folds.get(site.name), look(site)
        if fold is not None and stats is not None:
            scale_G = _scale(method, dense[site], stats, fold)
            scales[site.name] = fold.apply(walk.blocks[index], scale_G)

    def scaled(site: Site) -> Scaled:
        rows = _divided_rows(site, dense[site], scales, folds)
        return Scaled(scales.get(site.name), rows)

    reports: list[SiteReport] = []
    for solved in solve_all(walk, method, dense, moments, look, scaled):
        site, new = solved.site, solved.new
        if new is None:
            reports.append(_left(index, solved, dense[site]))
            continue
        were_zero = _zeros(dense[site])
        _set(layers, new.weights, f"{method.name} made", walk.name(index, site.name))
        scale_I = solved.scaled.inputs_I
        reports.append(
            SiteReport(
                index,
                site.name,
                zeros=_zeros(new.weights),
                were_zero=were_zero,
                weights=sum(w.numel() for w in new.weights.values()),
                damage=solved.damage,
                absmax_I=solved.largest_I if scale_I is None else solved.largest_I / scale_I,
                codes=new.codes,
                folded=scale_I is not None or not method.scales,
                ordered=site.name not in in_order.stuck,
                load=solved.load,
            )
        )
    return reports


def _set(layers: Mapping[str, Linear], weights: Weights, who: str, where: str) -> None:
    """Put new weights into linears. Raises NotFinite with the place."""
    for name, weight_OI in weights.items():
        if not all_finite(weight_OI):
            raise NotFinite(f"{who} NaN or infinity in {where} ({name}).")
        set_weight(layers[name], weight_OI)


def _left(index: int, solved: Solved, old: Weights) -> SiteReport:
    """The report of an expert's linear that stays as it is."""
    zeros = _zeros(old)
    return SiteReport(
        index,
        solved.site.name,
        zeros=zeros,
        were_zero=zeros,
        weights=sum(w.numel() for w in old.values()),
        damage=solved.damage,
        absmax_I=solved.largest_I,
        codes={},
        folded=True,
        load=solved.load,
    )


def _zeros(weights: Weights) -> int:
    return sum(w.numel() - nonzeros(w) for w in weights.values())


def _scale(method: Method, old: Weights, stats: Blend, fold: Fold) -> Tensor:
    """The scale that a method wants, among those that are equal where inputs share a row."""
    mean_abs_I = None if stats.mean_abs_I is None else fold.pooled(stats.mean_abs_I)
    shared = replace(stats, mean_abs_I=mean_abs_I)
    return method.scale_inputs(old, shared)


def _divided_rows(
    site: Site, dense: Weights, scales: Mapping[str, Tensor], folds: Mapping[str, Fold]
) -> dict[str, Tensor]:
    """The row factors of those linears of a site that other sites' scales were folded into."""
    return {
        fold.module: fold.divisor(scales[name], len(dense[fold.module]))
        for name, fold in folds.items()
        if name in scales and fold.module in site.linears
    }


def find_all_folds(walk: Walk, method: Method) -> list[dict[str, Fold]]:
    """Where each site's inputs can be scaled, by block; nothing for a method that does not.

    Found by running the dense blocks on a few meaningless tokens.
    """
    if not method.scales:
        return [{} for _ in walk.blocks]
    return list(probed(walk, find_folds))


def damage_of(reports: Sequence[SiteReport]) -> dict[str, float]:
    """e_l of what was pressed."""
    return mean_damage(by_layer((each.layer, each.damage) for each in reports))


def foretold_of(reports: Sequence[SiteReport]) -> dict[str, Foretold]:
    """How much each language's loss is predicted to grow; nothing where tokens count evenly."""
    return foretold(each.damage for each in reports)


# ---- without changing the model -----------------------------------------------------------


@torch.no_grad()
def predicted_damage(
    walk: Walk,
    moments: Callable[[int], BlockMoments],
    method: Method,
    shares: Mapping[str, float],
    folds: Folds | None = None,
) -> dict[str, float]:
    """e_l of pressing every site with these shares; the model is left as it was.

    `folds` are those of `find_all_folds`, which are looked for where they are not given.
    """
    folds = find_all_folds(walk, method) if folds is None else folds
    total: list[tuple[tuple[object, ...], dict[str, Damage]]] = []
    for index in range(len(walk.blocks)):
        of_block = moments(index)
        total += _predict(walk, index, of_block, method.at(index), shares, folds[index])
        del of_block  # before those of the next block are gathered
    return mean_damage(by_layer(total))


def _predict(
    walk: Walk,
    index: int,
    moments: BlockMoments,
    method: Method,
    shares: Mapping[str, float],
    folds: Mapping[str, Fold],
) -> list[tuple[tuple[object, ...], dict[str, Damage]]]:
    """The damage of pressing every site of a block, each by what it is a part of."""
    old = weights_of(walk, index, moments, method)
    look = looking(walk, index, moments, method, shares)

    def scaled(site: Site) -> Scaled:
        fold = folds.get(site.name)
        if fold is None:
            return UNSCALED
        stats, _ = look(site)
        if stats is None:
            return UNSCALED
        return Scaled(_scale(method, old[site], stats, fold), {})

    return [
        (layer_of(index, s.site.name, s.load), s.damage)
        for s in solve_all(walk, method, old, moments, look, scaled)
    ]


# ---- whole models --------------------------------------------------------------------------


@torch.no_grad()
def press_dense(
    walk: Walk,
    moments: Callable[[int], BlockMoments],
    method: Method,
    shares: Mapping[str, float],
    *,
    means: Means | None = None,
    hold: Hold = in_memory,
    settled: Settled = as_they_are,
    progress: Progress = silent,
) -> list[SiteReport]:
    """Press all blocks in place from moments of the dense model: no text, no forward pass.

    `settled` is told the reports of a block when it is done, and gives back what is kept of them.
    `means` are kept between calls on the same moments: factors on the same shares serve again.
    """
    folds, reorders = find_all_folds(walk, method), find_all_reorders(walk, method)
    reports: list[SiteReport] = []
    progress("press: block", 0, len(walk.blocks))
    for index in range(len(walk.blocks)):
        of_block = moments(index)
        with changing(walk.blocks[index], hold):
            reports += settled(
                press_block(
                    walk,
                    index,
                    of_block,
                    method.at(index),
                    shares,
                    folds[index],
                    means,
                    reorders[index],
                )
            )
        del of_block  # before those of the next block are gathered
        give_back()
        progress("press: block", index + 1, len(walk.blocks))
    return reports


@torch.no_grad()
def press_compressed(
    walk: Walk,
    blocks: Mapping[str, TokenBlocks],
    method: Method,
    shares: Mapping[str, float],
    *,
    batch_tokens: int = 0,
    hold: Hold = in_memory,
    settled: Settled = as_they_are,
    progress: Progress = silent,
) -> list[SiteReport]:
    """Press all blocks in place, each on what the pressed blocks before it pass on."""
    folds, reorders = find_all_folds(walk, method), find_all_reorders(walk, method)
    todo = batches(walk, blocks, batch_tokens=batch_tokens, hold=hold)
    reports: list[SiteReport] = []
    progress("press: block", 0, len(walk.blocks))
    for index in range(len(walk.blocks)):
        moments, _ = gather(
            walk, index, todo, gram=method.needs_gram, vectors=method.vectors, passing=False
        )
        with changing(walk.blocks[index], hold):
            reports += settled(
                press_block(
                    walk,
                    index,
                    moments,
                    method.at(index),
                    shares,
                    folds[index],
                    reorders=reorders[index],
                )
            )
        del moments
        give_back()
        if index + 1 < len(walk.blocks):
            todo = pass_on(walk, index, todo, hold=hold)
        progress("press: block", index + 1, len(walk.blocks))
    return reports
