"""Walk the blocks of a model: gather moments, press each site, pass on.

With `propagate: dense` every block is fed what the dense block before it gives: one pass per block
gathers moments that hold for every mixture, method and sparsity, and pressing needs no text. With
`propagate: compressed` every block is fed what the *pressed* block before it gives, as the
published Wanda and SparseGPT codes do: two passes per block, valid for one recipe.

Shapes: B sequences, T positions, H hidden size, I inputs, O outputs; one language a batch.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite
from babelpress.feeding import Progress, batches, gather, pass_on, silent
from babelpress.finite import all_finite
from babelpress.folds import Fold, find_folds
from babelpress.grids import Codes
from babelpress.harm import by_layer, mean_damage, site_damage
from babelpress.loads import Load, blended, languages_of, layer_of
from babelpress.memory import give_back
from babelpress.methods import Method, Pressed, Weights
from babelpress.models import Site, Walk, linears, set_weight, weight
from babelpress.moments import Blend, Damage, Moments
from babelpress.offload import Hold, changing, in_memory
from babelpress.packing import Blocks
from babelpress.store import BlockMoments

SiteMoments = Mapping[str, Moments]  # by language
Folds = Sequence[Mapping[str, Fold]]  # by block, then by site
PROBE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What pressing did to one site: exact zeros and weights, and the damage to each language.

    `were_zero` counts the weights that were zero before. `absmax_I` is the largest input in the
    calibration languages, as the pressed model sees it; `codes` are those of the linears by name
    inside the block. `folded` is False where the method wanted to scale the inputs and no layer
    before can take the scale. `load` is what reached an expert, None for what is none; an expert
    that saw too few tokens is left as it was, without codes.
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


# ---- one site ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scaled:
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


_AS_IT_WAS = _Scaled(None, {})


def _press_site(
    method: Method, old: Weights, stats: Blend, seen: SiteMoments, scaled: _Scaled
) -> tuple[Pressed, dict[str, Damage]]:
    """New weights for (scaled) inputs, and the damage, which is that to the dense model."""
    if scaled.inputs_I is None and not scaled.rows:
        new = method.press(old, stats)
        return new, site_damage(old, new.weights, seen)
    new = method.press(scaled.scaled(old), stats)
    return new, site_damage(old, scaled.unscaled(new.weights), seen)


# ---- one block -----------------------------------------------------------------------------


def press_block(
    walk: Walk,
    index: int,
    moments: BlockMoments,
    method: Method,
    shares: Mapping[str, float],
    folds: Mapping[str, Fold],
) -> list[SiteReport]:
    """Press every site of a block in place, but those that `method.skip` names."""
    layers = linears(walk.blocks[index])
    dense = {
        site: {name: weight(layers[name]).clone() for name in site.linears}
        for site in moments
        if not method.skips(site)
    }
    wanted = {
        site.name: _scale(method, dense[site], stats, folds[site.name])
        for site, stats, _ in look(walk, index, moments, method, shares)
        if method.scales and stats is not None and site.name in folds
    }
    scales = {name: folds[name].apply(walk.blocks[index], s) for name, s in wanted.items()}
    reports: list[SiteReport] = []
    for site, stats, load in look(walk, index, moments, method, shares):
        if stats is None:
            reports.append(_left(index, site, dense[site], moments[site], load))
            continue
        scale_I = scales.get(site.name)
        scaled = _Scaled(scale_I, _divided_rows(site, dense[site], scales, folds))
        new, harm = _press_site(method, dense[site], stats, moments[site], scaled)
        for name, weight_OI in new.weights.items():
            if not all_finite(weight_OI):
                raise NotFinite(f"{method.name} made NaN or infinity in {stats.where} ({name}).")
            set_weight(layers[name], weight_OI)
        largest_I = stats.absmax_I.float()
        reports.append(
            SiteReport(
                index,
                site.name,
                zeros=_zeros(new.weights),
                were_zero=_zeros(dense[site]),
                weights=sum(w.numel() for w in new.weights.values()),
                damage=harm,
                absmax_I=largest_I if scale_I is None else largest_I / scale_I,
                codes=new.codes,
                folded=scale_I is not None or not method.scales,
                load=load,
            )
        )
        give_back()
    return reports


def look(
    walk: Walk, index: int, moments: BlockMoments, method: Method, shares: Mapping[str, float]
) -> Iterator[tuple[Site, Blend | None, Load | None]]:
    """The means of every site of a block, none of an expert that stays as it is, and its load.

    One site at a time: its mean Gram matrix and its factor are as large as a linear, or larger.
    """
    layers = linears(walk.blocks[index])
    languages = languages_of(moments.values())
    for site, seen in moments.items():
        if method.skips(site):
            continue
        stats, load = blended(
            site,
            layers[site.linears[0]],
            seen,
            shares,
            languages=languages,
            enough=method.enough,
            where=f"{walk.path}.{index}.{site.name}",
        )
        yield site, stats, load


def _left(index: int, site: Site, old: Weights, seen: SiteMoments, load: Load | None) -> SiteReport:
    """The report of an expert's linear that stays as it is."""
    zeros = _zeros(old)
    return SiteReport(
        index,
        site.name,
        zeros=zeros,
        were_zero=zeros,
        weights=sum(w.numel() for w in old.values()),
        damage=site_damage(old, old, seen),
        absmax_I=torch.zeros(site.inputs),
        codes={},
        folded=True,
        load=load,
    )


def _zeros(weights: Weights) -> int:
    # counting what is not zero takes a third of the time
    return sum(w.numel() - int(torch.count_nonzero(w)) for w in weights.values())


def _scale(method: Method, old: Weights, stats: Blend, fold: Fold) -> Tensor:
    """The scale that a method wants, among those that are equal where inputs share a row."""
    shared = replace(stats, mean_abs_I=fold.pooled(stats.mean_abs_I))
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
    table_VH = weight(walk.model.get_input_embeddings())
    lot = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(len(table_VH), (1, PROBE_TOKENS), generator=lot)
    hidden_BTH = walk.start(ids_BT.to(table_VH.device))
    found: list[dict[str, Fold]] = []
    for index in range(len(walk.blocks)):
        found.append(find_folds(walk, index, hidden_BTH))
        hidden_BTH = walk.forward(index, hidden_BTH)
    return found


def damage_of(reports: Sequence[SiteReport]) -> dict[str, float]:
    """e_l of what was pressed."""
    return mean_damage(by_layer((each.layer, each.damage) for each in reports))


def check_skip(sites: Collection[Site], skip: Sequence[str]) -> None:
    """Raise BadSetting for a `--skip` word that no site answers to, or if no site is left."""
    for pattern in skip:
        if not any(site.matches(pattern) for site in sites):
            names = ", ".join(site.name for site in sites)
            raise BadSetting(f"--skip {pattern} names no site of this model. It has {names}.")
    if all(any(site.matches(pattern) for pattern in skip) for site in sites):
        raise BadSetting(f"--skip {' '.join(skip)} leaves nothing to press. Skip fewer sites.")


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
    for index, block in enumerate(walk.blocks):
        layers = linears(block)
        of_block = moments(index)
        if index == 0:
            check_skip(of_block, method.skip)
        for site, stats, load in look(walk, index, of_block, method, shares):
            old = {name: weight(layers[name]) for name in site.linears}
            scaled = _AS_IT_WAS
            if stats is None:
                harm = site_damage(old, old, of_block[site])
            else:
                if fold := folds[index].get(site.name):
                    scaled = _Scaled(_scale(method, old, stats, fold), {})
                harm = _press_site(method, old, stats, of_block[site], scaled)[1]
            total.append((layer_of(index, site.name, load), harm))
        del of_block  # before those of the next block are gathered
    return mean_damage(by_layer(total))


# ---- whole models --------------------------------------------------------------------------


@torch.no_grad()
def press_dense(
    walk: Walk,
    moments: Callable[[int], BlockMoments],
    method: Method,
    shares: Mapping[str, float],
    *,
    hold: Hold = in_memory,
    settled: Settled = as_they_are,
    progress: Progress = silent,
) -> list[SiteReport]:
    """Press all blocks in place from moments of the dense model: no text, no forward pass.

    `settled` is told the reports of a block when it is done, and gives back what is kept of them.
    """
    folds = find_all_folds(walk, method)
    reports: list[SiteReport] = []
    for index in range(len(walk.blocks)):
        of_block = moments(index)
        if index == 0:
            check_skip(of_block, method.skip)
        with changing(walk.blocks[index], hold):
            reports += settled(press_block(walk, index, of_block, method, shares, folds[index]))
        del of_block  # before those of the next block are gathered
        give_back()
        progress("press", index + 1, len(walk.blocks))
    return reports


@torch.no_grad()
def press_compressed(
    walk: Walk,
    blocks: Mapping[str, Blocks],
    method: Method,
    shares: Mapping[str, float],
    *,
    batch_tokens: int = 0,
    hold: Hold = in_memory,
    settled: Settled = as_they_are,
    progress: Progress = silent,
) -> list[SiteReport]:
    """Press all blocks in place, each on what the pressed blocks before it pass on."""
    folds = find_all_folds(walk, method)
    todo = batches(walk, blocks, batch_tokens=batch_tokens, hold=hold)
    reports: list[SiteReport] = []
    for index in range(len(walk.blocks)):
        moments, _ = gather(walk, index, todo, gram=method.needs_gram, passing=False)
        if index == 0:
            check_skip(moments, method.skip)
        with changing(walk.blocks[index], hold):
            reports += settled(press_block(walk, index, moments, method, shares, folds[index]))
        del moments
        give_back()
        if index + 1 < len(walk.blocks):
            todo = pass_on(walk, index, todo, hold=hold)
        progress("press", index + 1, len(walk.blocks))
    return reports
