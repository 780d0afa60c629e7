"""Walk the blocks of a model: gather moments, press each site, pass on.

With `propagate: dense` every block is fed what the dense block before it gives: one pass per block
gathers moments that hold for every mixture, method and sparsity, and pressing needs no text. With
`propagate: compressed` every block is fed what the *pressed* block before it gives, as the
published Wanda and SparseGPT codes do: two passes per block, valid for one recipe.

The minimax mixture (design, section 2) minimises the worst language's damage e_l on moments of the
dense model: start uniform, press every site with p, p_l ← p_l·exp(η·(e_l / mean e − 1)),
renormalise; keep the p with the smallest worst e_l.

Shapes: B sequences, T positions, H hidden size, I inputs, O outputs; one language a batch.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from babelpress import prune
from babelpress.errors import BadModel, BadSetting, NotFinite
from babelpress.models import Site, Walk, linears, set_weight, weight
from babelpress.moments import Blend, Damage, Moments, blend, damages
from babelpress.packing import Blocks
from babelpress.sparsity import KeepOf, PerGroup, PerLayer, PerRow, Stacked, parse
from babelpress.store import BlockMoments

SiteMoments = dict[str, Moments]  # by language
Progress = Callable[[str, int, int], None]  # what, done, total

BATCH_ELEMENTS = 1 << 22  # hidden numbers in a batch: 8 MB in bfloat16, which stays in the cache


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def never(_index: int) -> bool:
    """No block is done."""
    return False


@dataclass(frozen=True, slots=True)
class Method:
    """A pruning method with its options and pattern, and the sites that it leaves alone."""

    name: str
    pattern: PerRow | PerLayer | PerGroup | KeepOf
    options: Mapping[str, Any] = field(default_factory=dict)
    skip: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, pattern: str, options: Mapping[str, Any] | None = None, skip: Any = ()
    ) -> "Method":
        """From words. Raises UnknownName or BadSetting."""
        prune.check_options(name, options or {})
        return cls(name, parse(pattern), dict(options or {}), tuple(skip))

    def skips(self, site: Site) -> bool:
        """Whether `--skip` named this site."""
        return any(site.matches(pattern) for pattern in self.skip)

    def press(self, weights: Mapping[str, Tensor], stats: Blend) -> dict[str, Tensor]:
        """New weights for the linears of one site; exact counts in each linear."""
        apply = prune.get(self.name)
        if not prune.stacks(self.name):
            return {
                name: apply(weight_OI, stats, self.pattern, **self.options)
                for name, weight_OI in weights.items()
            }
        rows = tuple(len(weight_OI) for weight_OI in weights.values())
        stacked = Stacked(self.pattern, rows)
        new_OI = apply(torch.cat(list(weights.values())), stats, stacked, **self.options)
        return dict(zip(weights, new_OI.split(rows), strict=True))


@dataclass(frozen=True, slots=True)
class Batch:
    """Hidden states of some sequences of one language, and which positions count."""

    language: str
    hidden_BTH: Tensor
    counted_BT: Tensor


# ---- moments -------------------------------------------------------------------------------


def batches(walk: Walk, blocks: Mapping[str, Blocks], *, batch_tokens: int = 0) -> list[Batch]:
    """Hidden states before the first block, in batches of one language each."""
    found: list[Batch] = []
    for language, each in blocks.items():
        length = each.ids_BT.shape[1]
        width = weight(walk.model.get_input_embeddings()).shape[1]
        size = max(1, (batch_tokens or BATCH_ELEMENTS // width) // length)
        for ids_BT, counted_BT in zip(
            each.ids_BT.split(size), each.counted_BT.split(size), strict=True
        ):
            hidden_BTH = walk.start(ids_BT.to(walk.model.device))
            found.append(Batch(language, hidden_BTH, counted_BT.to(hidden_BTH.device)))
    return found


@torch.no_grad()
def gather(
    walk: Walk, index: int, todo: Sequence[Batch], *, gram: bool
) -> tuple[BlockMoments, list[Batch]]:
    """Moments of every site of a block over all batches, and what the block passes on."""
    for batch in todo:
        walk.prepare(batch.hidden_BTH)
    sites = walk.sites(index, todo[0].hidden_BTH)
    found: BlockMoments = {site: {} for site in sites}
    counted: list[Batch] = [todo[0]]  # the batch that runs now, for the hooks
    layers = linears(walk.blocks[index])
    place = f"{walk.path}.{index}"

    def look(site: Site) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            now = counted[0]
            seen = found[site]
            if now.language not in seen:
                device = args[0].device
                seen[now.language] = Moments.empty(site.inputs, gram, device=device)
            x_TI = args[0].reshape(-1, site.inputs)
            if len(x_TI) != now.counted_BT.numel():
                raise BadModel(f"{place}.{site.name} sees {len(x_TI)} rows, not one a token.")
            keep_T = now.counted_BT.flatten()
            rows_TI = x_TI if keep_T.all() else x_TI[keep_T]
            seen[now.language].add(rows_TI, where=f"{place}.{site.name} in {now.language}")

        return hook

    handles = [layers[s.linears[0]].register_forward_pre_hook(look(s)) for s in sites]
    passed: list[Batch] = []
    try:
        for batch in todo:
            counted[0] = batch
            out_BTH = walk.forward(index, batch.hidden_BTH)
            passed.append(Batch(batch.language, out_BTH, batch.counted_BT))
    finally:
        for handle in handles:
            handle.remove()
    return found, passed


@torch.no_grad()
def pass_on(walk: Walk, index: int, todo: Sequence[Batch]) -> list[Batch]:
    """What a block, as it is now, makes of every batch."""
    return [Batch(b.language, walk.forward(index, b.hidden_BTH), b.counted_BT) for b in todo]


# ---- pressing ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What pressing did to one site: exact zeros and weights, and the damage to each language."""

    block: int
    site: str
    zeros: int
    weights: int
    damage: dict[str, Damage]


def press_block(
    walk: Walk,
    index: int,
    moments: BlockMoments,
    method: Method,
    shares: Mapping[str, float],
) -> list[SiteReport]:
    """Press every site of a block in place, but those that `method.skip` names."""
    layers = linears(walk.blocks[index])
    reports: list[SiteReport] = []
    for site, seen in moments.items():
        if method.skips(site):
            continue
        old = {name: weight(layers[name]) for name in site.linears}
        stats = blend(seen, shares, f"{walk.path}.{index}.{site.name}")
        new = method.press(old, stats)
        harm = site_damage(old, new, seen)
        zeros = sum(int((weight_OI == 0).sum()) for weight_OI in new.values())
        for name, weight_OI in new.items():
            if not torch.isfinite(weight_OI).all():
                raise NotFinite(f"{method.name} made NaN or infinity in {stats.where} ({name}).")
            set_weight(layers[name], weight_OI)
        size = sum(weight_OI.numel() for weight_OI in new.values())
        reports.append(SiteReport(index, site.name, zeros, size, harm))
    return reports


def site_damage(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], moments: SiteMoments
) -> dict[str, Damage]:
    """Damage to each language, numerators and denominators summed over the linears of a site."""
    parts = [damages(old[name], new[name], moments) for name in old]
    return {
        language: Damage(
            sum(part[language].numerator for part in parts),
            sum(part[language].denominator for part in parts),
        )
        for language in moments
    }


def mean_damage(reports: Sequence[SiteReport]) -> dict[str, float]:
    """e_l: the mean over sites of the share of its output that language l loses."""
    languages = reports[0].damage if reports else {}
    return {
        language: math.fsum(
            r.damage[language].numerator / max(r.damage[language].denominator, 1e-30)
            for r in reports
        )
        / len(reports)
        for language in languages
    }


def check_skip(sites: Collection[Site], skip: Sequence[str]) -> None:
    """Raise BadSetting for a `--skip` word that no site answers to, or if no site is left."""
    for pattern in skip:
        if not any(site.matches(pattern) for site in sites):
            names = ", ".join(site.name for site in sites)
            raise BadSetting(f"--skip {pattern} names no site of this model. It has {names}.")
    if all(any(site.matches(pattern) for pattern in skip) for site in sites):
        raise BadSetting(f"--skip {' '.join(skip)} leaves nothing to press. Skip fewer sites.")


# ---- minimax -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the minimax loop: the shares tried and the damage they did."""

    shares: dict[str, float]
    damage: dict[str, float]

    @property
    def worst(self) -> float:
        """Damage of the language that lost most."""
        return max(self.damage.values())

    @property
    def mean(self) -> float:
        """Mean damage over languages."""
        return math.fsum(self.damage.values()) / len(self.damage)


@torch.no_grad()
def predicted_damage(
    walk: Walk,
    moments: Callable[[int], BlockMoments],
    method: Method,
    shares: Mapping[str, float],
) -> dict[str, float]:
    """e_l of pressing every site with these shares; the model is left as it was."""
    total: list[SiteReport] = []
    for index, block in enumerate(walk.blocks):
        layers = linears(block)
        of_block = moments(index)
        if index == 0:
            check_skip(of_block, method.skip)
        for site, seen in of_block.items():
            if method.skips(site):
                continue
            old = {name: weight(layers[name]) for name in site.linears}
            where = f"{walk.path}.{index}.{site.name}"
            new = method.press(old, blend(seen, shares, where))
            harm = site_damage(old, new, seen)
            total.append(SiteReport(index, site.name, 0, 0, harm))
    return mean_damage(total)


def minimax(
    damage_of: Callable[[Mapping[str, float]], dict[str, float]],
    languages: Sequence[str],
    *,
    rounds: int = 20,
    rate: float = 1.0,
    progress: Progress = silent,
) -> list[Round]:
    """The rounds of the minimax loop; the answer is `best` of them.

    `damage_of` gives e_l for shares; languages that are not asked for do not count. The last
    round's update is not tried.
    """
    shares = dict.fromkeys(languages, 1 / len(languages))
    trace: list[Round] = []
    for done in range(rounds):
        harm = damage_of(shares)
        trace.append(Round(shares, {tag: harm[tag] for tag in languages}))
        shares = _shifted(trace[-1], rate)
        progress("minimax", done + 1, rounds)
    return trace


def _shifted(tried: Round, rate: float) -> dict[str, float]:
    """Shares moved towards the languages that lost more than the mean."""
    if tried.worst == 0:
        return tried.shares
    # less the worst, not less the mean: the sum brings it to the same, and nothing overflows
    grown = {
        tag: share * math.exp(rate * (tried.damage[tag] - tried.worst) / tried.mean)
        for tag, share in tried.shares.items()
    }
    total = math.fsum(grown.values())
    return {tag: value / total for tag, value in grown.items()}


def best(trace: Sequence[Round]) -> Round:
    """The round with the smallest worst damage; of equal ones the first."""
    return min(trace, key=lambda each: each.worst)


# ---- whole models --------------------------------------------------------------------------


@torch.no_grad()
def press_dense(
    walk: Walk,
    moments: Callable[[int], BlockMoments],
    method: Method,
    shares: Mapping[str, float],
    *,
    progress: Progress = silent,
) -> list[SiteReport]:
    """Press all blocks in place from moments of the dense model: no text, no forward pass."""
    reports: list[SiteReport] = []
    for index in range(len(walk.blocks)):
        of_block = moments(index)
        if index == 0:
            check_skip(of_block, method.skip)
        reports += press_block(walk, index, of_block, method, shares)
        progress("press", index + 1, len(walk.blocks))
    return reports


@torch.no_grad()
def press_compressed(
    walk: Walk,
    blocks: Mapping[str, Blocks],
    method: Method,
    shares: Mapping[str, float],
    *,
    gram: bool,
    batch_tokens: int = 0,
    progress: Progress = silent,
) -> list[SiteReport]:
    """Press all blocks in place, each on what the pressed blocks before it pass on."""
    todo = batches(walk, blocks, batch_tokens=batch_tokens)
    reports: list[SiteReport] = []
    for index in range(len(walk.blocks)):
        moments, _ = gather(walk, index, todo, gram=gram)
        if index == 0:
            check_skip(moments, method.skip)
        reports += press_block(walk, index, moments, method, shares)
        del moments
        if index + 1 < len(walk.blocks):
            todo = pass_on(walk, index, todo)
        progress("press", index + 1, len(walk.blocks))
    return reports


@torch.no_grad()
def gather_dense(
    walk: Walk,
    blocks: Mapping[str, Blocks],
    *,
    gram: bool,
    batch_tokens: int = 0,
    done: Callable[[int], bool] = never,
    progress: Progress = silent,
) -> Iterator[tuple[int, BlockMoments]]:
    """Moments of the dense model, block by block; a block that is `done` is only passed through."""
    todo = batches(walk, blocks, batch_tokens=batch_tokens)
    for index in range(len(walk.blocks)):
        if done(index):
            todo = pass_on(walk, index, todo)
        else:
            moments, todo = gather(walk, index, todo, gram=gram)
            yield index, moments
        progress("calibrate", index + 1, len(walk.blocks))
