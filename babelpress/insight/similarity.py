"""Similarity of languages at every block: do two languages use the same features?

Multilingual Brain Surgeon (Zeng et al. 2024, arXiv:2404.04748) explains what pruning costs a
language by how similar it is to the calibration language. For language l let s_l be the mean
squared activation of every feature; the similarity of two languages is the cosine of s_a and s_b.

The paper's code looks at the input of block 0 only, before its norm. Here s_l is of the moments,
at the first site of every block: what its attention reads, after the norm. Means are over tokens
that count, where the paper's code adds all positions.

Shapes: L languages, I inputs of a site.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting
from babelpress.insight import Row
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, mean_by, spoken
from babelpress.models.walk import Walk
from babelpress.moments.moments import Moments

SPOKEN = "How alike languages are inside the model"
READS = ("dense", "moments")
RUNS = 0
FEW = 4  # tokens, of whatever text, that show which sites there are


def check(given: Given, *, site: str = "") -> None:
    """Raise BadSetting for a site that the first block of the model has not."""
    if not site:
        return
    walk = Walk(given.dense.model)
    names = [each.name for each in walk.sites(0, walk.start(torch.arange(FEW)[None]))]
    if site not in names:
        raise BadSetting(
            f"similarity's option site must be one of {', '.join(names)}; it is {site}."
        )


def measure(given: Given, *, site: str = "") -> list[Row]:
    """A row for every block and pair of languages, each pair in both orders.

    `site` is the name of another site, such as mlp.down_proj; by default the first of every block.
    Raises BadMoments where a block has no such site, or a language no tokens there.
    """
    rows: list[Row] = []
    for index, block in given.blocks(given.moments, "similarity"):
        names = [each.name for each in block]
        if site and site not in names:
            raise BadMoments(f"block {index} has no site {site}. It has {', '.join(names)}.")
        at, seen = next((s, m) for s, m in block.items() if site in ("", s.name))
        tags = given.languages(given.moments)
        cosine_LL = similarities(seen, tags, f"block {index}, {at.name}")
        rows += [
            {"block": index, "site": at.name, "language": one, "other": other, "value": value}
            for one, line in zip(tags, cosine_LL.tolist(), strict=True)
            for other, value in zip(tags, line, strict=True)
        ]
    return rows


def similarities(seen: Mapping[str, Moments], tags: Sequence[str], where: str) -> Tensor:
    """Cosine of the mean squares of every two languages, (L, L) in the order of `tags`.

    Raises BadMoments for a language of which no token came here.
    """
    if missing := [tag for tag in tags if tag not in seen or not seen[tag].mass]:
        raise BadMoments(
            f"no token of {', '.join(missing)} came to {where}. Name another site with "
            "--option site=NAME, or leave the language out."
        )
    # A cosine does not ask by what a vector was divided: sums do as well as means.
    unit_LI = torch.nn.functional.normalize(torch.stack([seen[tag].sumsq_I for tag in tags]), dim=1)
    return (unit_LI @ unit_LI.T).clamp(max=1.0)


def clustered(cosine_LL: Tensor) -> list[int]:
    """The languages in an order in which similar ones are neighbours.

    Leaves of average-linkage clustering of 1 − cosine, turned so that neighbours are as near as
    they can be.
    """
    if len(cosine_LL) < 3:
        return list(range(len(cosine_LL)))
    distance_LL = (1 - cosine_LL.double().numpy()).clip(min=0)
    np.fill_diagonal(distance_LL, 0.0)
    apart = squareform((distance_LL + distance_LL.T) / 2, checks=False)
    tree = hierarchy.linkage(apart, "average", optimal_ordering=True)
    return hierarchy.leaves_list(tree).tolist()


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """A heat map of languages by languages for every block, and how similarity goes with depth."""
    order = _order(rows)
    values = {(row["block"], row["language"], row["other"]): row["value"] for row in rows}
    blocks = sorted({row["block"] for row in rows})
    names = {tag: spoken(tag) for tag in order}
    points = tuple(
        Point(f"block {block}", names[other], names[one], values[block, one, other])
        for block in blocks
        for one in order
        for other in order
    )
    apart = [row for row in rows if row["language"] != row["other"]]
    found = [
        Picture(
            "languages",
            "Which languages use the same features?",
            _pairs(apart),
            points,
            across="language",
            down="language",
            value="cosine of mean squared activations",
            panel="block",
            digits=3,
        )
    ]
    return [*found, _depth(apart)] if apart else found


def _order(rows: Sequence[Row]) -> list[str]:
    """The languages clustered by their mean similarity over blocks."""
    tags = list(dict.fromkeys(row["language"] for row in rows))
    mean = mean_by(rows, "language", "other")
    cosine_LL = torch.tensor([[mean[one, other] for other in tags] for one in tags])
    return [tags[place] for place in clustered(cosine_LL)]


def _pairs(apart: Sequence[Row]) -> str:
    if not apart:
        return "There is one language, so there is nothing to compare it with."
    mean = mean_by(apart, "language", "other")
    near, far = max(mean, key=mean.__getitem__), min(mean, key=mean.__getitem__)
    return (
        f"Over all blocks {spoken(near[0])} and {spoken(near[1])} are most alike "
        f"({mean[near]:.3f}), {spoken(far[0])} and {spoken(far[1])} least ({mean[far]:.3f}); "
        "similar languages stand side by side."
    )


def _depth(apart: Sequence[Row]) -> Picture:
    mean = mean_by(apart, "block")
    least = {block: min(r["value"] for r in apart if r["block"] == block) for block in mean}
    low = min(mean, key=mean.__getitem__)
    high = max(mean, key=mean.__getitem__)
    points = [
        Point("", str(block), name, each[block])
        for name, each in (("mean of all pairs", mean), ("least similar pair", least))
        for block in sorted(mean)
    ]
    return Picture(
        "depth",
        "At which depth do languages share most?",
        f"On average languages are most alike in block {high} ({mean[high]:.3f}) and least in "
        f"block {low} ({mean[low]:.3f}).",
        tuple(points),
        across="block",
        down="pairs",
        value="cosine",
        kind="lines",
        digits=3,
    )
