"""What pressing does to every language: damage of a site, of a layer, and the mean over layers.

e_l is the mean over layers of the share of its output that language l loses. A layer is a site, or
one stacked parameter of a block's experts: they are many sites, but one output.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from babelpress.errors import BadMoments
from babelpress.moments.moments import Moments
from babelpress.numerics.products import dots


class Damage(NamedTuple):
    """tr(ΔGΔᵀ) and tr(WGWᵀ): what new weights lose of a linear's output, and all there was."""

    numerator: float
    denominator: float


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
    """Damage to each language; `energy` is that of the old weights, as `site_energy` finds it."""
    lost = dict.fromkeys(moments, 0.0)
    for name, old_OI in old.items():
        lost_OI = old_OI.detach().float() - new[name].detach().float()
        for language, part in energies(lost_OI, moments).items():
            lost[language] += part
    return {language: Damage(lost[language], energy[language]) for language in moments}


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


def _sum(parts: Iterable[Damage]) -> Damage:
    each = list(parts)
    return Damage(sum(p.numerator for p in each), sum(p.denominator for p in each))


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
