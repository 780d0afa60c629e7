"""Damage of weights and of outputs: what pressing did to a linear, and to a language there.

Two signal-to-noise ratios in decibel, which are not the same (Kurz et al. 2026, TACL 14, look at
one of them; the first form is that of Kuzmin et al. 2023):

    weight_snr_db = 10·log10(Σ w² / Σ (w − w')²)             of a linear; knows no language
    output_snr_db = 10·log10(tr(W G_l Wᵀ) / tr(Δ G_l Δᵀ))    of a site in language l, Δ = W − W'

G_l is the Gram matrix of what the dense model's site saw in language l; where moments have none,
its diagonal, which takes inputs for uncorrelated (`form` says which). Both are of one site alone:
what earlier blocks did to its input is not in them. A value is null where nothing was changed.

Where tokens are weighed by the loss, so are G_l and with it the output SNR, and two more rows tell
by how much of itself the language's loss is predicted to grow by a site: `loss_curvature`, and
`loss_first_order` where the gradients were kept (`moments/damage.py`). They add up over sites.

Shapes: O outputs, I inputs of a linear.
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from babelpress.insight import Row
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, mean_by, spoken
from babelpress.models.sites import Site
from babelpress.moments.damage import foretold, site_damage, site_energy
from babelpress.moments.moments import Moments

SPOKEN = "What pressing damages, and where"
READS = ("dense", "runs", "moments")
RUNS = 1
WEIGHT, OUTPUT = "weight_snr_db", "output_snr_db"
CURVATURE, FIRST_ORDER = "loss_curvature", "loss_first_order"

Pairs = Mapping[str, tuple[Tensor, Tensor]]  # the dense and the pressed weight by linear


def measure(given: Given) -> list[Row]:
    """Rows of weight SNR by linear, and of output SNR by site and language, for every run."""
    rows: list[Row] = []
    form = "gram" if given.moments.identity["gram"] else "diagonal"
    for label in given.labels:
        blocks = given.blocks(given.moments, f"damage of {label}")
        for (index, pairs), (_, moments) in zip(given.paired(label), blocks, strict=True):
            place = {"run": label, "block": index}
            rows += [{**place, **row} for row in of_weights(pairs)]
            for site, seen in moments.items():
                rows += [{**place, **row, "form": form} for row in of_outputs(site, pairs, seen)]
    return rows


def of_weights(pairs: Pairs) -> list[Row]:
    """The weight SNR of every linear, with the share of weights that are not what they were."""
    found: list[Row] = []
    for name, (old_OI, new_OI) in pairs.items():
        lost_OI = old_OI.double() - new_OI.double()
        found.append(
            {
                "metric": WEIGHT,
                "linear": name,
                "site": None,
                "language": None,
                "value": decibel(
                    float(old_OI.double().square().sum()), float(lost_OI.square().sum())
                ),
                "changed": float((lost_OI != 0).double().mean()),
            }
        )
    return found


def of_outputs(site: Site, pairs: Pairs, seen: Mapping[str, Moments]) -> list[Row]:
    """The output SNR of a site in every language that it saw, over all of its linears.

    With what is predicted of the loss, where it weighs the tokens.
    """
    reached = {tag: moments for tag, moments in seen.items() if moments.n}
    old = {name: pairs[name][0] for name in site.linears}
    new = {name: pairs[name][1] for name in site.linears}
    lost = site_damage(old, new, reached, site_energy(old, reached)) if reached else {}
    values = [(OUTPUT, tag, decibel(e.denominator, e.numerator)) for tag, e in lost.items()]
    for tag, each in foretold([lost]).items():
        values.append((CURVATURE, tag, each.curvature))
        if each.first_order is not None:
            values.append((FIRST_ORDER, tag, each.first_order))
    return [
        {
            "metric": metric,
            "linear": None,
            "site": site.name,
            "language": tag,
            "value": value,
            "changed": None,
        }
        for metric, tag, value in values
    ]


def decibel(signal: float, noise: float) -> float | None:
    """10·log10(signal / noise); None where there is no noise, or no signal."""
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None


# ---- pictures ------------------------------------------------------------------------------


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """Output SNR by language and block, and weight SNR by linear and block, for every run."""
    outputs = [row for row in rows if row["metric"] == OUTPUT]
    weights = [row for row in rows if row["metric"] == WEIGHT]
    return [_languages(outputs), _linears(weights)]


def _languages(rows: Sequence[Row]) -> Picture:
    """Noise shares are averaged over the sites of a block, then written in decibel."""
    shares = [{**row, "share": _share(row["value"])} for row in rows]
    by_block = mean_by(shares, "run", "language", "block", value="share")
    by_language = mean_by(shares, "run", "language", value="share")
    runs = list(dict.fromkeys(row["run"] for row in rows))
    blocks = sorted({row["block"] for row in rows})
    tags = list(dict.fromkeys(row["language"] for row in rows))
    first = runs[0]
    tags.sort(key=lambda tag: -by_language.get((first, tag), 0.0))
    points = [
        Point(run, str(block), spoken(tag), decibel(1.0, by_block.get((run, tag, block), 0.0)))
        for run in runs
        for tag in tags
        for block in blocks
    ]
    form = rows[0]["form"]
    exact = "with Gram matrices" if form == "gram" else "by the diagonal of the Gram matrix"
    return Picture(
        "languages",
        "Whose activations does pressing disturb, and in which blocks?",
        _worst(runs, by_language),
        tuple(points),
        across="block",
        down="language",
        value=f"output SNR, dB ({exact})",
        panel="run",
        bad="low",
        digits=1,
        none="unchanged",
    )


def _share(value: float | None) -> float:
    """The noise as a share of the signal; nothing where nothing was changed."""
    return 0.0 if value is None else 10 ** (-value / 10)


def _worst(runs: Sequence[str], by_language: Mapping[tuple[str, str], float]) -> str:
    said = []
    for run in runs:
        own = {tag: share for (label, tag), share in by_language.items() if label == run}
        worst, best = max(own, key=own.__getitem__), min(own, key=own.__getitem__)
        if not own[worst]:
            said.append(f"{run} changes no output")
            continue
        low, high = decibel(1.0, own[worst]), decibel(1.0, own[best])
        said.append(
            f"{run} disturbs {spoken(worst)} most ({_db(low)}) and {spoken(best)} least "
            f"({_db(high)})"
        )
    return f"{'; '.join(said)}."


def _db(value: float | None) -> str:
    return "unchanged" if value is None else f"{value:.1f} dB"


def _linears(rows: Sequence[Row]) -> Picture:
    runs = list(dict.fromkeys(row["run"] for row in rows))
    names = list(dict.fromkeys(row["linear"] for row in rows))
    values = {(row["run"], row["block"], row["linear"]): row["value"] for row in rows}
    blocks = sorted({row["block"] for row in rows})
    points = [
        Point(run, str(block), name, values.get((run, block, name)))
        for run in runs
        for name in names
        for block in blocks
    ]
    known = {key: value for key, value in values.items() if value is not None}
    seen = "No weight was changed."
    if known:
        run, block, name = min(known, key=known.__getitem__)
        seen = (
            f"The weights that differ most from the dense ones are those of {name} in block "
            f"{block} of {run} ({known[run, block, name]:.1f} dB)."
        )
    return Picture(
        "linears",
        "Which weights differ most from the dense ones?",
        seen,
        tuple(points),
        across="block",
        down="linear",
        value="weight SNR, dB",
        panel="run",
        bad="low",
        digits=1,
        none="unchanged",
    )
