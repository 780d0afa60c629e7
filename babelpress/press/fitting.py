"""Whether a method fits every linear of a model: known from shapes, before anything is pressed.

Blocks of one layout (the same linears of the same shapes) have the same sites, so one of each
layout is looked at: a few tokens are run through it, which also finds what cannot be pressed.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import torch

from babelpress.errors import BadSetting
from babelpress.models import experts
from babelpress.models.handed import own_of
from babelpress.models.linears import Linear, linears, weight
from babelpress.models.sites import FEW, Site
from babelpress.models.walk import Walk
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.press.method import Method
from babelpress.press.protected import Block

Shape = tuple[int, int]  # outputs, inputs
Layout = tuple[tuple[str, Shape], ...]
SHOWN = 12  # names in a message
MADE_UP = "a linear that is made up to try the method"
ROWS = 4  # of it


def check(walk: Walk, method: Method) -> None:
    """Raise BadLayer for the first linear that a method cannot treat, naming it and its block.

    Raises BadSetting for a `--skip` word that no site of any block answers to, or if no site is
    left, and whatever the method raises for its options; BadModel for blocks that cannot be
    pressed.
    """
    _try(method)
    blocks = [_layout(walk, index) for index in range(len(walk.blocks))]
    sites = _sites(walk, blocks)
    known = _known(walk)
    check_skip([site for each in sites.values() for site in each], method.skip, known=known)
    for index, layout in enumerate(blocks):
        own, shapes = method.at(index), dict(layout)
        for site in sites[layout]:
            if not (own.skips(site) or (not known and _may_skip(site, own.skip))):
                for name in site.linears:
                    own.check(shapes[name], walk.name(index, name))


def seen(walk: Walk) -> list[Block]:
    """Every block as protection asks of it: its linears and sites."""
    layouts = [_layout(walk, index) for index in range(len(walk.blocks))]
    sites = _sites(walk, layouts)
    return [
        Block(
            walk.name(index),
            dict(layout),
            sites[layout],
            frozenset(n for n, each in linears(walk.blocks[index]).items() if _stacked(each)),
        )
        for index, layout in enumerate(layouts)
    ]


def _stacked(linear: Linear) -> bool:
    return isinstance(linear, experts.Slice)


def _try(method: Method) -> None:
    """Press a small linear that is made up: a method may look at its options only then."""
    lot = torch.Generator().manual_seed(0)
    own, inputs = method.at(0), method.narrowest
    seen = {
        tag: Accumulator(inputs, method.needs_gram, vectors=method.vectors)
        .add(torch.randn(4 * inputs, inputs, generator=lot))
        .finish()
        for tag in ("a", "b")
    }
    if method.contrasts:
        seen = {tag: replace(each, against_I=each.sumsq_I.flip(0)) for tag, each in seen.items()}
    stats = blend(seen, {"a": 0.25, "b": 0.75}, MADE_UP, apart=method.languages_apart)
    weights = {MADE_UP: torch.randn(ROWS, inputs, generator=lot)}
    if own.scales:
        own.scale_inputs(weights, stats)
    own.press(weights, stats)


def check_skip(sites: Iterable[Site], skip: Sequence[str], *, known: bool = True) -> None:
    """Raise BadSetting for a `--skip` word that no site answers to, or if no site is left.

    Where sites are not `known`, but guessed at, only a plain name can be told to be wrong.
    """
    sites = list(dict.fromkeys(sites))
    for pattern in skip:
        may_be_one = not known and any(each in pattern for each in "+*")
        if not may_be_one and not any(site.matches(pattern) for site in sites):
            raise BadSetting(
                f"--skip {pattern} names no site of this model. {_near(pattern, sites)}"
            )
    if known and all(any(site.matches(pattern) for pattern in skip) for site in sites):
        raise BadSetting(f"--skip {' '.join(skip)} leaves nothing to press. Skip fewer sites.")


def _near(pattern: str, sites: Sequence[Site]) -> str:
    """Names that the word may have meant, and those that there are."""
    names = list(dict.fromkeys(site.name for site in sites))
    inside = [name for site in sites for name in (site.name, *site.linears)]
    near = get_close_matches(pattern, dict.fromkeys(inside))
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{meant}It has {', '.join(names[:SHOWN])}{more}."


def _layout(walk: Walk, index: int) -> Layout:
    """The linears of a block and their shapes. Raises BadModel for stacks that are not known."""
    block = walk.blocks[index]
    experts.check_stacks(block, walk.name(index))
    shapes = {name: weight(each).shape for name, each in linears(block).items()}
    return tuple((name, (shape[0], shape[1])) for name, shape in shapes.items())


def _known(walk: Walk) -> bool:
    """Whether the model has weights, so that its sites can be seen."""
    return walk.model.device.type != "meta"


@torch.no_grad()
def _sites(walk: Walk, blocks: Sequence[Layout]) -> Mapping[Layout, list[Site]]:
    """The sites of every layout; of a model without weights, linears that may be one."""
    first = {layout: index for index, layout in reversed(list(enumerate(blocks)))}
    if not _known(walk):
        return {layout: _guessed(layout) for layout in first}
    table_VH = weight(walk.model.get_input_embeddings())
    hidden_BTH = walk.start(torch.arange(FEW, device=table_VH.device)[None])
    found: dict[Layout, list[Site]] = {}
    for index, layout in enumerate(blocks):
        if first[layout] == index:
            found[layout] = walk.sites(index, hidden_BTH)
        if len(found) == len(first):
            break
        if not own_of(hidden_BTH).plain:  # else any hidden states will do
            hidden_BTH = walk.forward(index, hidden_BTH)
    return found


def _guessed(layout: Layout) -> list[Site]:
    """The linears of one module that have as many inputs: at most these read the same."""
    together: dict[tuple[str, int], list[str]] = {}
    for name, (_, inputs) in layout:
        together.setdefault((name.rpartition(".")[0], inputs), []).append(name)
    return [Site(names[0], tuple(names), inputs) for (_, inputs), names in together.items()]


def _may_skip(site: Site, skip: Sequence[str]) -> bool:
    """Whether a word for several linears together may mean some of these."""
    leaves = {name.rpartition(".")[2] for name in site.linears}
    together = (part for word in skip if "+" in word for part in word.split("+"))
    return any(part.rpartition(".")[2] in leaves for part in together)
