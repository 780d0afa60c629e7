"""What reached every expert: tokens by language, and whether they are enough to press it.

A router sends an expert some tokens of a language, or none. A mixture's shares count among the
languages that reached the expert; those that did not are named. An expert that saw too few tokens
stays as it is, and is named too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelpress.models.experts import Slice
from babelpress.models.linears import Linear
from babelpress.models.sites import Site
from babelpress.moments.blend import Blend, blend
from babelpress.moments.moments import Moments


@dataclass(frozen=True, slots=True)
class Load:
    """What a linear of one expert was calibrated with.

    `experts` and `parameter` name the stack, `tokens` are of every language of the calibration,
    `missing` are languages with a share and no token; `left` is True where too few came in all.
    """

    experts: str
    expert: int
    parameter: str
    tokens: dict[str, int]
    missing: tuple[str, ...]
    left: bool

    @property
    def name(self) -> str:
        """The expert, inside its block."""
        return f"{self.experts}.{self.expert}"


def blended(
    site: Site,
    linear: Linear,
    seen: Mapping[str, Moments],
    shares: Mapping[str, float],
    *,
    languages: Sequence[str],
    enough: Callable[[Site, int], bool],
    where: str,
    apart: bool = False,
) -> tuple[Blend | None, Load | None]:
    """The means of a site, and the load of an expert; no means where it saw too few tokens.

    With `apart` the means hold every language's own too (`blend`).
    Raises BadMoments where another site lacks a language that has a share.
    """
    if not isinstance(linear, Slice):
        return blend(seen, shares, where, apart=apart), None
    tokens = {tag: seen[tag].n if tag in seen else 0 for tag in languages}
    wanted = [tag for tag, share in shares.items() if share > 0]
    # A token that the loss does not hear of counts nothing, so that there are no means of it.
    reached = {tag: shares[tag] for tag in wanted if tag in seen and seen[tag].mass}
    left = not reached or not enough(site, sum(tokens[tag] for tag in reached))
    path = site.name.removesuffix(f".{linear.expert}.{linear.parameter}")
    missing = tuple(tag for tag in wanted if tag not in reached)
    load = Load(path, linear.expert, linear.parameter, tokens, missing, left)
    if left:
        return None, load
    total = sum(reached.values())
    own = {tag: share / total for tag, share in reached.items()}
    return blend(seen, own, where, apart=apart), load


def languages_of(sites: Iterable[Mapping[str, Moments]]) -> list[str]:
    """The languages that any site of a block saw, in order."""
    return list(dict.fromkeys(tag for seen in sites for tag in seen))


def layer_of(block: int, site: str, load: Load | None) -> tuple[object, ...]:
    """What a site is a part of: its block, and itself or the stacked parameter of its expert."""
    return (block, site) if load is None else (block, load.experts, load.parameter)


def name_of(block: int, site: str, load: Load | None) -> str:
    """The name of what a site is a part of, as `--skip` takes it after the block's number."""
    return f"{block}.{site}" if load is None else f"{block}.{load.experts}.*.{load.parameter}"


def rows(loads: Iterable[tuple[int, Load]]) -> dict[str, Any] | None:
    """Loads, each with the number of its block, as a report has them; None where there are none.

    `load` has, for every block, the numbers of its experts and their tokens by language; `left` the
    linears that stay as they were; `missing` the languages with a share that an expert saw none of.
    """
    load: dict[tuple[int, str], dict[str, list[int]]] = {}
    numbers: dict[tuple[int, str], list[int]] = {}
    left: list[str] = []
    missing: dict[str, list[str]] = {}
    counted: set[str] = set()
    for block, each in loads:
        if each.left:
            left.append(f"{block}.{each.name}.{each.parameter}")
        if (name := f"{block}.{each.name}") in counted:
            continue
        counted.add(name)
        numbers.setdefault((block, each.experts), []).append(each.expert)
        tokens = load.setdefault((block, each.experts), {tag: [] for tag in each.tokens})
        for tag, count in each.tokens.items():
            tokens[tag].append(count)
        if each.missing:
            missing[name] = list(each.missing)
    if not load:
        return None
    by_block = [
        {"block": key[0], "experts": key[1], "numbers": numbers[key], "tokens": tokens}
        for key, tokens in load.items()
    ]
    return {"load": by_block, "left": left, "missing": missing}
