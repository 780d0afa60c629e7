"""What pressing does to every language: damage of a site, of a layer, and the mean over layers.

e_l is the mean over layers of the share of its output that language l loses. A layer is a site, or
one stacked parameter of a block's experts: they are many sites, but one output.

Where tokens are weighed by the loss (`weigh.py`), G has s_t before every x_t x_tᵀ, and beside it
the change of the loss itself is predicted, of new weights W + D:

    first order   Σ_sites ⟨Σ_t g_t x_tᵀ, D⟩          g_t = ∂L/∂z_t, where the gradients were kept
    curvature     Σ_sites ½ Σ_t s_t |D x_t|² = ½ tr(D G Dᵀ)

The first sum is over all positions but padding, the second over the tokens that count, for which
there is a Gram matrix.

Both are in nats, and are told as shares of the language's loss on the same text. Squared gradients
stand for the curvature, as mean squares of a site's outputs, which bends that of its single
linears, and what one site does to the input of another is not in them. Prediction by both is after
Optimal Brain Damage (LeCun et al. 1989), whose first-order term is zero where all text together was
learnt, but not for one language.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from babelpress.errors import BadMoments
from babelpress.moments.moments import Moments
from babelpress.numerics.products import dots


class Damage(NamedTuple):
    """tr(ΔGΔᵀ) and tr(WGWᵀ): what new weights lose of a linear's output, and all there was.

    Where tokens are weighed by the loss, `nats` is the language's loss, and `first` by how many
    nats it changes to first order, where the gradients were kept.
    """

    numerator: float
    denominator: float
    first: float | None = None
    nats: float | None = None


class Foretold(NamedTuple):
    """By how much of itself a language's loss is predicted to grow.

    `first_order` is None where gradients by the weights were not kept.
    """

    curvature: float
    first_order: float | None

    @property
    def best(self) -> float:
        """Both terms together, or the one that there is."""
        return self.curvature + (self.first_order or 0.0)


def site_energy(weights: Mapping[str, Tensor], moments: Mapping[str, Moments]) -> dict[str, float]:
    """All there is of a site's outputs in each language, summed over its linears."""
    parts = [energies(weight_OI, moments) for weight_OI in weights.values()]
    return {language: sum(part[language] for part in parts) for language in moments}


def site_damage(
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    moments: Mapping[str, Moments],
    energy: Mapping[str, float],
) -> dict[str, Damage]:
    """Damage to each language; `energy` is that of the old weights, as `site_energy` finds it.

    Weights are of all linears of the site, in its order.
    """
    damaged = unhurt(moments, energy)
    start = 0
    for name, old_OI in old.items():
        lost_OI = old_OI.detach().float() - new[name].detach().float()
        rows = slice(start, start + len(old_OI))
        start = rows.stop
        for language, part in energies(lost_OI, moments).items():
            was = damaged[language]
            first = _fallen(was.first, moments[language], rows, lost_OI)
            damaged[language] = was._replace(numerator=was.numerator + part, first=first)
    return damaged


def unhurt(moments: Mapping[str, Moments], energy: Mapping[str, float]) -> dict[str, Damage]:
    """The damage of weights that are as they were."""
    found: dict[str, Damage] = {}
    for language, each in moments.items():
        of_loss = each.of_loss
        sloped = of_loss is not None and of_loss.slope_OI is not None
        nats = None if of_loss is None else of_loss.nats
        found[language] = Damage(0.0, energy[language], 0.0 if sloped else None, nats)
    return found


def _fallen(before: float | None, moments: Moments, rows: slice, lost_OI: Tensor) -> float | None:
    """The first-order change of the loss, with that of a linear whose weights lose so much."""
    slope_OI = None if moments.of_loss is None else moments.of_loss.slope_OI
    if before is None or slope_OI is None:
        return None
    gradient_OI = slope_OI[rows].to(lost_OI.device)
    return before - float((gradient_OI * lost_OI).sum(dtype=torch.float64))


def by_layer(sites: Iterable[tuple[Hashable, Mapping[str, Damage]]]) -> list[dict[str, Damage]]:
    """Damage summed over the sites that have one key, the layer that they are of."""
    found: dict[Hashable, dict[str, list[Damage]]] = {}
    for layer, damage in sites:
        parts = found.setdefault(layer, {})
        for language, each in damage.items():
            parts.setdefault(language, []).append(each)
    return [{tag: _sum(each) for tag, each in parts.items()} for parts in found.values()]


def mean_damage(layers: Sequence[Mapping[str, Damage]]) -> dict[str, float]:
    """e_l; a layer that no token of a language reached does not count for it."""
    found: dict[str, list[float]] = {}
    for layer in layers:
        for language, each in layer.items():
            share = each.numerator / max(each.denominator, 1e-30)
            found.setdefault(language, []).append(share)
    return {language: math.fsum(shares) / len(shares) for language, shares in found.items()}


def foretold(sites: Iterable[Mapping[str, Damage]]) -> dict[str, Foretold]:
    """How the loss of every language is predicted to grow, by the damage of all sites or layers.

    Nothing where tokens count evenly: then the loss is not known. A site that no token of a
    language reached changes nothing for it.
    """
    found: dict[str, list[Damage]] = {}
    for site in sites:
        for language, each in site.items():
            found.setdefault(language, []).append(each)
    together = {language: _sum(each) for language, each in found.items()}
    return {
        language: Foretold(
            each.numerator / 2 / each.nats,
            None if each.first is None else each.first / each.nats,
        )
        for language, each in together.items()
        if each.nats
    }


def _sum(parts: Iterable[Damage]) -> Damage:
    each = list(parts)
    firsts = [p.first for p in each if p.first is not None]
    return Damage(
        sum(p.numerator for p in each),
        sum(p.denominator for p in each),
        math.fsum(firsts) if len(firsts) == len(each) else None,
        each[0].nats,
    )


def damage(weight_OI: Tensor, pressed_OI: Tensor, moments: Moments) -> Damage:
    """What replacing a weight does to one language; without a Gram matrix, by its diagonal."""
    return damages(weight_OI, pressed_OI, {"": moments})[""]


def damages(
    weight_OI: Tensor, pressed_OI: Tensor, moments: Mapping[str, Moments]
) -> dict[str, Damage]:
    """`damage` for many languages."""
    lost = energies(weight_OI.detach().float() - pressed_OI.detach().float(), moments)
    kept = energies(weight_OI, moments)
    return {tag: Damage(lost[tag], kept[tag]) for tag in moments}


def energies(weight_OI: Tensor, moments: Mapping[str, Moments]) -> dict[str, float]:
    """tr(WGWᵀ) for many languages: Σ (WᵀW)∘G, and WᵀW is the same for all of them.

    Without Gram matrices by their diagonals. Weights of bfloat16 set the precision of products of
    the whole process meanwhile; those of float32 leave it alone.
    """
    if all(m.gram is None for m in moments.values()):
        size_I = weight_OI.detach().float().square().sum(0).double()
        # No product of vectors, which may round by how moments from a file are aligned.
        return {language: float((size_I * m.sumsq_I).sum()) for language, m in moments.items()}
    found = dots(weight_OI.detach(), [_gram_of(m) for m in moments.values()])
    return dict(zip(moments, found, strict=True))


def _gram_of(moments: Moments) -> Tensor:
    if moments.gram is None:
        raise BadMoments("some languages have a Gram matrix and some have none. Calibrate again.")
    return moments.gram
