"""Language-specific neurons (LAPE), dense and pressed: which stay, which appear.

Language activation probability entropy (Tang et al. 2024, ACL, arXiv:2402.16438, and its code):
for every neuron and language p = P(activation > 0); p over the languages is normalised to a
distribution, and its entropy (in nats) is low where the neuron fires for few languages. Neurons
whose p is above the 95th percentile of all p in no language are left out; of all neurons the 1 %
with the lowest entropy are language-specific, each for the languages in which its p is above that
bar. Kurz et al. 2026 (TACL 14) find that pruning moves these numbers and makes neurons specific
that were not.

The dense model's neurons are written to `protect.yaml`, as `prune --protect` reads them.

Shapes: W neurons of a block, L languages, N neurons of all blocks.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from babelpress.errors import BadModel
from babelpress.insight import Row
from babelpress.insight._activations import firing
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, spoken

SPOKEN = "Neurons that fire for few languages"
READS = ("dense", "runs", "text")
RUNS = 0
LANGUAGES = 2
LIMITS = {"rate": {"gt": 0, "le": 1}, "bar": {"gt": 0, "lt": 1}}
DENSE = "dense model"  # no folder of a run is called so
PROTECT = "protect.yaml"


class Neuron(NamedTuple):
    """A language-specific neuron, its entropy in nats and its languages by their place."""

    block: int
    neuron: int
    entropy: float
    languages: tuple[int, ...]


def measure(given: Given, *, rate: float = 0.01, bar: float = 0.95) -> list[Row]:
    """Rows of neurons (`kind` neuron) and of the mean entropy of every block (`kind` block).

    `rate` is the share of neurons that are language-specific, `bar` the percentile of p. Raises
    BadModel for a run with other neurons than the dense model.
    """
    tags = list(given.text)
    rows: list[Row] = []
    dense: list[Tensor] = []
    for label in (DENSE, *given.labels):
        opened = given.dense if label == DENSE else given.run(label)
        p = firing(opened, given.text, f"neurons of {label}", given.progress)
        dense = dense or p
        if [each.shape for each in p] != [each.shape for each in dense]:
            raise BadModel(f"{label} has other neurons than {given.name}. Name runs of its shape.")
        rows += [_row(label, tags, neuron) for neuron in lape(p, rate=rate, bar=bar)]
        rows += [
            {"kind": "block", "model": label, "block": index, "value": _mean(entropy_W)}
            for index, entropy_W in enumerate(map(entropies, p))
        ]
    return rows


def _row(label: str, tags: Sequence[str], found: Neuron) -> Row:
    return {
        "kind": "neuron",
        "model": label,
        "block": found.block,
        "neuron": found.neuron,
        "value": found.entropy,
        "languages": [tags[place] for place in found.languages],
    }


def entropies(p_WL: Tensor) -> Tensor:
    """Entropy over languages of every neuron, (W,), in nats; NaN for one that never fires."""
    share_WL = p_WL / p_WL.sum(1, keepdim=True)
    return -torch.special.xlogy(share_WL, share_WL).sum(1)


def _mean(entropy_W: Tensor) -> float | None:
    fires_W = entropy_W[~entropy_W.isnan()]
    return float(fires_W.mean()) if len(fires_W) else None


def lape(p: Sequence[Tensor], *, rate: float = 0.01, bar: float = 0.95) -> list[Neuron]:
    """The language-specific neurons among blocks of p (W, L), by block and place."""
    every_NL = torch.cat(list(p))
    flat = every_NL.flatten()
    highest = flat.kthvalue(max(1, round(len(flat) * bar))).values
    above_NL = every_NL > highest
    entropy_N = entropies(every_NL).where(above_NL.any(1), torch.inf)
    chosen = entropy_N.argsort(stable=True)[: round(len(entropy_N) * rate)]
    places = [(block, neuron) for block, each in enumerate(p) for neuron in range(len(each))]

    def neuron_at(n: int) -> Neuron:
        block, neuron = places[n]
        languages = tuple(above_NL[n].nonzero()[:, 0].tolist())
        return Neuron(block, neuron, float(entropy_N[n]), languages)

    return sorted(neuron_at(n) for n in chosen.tolist() if entropy_N[n].isfinite())


def files(rows: Sequence[Row]) -> dict[str, str]:
    """The dense model's neurons as YAML, by block."""
    lines = ["neurons:"]
    found: dict[int, list[int]] = {}
    for row in _neurons(rows, DENSE):
        found.setdefault(row["block"], []).append(row["neuron"])
    lines += [f"  {block}: [{', '.join(map(str, ids))}]" for block, ids in found.items()]
    return {PROTECT: "\n".join(lines if found else ["neurons: {}"]) + "\n"}


def _neurons(rows: Sequence[Row], model: str) -> Iterator[Row]:
    return (row for row in rows if row["kind"] == "neuron" and row["model"] == model)


# ---- pictures ------------------------------------------------------------------------------


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """Neurons by language and block, what became of them in each run, and entropy by depth."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    tags = _by_number(rows)
    found = [_where(rows, models, tags)]
    if len(models) > 1:
        found.append(_fates(rows, models[1:], tags))
    return [*found, _depth(rows, models)]


def _by_number(rows: Sequence[Row]) -> list[str]:
    """The languages that have neurons, those with most in the dense model first."""
    counts = Counter(tag for row in _neurons(rows, DENSE) for tag in row["languages"])
    there = dict.fromkeys(tag for row in rows for tag in row.get("languages", ()))
    return sorted(there, key=lambda tag: (-counts[tag], tag))


def _where(rows: Sequence[Row], models: Sequence[str], tags: Sequence[str]) -> Picture:
    blocks = sorted({row["block"] for row in rows})
    counts = Counter(
        (row["model"], row["block"], tag) for row in rows for tag in row.get("languages", ())
    )
    points = [
        Point(model, str(block), spoken(tag), counts[model, block, tag])
        for model in models
        for tag in tags
        for block in blocks
    ]
    own = list(_neurons(rows, DENSE))
    seen = "No neuron of the dense model is language-specific."
    if own:
        most = Counter(tag for row in own for tag in row["languages"]).most_common(1)[0]
        deep = Counter(row["block"] for row in own).most_common(1)[0]
        seen = (
            f"The dense model has {len(own)} such neurons; most are of {spoken(most[0])} "
            f"({most[1]}) and in block {deep[0]} ({deep[1]})."
        )
    return Picture(
        "where",
        "Which languages have neurons of their own, and in which blocks?",
        seen,
        tuple(points),
        across="block",
        down="language",
        value="language-specific neurons",
        panel="model",
        digits=0,
    )


def _fates(rows: Sequence[Row], runs: Sequence[str], tags: Sequence[str]) -> Picture:
    """A neuron stays for a language where it is specific to that language in both models."""
    of = {
        model: {
            (row["block"], row["neuron"], tag)
            for row in _neurons(rows, model)
            for tag in row["languages"]
        }
        for model in (DENSE, *runs)
    }
    points: list[Point] = []
    said: list[str] = []
    for run in runs:
        fates = {
            "dense model": of[DENSE],
            "stayed": of[DENSE] & of[run],
            "no longer": of[DENSE] - of[run],
            "appeared": of[run] - of[DENSE],
        }
        counts = {title: Counter(tag for _, _, tag in each) for title, each in fates.items()}
        points += [
            Point(run, title, spoken(tag), counts[title][tag]) for tag in tags for title in fates
        ]
        before, now = ({n[:2] for n in of[model]} for model in (DENSE, run))
        said.append(
            f"{run} keeps {len(before & now)} of the {len(before)} such neurons and adds "
            f"{len(now - before)}"
        )
    return Picture(
        "fates",
        "Which of them stay, and which appear with pressing?",
        f"{'; '.join(said)}.",
        tuple(points),
        across="what became of them",
        down="language",
        value="language-specific neurons",
        panel="run",
        digits=0,
    )


def _depth(rows: Sequence[Row], models: Sequence[str]) -> Picture:
    means = {(row["model"], row["block"]): row["value"] for row in rows if row["kind"] == "block"}
    points = [Point("", str(block), model, value) for (model, block), value in means.items()]
    known = {block: value for (m, block), value in means.items() if m == DENSE and value}
    seen = "No neuron of the dense model fires."
    if known:
        low = min(known, key=known.__getitem__)
        moved = [_moved(means, model) for model in models[1:]]
        seen = (
            f"In the dense model neurons tell languages apart most in block {low} "
            f"({known[low]:.3f} nats){''.join(moved)}."
        )
    return Picture(
        "entropy",
        "How far do neurons tell languages apart, and does pressing change that?",
        seen,
        tuple(points),
        across="block",
        down="model",
        value="mean entropy over languages, nats",
        kind="lines",
        digits=3,
    )


def _moved(means: dict[tuple[str, int], float | None], model: str) -> str:
    """How far the mean entropy of a run is from the dense model's."""
    pairs = [(means[DENSE, block], v) for (m, block), v in means.items() if m == model]
    known = [b - a for a, b in pairs if a is not None and b is not None]
    change = sum(known) / len(known) if known else 0.0
    number = f"{change:+.3f}".replace("-", "\u2212")
    by = f"by {number}" if round(change, 3) else "by less than 0.001"
    return f"; {model} moves the mean {by}"
