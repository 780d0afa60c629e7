"""Coverage of the calibration range: where a language's activations lie beyond what was seen.

What the evaluation `range` kept of a run (`babelpress eval RUN --on range`; Chimoto et al. 2026,
arXiv:2601.18306), by block: the share of activations of the test text that are larger than any that
calibration saw at that input. Nothing is measured again.
"""

from collections.abc import Sequence

from babelpress.insight import Row
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, mean_by, spoken

SPOKEN = "Who leaves the calibration range, and where"
READS = ("scores",)
RUNS = 1


def measure(given: Given) -> list[Row]:
    """A row for every run, language and site. Raises BadRun where a run has no such scores."""
    rows: list[Row] = []
    for label in given.labels:
        for tag, shares in given.beyond(label).items():
            for name, share in shares.items():
                block, _, site = name.partition(".")
                place = {"run": label, "language": tag, "block": int(block), "site": site}
                rows.append({**place, "value": share})
    return rows


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """Shares by language and block, and by site and block, for every run."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    whole = mean_by(rows, "run", "language")
    first = {tag: share for (run, tag), share in whole.items() if run == runs[0]}
    tags = sorted({row["language"] for row in rows}, key=lambda tag: (-first.get(tag, 0.0), tag))
    sites = list(dict.fromkeys(row["site"] for row in rows))
    said = []
    for run in runs:
        own = {tag: share for (label, tag), share in whole.items() if label == run}
        worst = max(own, key=own.__getitem__)
        said.append(f"in {run} {spoken(worst)} leaves it most ({100 * own[worst]:.3f} %)")
    far = max(rows, key=lambda row: row["value"])
    return [
        _heat(
            rows,
            runs,
            "language",
            {tag: spoken(tag) for tag in tags},
            "Which languages leave the range that calibration saw, and in which blocks?",
            f"On average over sites, {'; '.join(said)}.",
        ),
        _heat(
            rows,
            runs,
            "site",
            {site: site for site in sites},
            "At which sites do activations leave the range?",
            f"The furthest out is {spoken(far['language'])} at {far['site']} of block "
            f"{far['block']} in {far['run']} ({100 * far['value']:.3f} %).",
        ),
    ]


def _heat(
    rows: Sequence[Row],
    runs: Sequence[str],
    down: str,
    names: dict[str, str],
    question: str,
    seen: str,
) -> Picture:
    mean = mean_by(rows, "run", down, "block")
    blocks = sorted({row["block"] for row in rows})
    points = [
        Point(run, str(block), name, _percent(mean.get((run, key, block))))
        for run in runs
        for key, name in names.items()
        for block in blocks
    ]
    return Picture(
        f"{down}s",
        question,
        seen,
        tuple(points),
        across="block",
        down=down,
        value="share beyond the calibration range, %",
        panel="run",
        bad="high",
        digits=3,
        none="not measured",
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
