"""What stays of a model when it is pruned: neurons, features of sites, inputs that a language uses.

A *neuron* of a block is one product inside its MLP (models/mlps.py); experts have none. A *feature*
is an input of a site: a column of all of its linears.

Shapes: O outputs, I inputs of a linear.

Tested in tests/steps/test_protecting.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from torch import Tensor

from babelpress.errors import BadLayer, BadSetting
from babelpress.models.mlps import Mlp, Shape, widest_mlp
from babelpress.models.sites import Site
from babelpress.numerics.patterns import KeepOf, PerRow, Plain, Spared

SHOWN = 12  # names in a message


class Spare(NamedTuple):
    """Rows and columns of a linear that stay whole."""

    rows: frozenset[int] = frozenset()
    columns: frozenset[int] = frozenset()


NOTHING = Spare()


@dataclass(frozen=True, slots=True)
class Block:
    """What protection asks of a block: its name, its linears (O, I) by name, and its sites.

    `stacked` are the linears that are slices of experts.
    """

    name: str
    shapes: Mapping[str, Shape]
    sites: Sequence[Site]
    stacked: frozenset[str] = frozenset()


def resolve(
    neurons: Mapping[int, Iterable[int]],
    features: Mapping[str, Iterable[int]],
    blocks: Sequence[Block],
    plain: Plain,
) -> dict[int, dict[str, Spare]]:
    """Rows and columns that stay, by block and by the name of the linear in it.

    `features` are by BLOCK.SITE, where SITE is a site's name or that of one of its linears. Raises
    BadSetting for a block, a site, a neuron or a feature that there is not, BadLayer where too few
    weights of a linear are left for the pattern.
    """
    rows: dict[tuple[int, str], set[int]] = {}
    columns: dict[tuple[int, str], set[int]] = {}
    for index, ids in neurons.items():
        mlp = _mlp(_block(blocks, index, f"neurons of block {index}"))
        wanted = _within(ids, mlp.width, f"{blocks[index].name} has no neuron")
        for name in mlp.feeding:
            own = rows.setdefault((index, name), set())
            own |= {each + part * mlp.width for each in wanted for part in range(mlp.times)}
        columns.setdefault((index, mlp.reading), set()).update(wanted)
    for place, ids in features.items():
        index, site = _site(blocks, place)
        wanted = _within(ids, site.inputs, f"{place} has no feature")
        for name in site.linears:
            columns.setdefault((index, name), set()).update(wanted)
    found: dict[int, dict[str, Spare]] = {}
    for index, name in sorted(rows.keys() | columns.keys()):
        key = index, name
        spare = Spare(frozenset(rows.get(key, ())), frozenset(columns.get(key, ())))
        found.setdefault(index, {})[name] = spare
        try:
            Spared(plain, *spare).count(*blocks[index].shapes[name])
        except BadLayer as error:
            raise BadLayer(f"{blocks[index].name}.{name}: {error}") from error
    return found


def most_used(
    mean_square_I: Tensor | None, share: float, plain: Plain, already: frozenset[int]
) -> frozenset[int]:
    """The inputs with the largest mean squares: floor(I · share) of them, ties by position.

    Where a pattern keeps n of m, no group gets more than n of them, those that are there `already`
    counted: the smaller ones are left out. None without mean squares.
    """
    if mean_square_I is None:
        return frozenset()
    inputs = len(mean_square_I)
    number = PerRow(share).count(1, inputs)
    order = mean_square_I.argsort(descending=True, stable=True)[:number].tolist()
    if not isinstance(plain, KeepOf):
        return frozenset(order)
    room = dict.fromkeys(range(inputs // plain.of), plain.keep_count)
    for each in already:
        room[each // plain.of] -= 1
    chosen: list[int] = []
    for each in order:
        if each not in already and room[each // plain.of] > 0:
            room[each // plain.of] -= 1
            chosen.append(each)
    return frozenset(chosen)


def _mlp(block: Block) -> Mlp:
    """The widest MLP of a block. Raises BadSetting where there is none."""
    found = widest_mlp(block.shapes, block.stacked)
    if found is None:
        raise BadSetting(
            f"{block.name} has no MLP whose neurons could be protected (experts have none): "
            "protect features of its sites."
        )
    return found


def _block(blocks: Sequence[Block], index: int, what: str) -> Block:
    if not 0 <= index < len(blocks):
        raise BadSetting(
            f"protect has {what}, which is none: those of the model are 0 to {len(blocks) - 1}."
        )
    return blocks[index]


def _site(blocks: Sequence[Block], place: str) -> tuple[int, Site]:
    """The site that BLOCK.SITE names."""
    number, _, name = place.partition(".")
    if not number.isdecimal() or not name:
        raise BadSetting(
            f"protect has features of '{place}'. Write BLOCK.SITE, as in 0.mlp.down_proj."
        )
    block = _block(blocks, int(number), f"features of {place}")
    for site in block.sites:
        if name in (site.name, *site.linears):
            return int(number), site
    known = [each for site in block.sites for each in (site.name, *site.linears)]
    near = get_close_matches(name, dict.fromkeys(known))
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    names = ", ".join([site.name for site in block.sites][:SHOWN])
    raise BadSetting(f"protect: {block.name} has no site {name}. {meant}It has {names}.")


def _within(ids: Iterable[int], number: int, lacking: str) -> set[int]:
    wanted = set(ids)
    if wrong := sorted(each for each in wanted if not 0 <= each < number):
        raise BadSetting(f"protect: {lacking} {wrong[0]}: they are 0 to {number - 1}.")
    return wanted
