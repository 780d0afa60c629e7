"""Features that are large in one text and small in another: what translation wakes up.

Kim et al. 2024 (Findings of EMNLP, arXiv:2409.16911) find hidden features that are large while a
model reads translation demonstrations and small while it reads one language alone. For texts A and
B and a block,

    overlap(A, B) = 100 · |top r of A ∩ bottom r of B| / k        k = r · inputs, in per cent

where features go by their size. A is a language of the moments `--beside`, B one of `--moments`;
without `--beside` both are languages of the same moments. Two texts that know nothing of each other
overlap by 100·r per cent; the same text with itself by none, where r is a half at most.

The paper's size of a feature is the mean over demonstrations of the norm over tokens of the hidden
state; here it is the root mean square over tokens of what the first site of a block reads, which is
that state after the norm.

Shapes: I inputs of a site.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from babelpress.errors import BadMoments
from babelpress.insight import Row
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, mean_by, spoken
from babelpress.models.sites import Site
from babelpress.moments.moments import Moments

SPOKEN = "Features large in one text and small in another"
READS = ("dense", "moments", "beside")
RUNS = 0
LIMITS = {"ratio": {"gt": 0, "le": 0.5}}


def measure(given: Given, *, ratio: float = 0.1) -> list[Row]:
    """A row for every block, language of A and language of B.

    `ratio` is r. Raises BadMoments where the two folders have other blocks, or a language no
    tokens.
    """
    low = given.moments
    high = given.beside if given.beside is not None else low
    rows: list[Row] = []
    pairs = zip(given.blocks(high, "features"), given.blocks(low, "features"), strict=True)
    for (index, large), (_, small) in pairs:
        site, seen = next(iter(large.items()))
        if site not in small:
            raise BadMoments(f"block {index} of the two moments has other sites. Calibrate again.")
        rows += [
            {"block": index, "site": site.name, **row}
            for row in of_block(seen, small[site], ratio, site, index)
        ]
    return rows


def of_block(
    large: Mapping[str, Moments],
    small: Mapping[str, Moments],
    ratio: float,
    site: Site,
    index: int,
) -> list[Row]:
    """The rows of one block: `large` are the languages of A, `small` those of B."""
    for tag, moments in (*large.items(), *small.items()):
        if not moments.mass:
            raise BadMoments(f"no token of {tag} came to block {index}, {site.name}.")
    count = max(1, round(ratio * site.inputs))
    top = {tag: largest(m.sumsq_I / m.mass, count) for tag, m in large.items()}
    bottom = {tag: largest(-m.sumsq_I / m.mass, count) for tag, m in small.items()}
    return [
        {
            "language": one,
            "other": other,
            "value": 100 * len(top[one] & bottom[other]) / count,
            "chance": 100 * count / site.inputs,
        }
        for one in top
        for other in bottom
    ]


def largest(size_I: Tensor, count: int) -> set[int]:
    """The places of the largest features; of equal ones the first."""
    return set(size_I.argsort(descending=True, stable=True)[:count].tolist())


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """Overlap of languages by languages for every block, and its mean by depth."""
    names = {row[key]: spoken(row[key]) for row in rows for key in ("language", "other")}
    chance = rows[0]["chance"]
    points = [
        Point(f"block {row['block']}", names[row["other"]], names[row["language"]], row["value"])
        for row in rows
    ]
    most = max(rows, key=lambda row: row["value"])
    mean = mean_by(rows, "block")
    high = max(mean, key=mean.__getitem__)
    depth = [Point("", str(block), "mean of all pairs", value) for block, value in mean.items()]
    depth += [Point("", str(block), "by chance", chance) for block in mean]
    return [
        Picture(
            "languages",
            "Which features are large in one text and small in another?",
            f"The largest overlap is {most['value']:.1f} %, in block {most['block']}, of what is "
            f"large in {names[most['language']]} and small in {names[most['other']]}; chance would "
            f"give {chance:.1f} %.",
            tuple(points),
            across="small in",
            down="large in",
            value="overlap, %",
            panel="block",
            first=f"block {most['block']}",
            digits=1,
        ),
        Picture(
            "depth",
            "At which depth do the texts use other features?",
            f"On average the overlap is largest in block {high} ({mean[high]:.1f} %).",
            tuple(depth),
            across="block",
            down="overlap",
            value="overlap, %",
            kind="lines",
            digits=1,
        ),
    ]
