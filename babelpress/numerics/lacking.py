"""Shares that follow what each part lacks, no further from given ones than a radius.

After DRPruning (Deng et al. 2024, arXiv:2411.14055), which follows Oren et al. 2019
(arXiv:1909.02060): of all shares q near p, those under which what is lacking is largest,

    q_i = f·p_i + (1 − f)·p_i·max(0, l_i − η) / Σ_j p_j·max(0, l_j − η)
    η such that ½·Σ_i p_i·(q_i/p_i − 1)² = ρ

where l_i is what part i lacks, f the share of p that stays whatever is lacking (FLOOR), ρ the
radius. Different from the code of the paper: the floor is a part of q, so that the radius is that
of the shares that are drawn.
"""

from collections.abc import Mapping

import numpy as np

FLOOR = 0.2  # of a part's share stays: what lacks nothing now may lack it later
RADIUS = 0.1
HALVINGS = 200


def shares_by_lack(
    base: Mapping[str, float], lacks: Mapping[str, float], radius: float = RADIUS
) -> dict[str, float]:
    """q for shares `base` that sum to one, and what each part lacks in any unit, also below zero.

    Where no η reaches the radius, all but the floor goes to the parts that lack most; where all
    lack the same the shares are those of `base`.
    """
    p = np.array([base[tag] for tag in base])
    lack = np.array([lacks[tag] for tag in base])
    counts = lack[p > 0]
    highest, span = counts.max(), counts.max() - counts.min()
    if span <= 0 or radius <= 0:
        return dict(base)
    low, high = counts.min() - span, highest
    while _distance(p, _weighed(p, lack, low)) > radius:
        low = highest - 2 * (highest - low)
    if _distance(p, _weighed(p, lack, high)) > radius:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if _distance(p, _weighed(p, lack, middle)) > radius:
                high = middle
            else:
                low = middle
    else:
        low = high
    return dict(zip(base, _weighed(p, lack, low).tolist(), strict=True))


def _weighed(p: np.ndarray, lack: np.ndarray, eta: float) -> np.ndarray:
    """q at an η; at the highest lack or beyond it its limit, the parts that lack most."""
    over = p * np.maximum(0.0, lack - eta)
    if not over.sum() > 0:
        over = p * (lack == lack[p > 0].max())
    return FLOOR * p + (1 - FLOOR) * over / over.sum()


def _distance(p: np.ndarray, q: np.ndarray) -> float:
    there = p > 0
    return float(0.5 * (p[there] * (q[there] / p[there] - 1) ** 2).sum())
