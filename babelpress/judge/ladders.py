"""Runs that differ in how much was pressed alone: a ladder of sparsities, or of bits.

What two runs differ in is told from the recipes of their whole chains, place by place. A ladder has
all places in common but one: a pattern of one form (`0.3`, `0.5`, … or `1of4`, `2of4`), a sparsity,
or bits. A run may stand on several: of a grid of sparsities by bits on one of each.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress.errors import BadSetting
from babelpress.judge.evidence import AT_CHANCE
from babelpress.numerics import notation
from babelpress.runs import manifest

SPARSITY, BITS = "sparsity", "bits"
# By the last part of a place.
AXES = {"pattern": SPARSITY, "gradual": SPARSITY, "sparsity": SPARSITY, "bits": BITS}
WHERE = ("moments",)  # where something lies is no difference of what was done
FORMS = {notation.ROW: "", notation.LAYER: "of a layer"}  # of patterns, where not plain
PLAIN = ("method", "mixture", "model", "task")  # their values say enough without their names


@dataclass(frozen=True, slots=True)
class Rung:
    """A run, by its place among those given, and its sparsity or bits."""

    run: int
    value: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """Two or more runs from the least pressed on; `label` tells it from the others."""

    label: str
    axis: str
    rungs: tuple[Rung, ...]

    @property
    def most(self) -> str:
        """What a collapse point is on it."""
        return "the fewest bits" if self.axis == BITS else "the largest sparsity"

    def value(self, holds: int) -> float | None:
        """The sparsity or bits up to which so many rungs hold; None where none does."""
        return self.rungs[holds - 1].value if holds else None

    def at(self, holds: int) -> str:
        """The rung up to which so many hold, at least one, as it is spoken of."""
        value = self.rungs[holds - 1].value
        return f"{value:g} bits" if self.axis == BITS else f"sparsity {value:g}"

    def said(self, holds: int) -> str:
        """The same in words; where none holds, or all do, nothing beyond was measured."""
        beyond, before = ("\u2264", ">") if self.axis == BITS else ("\u2265", "<")
        if not holds:
            return f"{before} {self.rungs[0].value:g}"
        last = holds == len(self.rungs)
        return f"{beyond} {self.rungs[-1].value:g}" if last else f"{self.value(holds):g}"

    def between(self, low: int, high: int) -> str:
        """The ends of an interval of such counts."""
        return self.said(low) if low == high else f"{self.said(low)} to {self.said(high)}"

    def note(self, beyond: Sequence[int], *, at_chance: bool) -> str:
        """What is to be known of a collapse point besides where it is; mostly nothing."""
        if at_chance:
            return AT_CHANCE
        again = ", ".join(f"{self.rungs[k].value:g}" for k in beyond)
        return f"holds again at {again}" if again else ""


def find(runs: Sequence[Path]) -> list[Ladder]:
    """The ladders of some runs in their order; a run without a manifest is on none."""
    found = [manifest.read_if_there(run) for run in runs]
    return of([each.recipes if each else () for each in found])


def of(chains: Sequence[Sequence[Mapping[str, Any]]]) -> list[Ladder]:
    """The same of the recipes of whole chains, the first one first; an empty chain is on none."""
    flat = [dict(whole(chain)) for chain in chains]
    grouped: dict[tuple[str, str, str], dict[float, int]] = {}
    for run, places in enumerate(flat):
        for place, value in places.items():
            if (step := _step(place, value)) is None:
                continue
            form, at = step
            others = json.dumps({k: v for k, v in places.items() if k != place}, sort_keys=True)
            grouped.setdefault((place, form, others), {}).setdefault(at, run)
    found = [(*key[:2], rungs) for key, rungs in grouped.items() if len(rungs) > 1]
    labels = _labels([(place, form, flat[min(each.values())]) for place, form, each in found])
    return [
        _ladder(AXES[place.rpartition(".")[2]], label, rungs)
        for (place, _, rungs), label in zip(found, labels, strict=True)
    ]


def leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a recipe by its place: `steps.1.prune.method`."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from leaves(f"{place}.{key}", each)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value, 1):
            yield from leaves(f"{place}.{number}", each)
    else:
        yield place, value


def whole(chain: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values of a chain; where a later recipe begins is what the one before it made."""
    for number, recipe in enumerate(chain):
        own = {key: value for key, value in recipe.items() if key != "model" or not number}
        for place, value in leaves(str(number), own):
            if place.rpartition(".")[2] not in WHERE:
                yield place, value


def _step(place: str, value: Any) -> tuple[str, float] | None:
    """The form and the sparsity or bits of a value; None where a place says nothing of these."""
    name = place.rpartition(".")[2]
    if name not in AXES or value is None:
        return None
    if name == "gradual":  # while a model is fine-tuned, from one share of zeros to another
        first, dots, last = str(value).partition("..")
        return (f"gradual from {first}", float(last)) if dots else None
    if name != "pattern":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return ("", float(value)) if number else None
    try:
        first, second = notation.pattern(str(value))
    except BadSetting:
        return None  # what another version writes
    if isinstance(first, int) and isinstance(second, int):
        return f"n of {second}", 1 - first / second
    form = f"of every {second} columns" if isinstance(second, int) else second
    return form, float(first)


def _ladder(axis: str, label: str, rungs: Mapping[float, int]) -> Ladder:
    order = sorted(rungs, reverse=axis == BITS)
    return Ladder(label, axis, tuple(Rung(rungs[value], value) for value in order))


def _labels(found: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """The method of each, the form of its patterns, and whatever tells it from others like it."""
    labels = []
    for place, form, own in found:
        alike = [places for at, _, places in found if at == place]
        differ = [p for p in own if p != place and any(e.get(p) != own.get(p) for e in alike)]
        step, _, _ = place.rpartition(".")
        method = f"{step}.method"
        first = str(own.get(method) or step.rpartition(".")[2])
        rest = [word(p, own.get(p), plain=PLAIN) for p in differ if p != method]
        labels.append(", ".join(filter(None, (first, FORMS.get(form, form), *rest))))
    twice = len(set(labels)) < len(labels)
    numbered = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return numbered if twice else labels


def word(place: str, value: Any, *, plain: Sequence[str] = ()) -> str:
    """A value with the last part of its place, or alone where that is `plain`: `seed 0`."""
    shown = " ".join(map(str, value)) if isinstance(value, list) else value
    name = place.rpartition(".")[2]
    if value in (None, "", [], ()):
        return f"no {name.replace('_', ' ')}"
    return str(shown) if name in plain else f"{name.replace('_', ' ')} {shown}"
