"""More tables of the report: where bytes are, who leaves the calibration range, what steps tell.

They are there only for runs that have them: a ledger in the manifest, scores of `eval --on range`,
steps with tables of their own.

Tested in tests/report/test_report.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelpress.report import data, scale
from babelpress.report.data import Pressed, Tongue
from babelpress.report.told import on_size
from babelpress.steps._kind import Listing

SITES = 5  # worst sites shown of each model
FIRST, LAST = scale.MIDDLE, scale.CLASSES - 1  # the classes of a share, from hardly any to most


@dataclass(frozen=True, slots=True)
class Part:
    """A line of a ledger; `share` is of all that is stored."""

    name: str
    parameters: int
    dense: int
    stored: int
    share: float
    bits: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the bytes of some models are: those of one grid have the same ledger."""

    labels: tuple[str, ...]
    parts: tuple[Part, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A share beyond the range and its colour class; None where it was not measured."""

    share: float | None
    shade: int


@dataclass(frozen=True, slots=True)
class Site:
    """A site of one model, its worst language and the share of that, and the mean of all."""

    label: str
    name: str
    language: str
    share: float
    mean: float


@dataclass(frozen=True, slots=True)
class Beyond:
    """Shares of activations beyond the calibration range; `limits` are between colour classes."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Tongue, tuple[Cell, ...]], ...]
    limits: tuple[float, ...]
    sites: tuple[Site, ...]


def ledgers(pressed: tuple[Pressed, ...]) -> list[Ledger]:
    """Every ledger once, with the models that have it."""
    found: list[tuple[Mapping[str, Any], list[str]]] = []
    for model, label in zip(pressed, data.labels(pressed), strict=True):
        if model.ledger:
            same = [labels for each, labels in found if _parts(each) == _parts(model.ledger)]
            same[0].append(label) if same else found.append((model.ledger, [label]))
    return [_ledger(each, labels) for each, labels in found]


def _parts(found: Mapping[str, Any]) -> tuple[Any, Any]:
    """What tells ledgers apart: what zeros come to, or compressed, is of every model its own."""
    return found["parts"], found["bytes_stored"]


def _ledger(found: Mapping[str, Any], labels: Sequence[str]) -> Ledger:
    whole = {**found, "part": "whole", "bits": found["bits_per_weight"]}
    parts = [
        Part(
            row["part"],
            row["parameters"],
            row["bytes_dense"],
            row["bytes_stored"],
            row["bytes_stored"] / found["bytes_stored"],
            row["bits"],
        )
        for row in (*found["parts"], whole)
    ]
    return Ledger(tuple(labels), tuple(parts), on_size(found))


def listings(pressed: tuple[Pressed, ...]) -> list[tuple[tuple[str, ...], Listing]]:
    """Every table that steps tell, once, with the models that have it."""
    found: dict[Listing, list[str]] = {}
    for model, label in zip(pressed, data.labels(pressed), strict=True):
        for each in model.listings:
            found.setdefault(each, []).append(label)
    return [(tuple(labels), each) for each, labels in found.items()]


def beyond(pressed: tuple[Pressed, ...]) -> Beyond | None:
    """Shares by language and model, the worst language first; None where no model has any."""
    scored = [(m, t) for m, t in zip(pressed, data.labels(pressed), strict=True) if m.beyond]
    if not scored:
        return None
    worst = {
        tag: max(model.beyond.get(tag, 0.0) for model, _ in scored)
        for model, _ in scored
        for tag in model.beyond
    }
    limits = _limits(max(worst.values()))
    rows = tuple(
        (data.tongue(tag), tuple(_cell(model.beyond.get(tag), limits) for model, _ in scored))
        for tag in sorted(worst, key=lambda tag: (-worst[tag], tag))
    )
    sites = tuple(site for model, label in scored for site in _sites(model, label))
    return Beyond(tuple(label for _, label in scored), rows, limits, sites)


def _limits(largest: float) -> tuple[float, ...]:
    """Each is half of the next: shares of languages are rarely of one size."""
    return tuple(largest / 2**power for power in range(LAST - FIRST, 0, -1))


def _cell(share: float | None, limits: tuple[float, ...]) -> Cell:
    if not share:
        return Cell(share, FIRST)
    return Cell(share, FIRST + sum(share >= limit for limit in limits))


def _sites(model: Pressed, label: str) -> list[Site]:
    """The sites of a model where a language is furthest out of range."""
    names = {name for by_site in model.sites.values() for name in by_site}
    found = []
    for name in sorted(names):
        shares = {tag: each[name] for tag, each in model.sites.items() if name in each}
        worst = max(sorted(shares), key=shares.__getitem__)
        mean = sum(shares.values()) / len(shares)
        found.append(Site(label, name, data.tongue(worst).name, shares[worst], mean))
    return sorted(found, key=lambda site: -site.share)[:SITES]


def part_text(share: float) -> str:
    """A share in per cent: three digits, never an exponent, and 0 only for nothing at all."""
    if 0 < share < 5e-6:
        return "< 0.001\u202f%"
    decimals = 1 if share == 0 or share >= 0.1 else 2 if share >= 0.01 else 3
    return f"{100 * share:.{decimals}f}\u202f%"
