"""What pressing does to every language: damage of a site, of a layer, and the mean over layers.

e_l is the mean over layers of the share of its output that language l loses. A layer is a site, or
one stacked parameter of a block's experts: they are many sites, but one output.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

from torch import Tensor

from babelpress.moments import Damage, Moments, energies


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
