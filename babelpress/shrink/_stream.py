"""What the channels of a stream are worth to each language, and a model without some of them.

A channel h is worth to a language what it adds by itself to what reads the stream, as a share of
all that is read there, mean over the N sites of a model (q, k, v; gate, up; the head):

    s_h = 1/N Σ_sites ‖W_:h‖² E[x_h²] / Σ_j ‖W_:j‖² E[x_j²]

with x what the site is given. A fit makes what is left give what it gave, in two ways. Every linear
that reads the stream is fitted by least squares on what it read before (numerics/elimination.py).
It is fitted on what a norm gave that divided by the root of the mean square of all channels; of
fewer that root is smaller. So the weights of norms are multiplied by the root of the share of the
stream that stays, c² = Σ_{h in K} E[x_h² / mean x²] / H, and what they give keeps its size.

Nothing is cut that is not zero: with other channels zero, an RMS norm of H channels is one of K
whose weights are √(H/K) times as large.

Shapes: L languages; H channels, K of them kept; T tokens; O outputs, I inputs; V vocabulary.

Tested in tests/shrink/test_width.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models.linears import linears, weight
from babelpress.models.reshaped import blank, filled, misfits
from babelpress.models.walk import Walk
from babelpress.moments.gather import Batch, batches, pass_on
from babelpress.numerics.elimination import refitted
from babelpress.numerics.joining import joined, level
from babelpress.shrink._widths import copied
from babelpress.shrink.width import Channels, Ends, resize
from babelpress.system.offload import Hold, in_memory
from babelpress.system.progress import Progress, silent
from babelpress.text.token_blocks import TokenBlocks

HEAD = "head"  # what is read behind the last norm
EPSILONS = ("variance_epsilon", "eps")  # what norms call the number that they add
CLOSE = 0.01  # how near to 0 or 1 what a norm adds to its weights is found


@dataclass(slots=True)
class Read:
    """What is read of the stream in a block, or behind the last.

    `square` has the mean squares of what a site reads by language, `gram` its mean Gram matrix over
    languages by their shares, `stream` the mean squares of the stream at every norm, divided by
    that of all channels. `of_writes` are norms that are given what was `written` last instead.
    """

    counted: Mapping[str, int]
    shares: Mapping[str, float]
    with_gram: bool
    square: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    gram: dict[str, Tensor] = field(default_factory=dict)
    stream: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    of_writes: set[str] = field(default_factory=set)
    batch: Batch | None = None
    written: Tensor | None = None

    @contextmanager
    def watching(self, block: nn.Module, ends: Ends) -> Iterator[None]:
        """Inside, what the linears and norms of a block are given is seen."""

        def see(take: Any, name: str) -> Any:
            return lambda _module, args: take(name, args[0])

        with ExitStack() as stack:
            for first, *_ in ends.reads:
                hook = block.get_submodule(first).register_forward_pre_hook(see(self.read, first))
                stack.callback(hook.remove)
            for name in ends.norms:
                hook = block.get_submodule(name).register_forward_pre_hook(see(self.norm, name))
                stack.callback(hook.remove)
            for name in ends.writes:
                hook = block.get_submodule(name).register_forward_hook(self.write)
                stack.callback(hook.remove)
            yield
        self.batch = self.written = None

    def write(self, _module: nn.Module, _args: Any, output_BTH: Tensor) -> None:
        """What a linear gives that writes to the stream; kept, so that nothing else lies there."""
        self.written = output_BTH

    def read(self, name: str, given_BTI: Tensor) -> None:
        """What a site is given of the batch."""
        x_TI, tag = self._rows(given_BTI)
        _add(self.square, name, tag, x_TI.double().square().sum(0) / self.counted[tag])
        if self.with_gram and (share := self.shares.get(tag, 0.0)):
            found_II = (x_TI.T @ x_TI).double() * (share / self.counted[tag])
            self.gram[name] = self.gram[name] + found_II if name in self.gram else found_II

    def norm(self, name: str, given_BTH: Tensor) -> None:
        """What a norm is given of the batch."""
        if self.written is not None and given_BTH.data_ptr() == self.written.data_ptr():
            self.of_writes.add(name)
        x_TH, tag = self._rows(given_BTH)
        square_TH = x_TH.double().square()
        square_TH = square_TH / square_TH.mean(1, keepdim=True).clamp(min=1e-300)
        _add(self.stream, name, tag, square_TH.sum(0) / self.counted[tag])

    def _rows(self, given_BTH: Tensor) -> tuple[Tensor, str]:
        assert self.batch is not None
        return given_BTH[self.batch.counted_BT].float(), self.batch.language


def _add(sums: dict[str, dict[str, Tensor]], name: str, tag: str, found_H: Tensor) -> None:
    own = sums.setdefault(name, {})
    own[tag] = own[tag] + found_H if tag in own else found_H


@torch.no_grad()
def reads(
    walk: Walk,
    channels: Channels,
    text: Mapping[str, TokenBlocks],
    shares: Mapping[str, float],
    *,
    gram: bool = False,
    hold: Hold = in_memory,
    progress: Progress = silent,
) -> Iterator[tuple[int, Read]]:
    """What is read of the stream, block by block, and then behind the last one.

    Blocks are fed what those before give, as they are when their turn is over.
    """
    counted = {tag: int(each.counted_BT.sum()) for tag, each in text.items()}
    todo = batches(walk, text, hold=hold)
    what = "width: fit, block" if gram else "width: block"
    progress(what, 0, len(walk.blocks))
    for index, ends in enumerate(channels.ends):
        for batch in todo:
            walk.prepare(index, batch.hidden_BTH)
        found, onward = Read(counted, shares, gram), []
        with found.watching(walk.blocks[index], ends):
            while todo:  # one by one, so that sums have one order and few lie in memory twice
                found.batch = todo.pop(0)
                onward += pass_on(walk, index, [found.batch], hold=hold)
        todo = onward
        progress(what, index + 1, len(walk.blocks))
        yield index, found
    found, norm = Read(counted, shares, gram), walk.model.get_submodule(channels.last)
    for batch in todo:
        found.batch = batch
        found.norm(channels.last, batch.hidden_BTH.as_subclass(Tensor))
        found.read(HEAD, norm(batch.hidden_BTH.as_subclass(Tensor)))
    yield len(walk.blocks), found


@dataclass(frozen=True, slots=True)
class Worth:
    """What channels are worth (H,) by language, and the stream at every norm by its whole name.

    `of_writes` are the norms that are given what is written to the stream instead, as in Gemma.
    """

    of: Mapping[str, Tensor]
    stream: Mapping[str, Mapping[str, Tensor]]
    of_writes: frozenset[str] = frozenset()

    def kept(self, shares: Mapping[str, float], over: str, number: int) -> Tensor:
        """The channels that stay (K,), in their order; of equal ones the first go."""
        tags = [tag for tag in self.of if shares.get(tag, 0) > 0]
        score_LH = torch.stack([level(self.of[tag]) for tag in tags])
        share_L = torch.tensor([shares[tag] for tag in tags], dtype=torch.float64)
        order_H = joined(score_LH, share_L.to(score_LH.device), over).argsort(stable=True)
        return order_H[len(order_H) - number :].sort().values

    def left(self, kept_K: Tensor) -> dict[str, float]:
        """The share of the stream that stays, by language, mean over norms that are given it."""
        norms = [own for name, own in self.stream.items() if name not in self.of_writes]
        return {
            tag: sum(_left(each[tag], kept_K) for each in norms) / len(norms) for tag in self.of
        }

    def factors(self, kept_K: Tensor, shares: Mapping[str, float]) -> dict[str, float]:
        """What the weights of every norm are multiplied by, c; by the shares of languages."""
        return {
            name: sum(shares.get(tag, 0.0) * _left(own, kept_K) for tag, own in each.items()) ** 0.5
            for name, each in self.stream.items()
        }


def _left(stream_H: Tensor, kept_K: Tensor) -> float:
    return float(stream_H[kept_K].sum() / stream_H.sum().clamp(min=1e-300))


def worth(walk: Walk, channels: Channels, given: Iterator[tuple[int, Read]]) -> Worth:
    """What every channel is worth to each language."""
    of: dict[str, Tensor] = {}
    stream: dict[str, Mapping[str, Tensor]] = {}
    of_writes: set[str] = set()
    sites = 0
    for index, found in given:
        for site, by_tag in found.square.items():
            square_H = _squares(walk, channels, index, site)
            sites += 1
            for tag, mean_H in by_tag.items():
                energy_H = square_H * mean_H
                share_H = energy_H / energy_H.sum().clamp(min=1e-300)
                of[tag] = of[tag] + share_H if tag in of else share_H
        inside = index < len(walk.blocks)
        stream |= {walk.name(index, n) if inside else n: own for n, own in found.stream.items()}
        of_writes |= {walk.name(index, name) for name in found.of_writes}
    return Worth({tag: each / sites for tag, each in of.items()}, stream, frozenset(of_writes))


def _squares(walk: Walk, channels: Channels, index: int, site: str) -> Tensor:
    """‖W_:h‖² of all linears of a site together; of a model without a head all are alike."""
    if site == HEAD:
        head: Any = walk.model.get_output_embeddings()
        if head is None:
            return torch.ones(channels.before, dtype=torch.float64, device=walk.model.device)
        return weight(head).double().square().sum(0)
    layers = linears(walk.blocks[index])
    group = next(each for each in channels.ends[index].reads if site in each)
    return sum((weight(layers[n]).double().square().sum(0) for n in group), torch.zeros(()))


def fits(
    walk: Walk, channels: Channels, kept_K: Tensor, given: Iterator[tuple[int, Read]], damp: float
) -> dict[str, Tensor]:
    """The columns that stay (O, K) of every linear that reads the stream, fitted, by whole name.

    A head that is tied to the embedding stays as it is. Raises what `refitted` raises.
    """
    found: dict[str, Tensor] = {}
    for index, read in given:
        tokens = sum(read.counted[tag] for tag, share in read.shares.items() if share > 0)
        for site, gram_II in read.gram.items():
            for name, weight_OI in _linears(walk, channels, index, site).items():
                found[name] = refitted(
                    weight_OI, gram_II, kept_K, damp=damp, where=name, tokens=tokens
                )
    return found


def _linears(walk: Walk, channels: Channels, index: int, site: str) -> dict[str, Tensor]:
    if site != HEAD:
        layers = linears(walk.blocks[index])
        group = next(each for each in channels.ends[index].reads if site in each)
        return {walk.name(index, name): weight(layers[name]) for name in group}
    head: Any = walk.model.get_output_embeddings()
    if head is None or head.weight is weight(walk.model.get_input_embeddings()):
        return {}
    return {next(n for n, each in walk.model.named_modules() if each is head): weight(head)}


# ---- without them --------------------------------------------------------------------------


@torch.no_grad()
def zeroed(
    walk: Walk,
    channels: Channels,
    kept_K: Tensor,
    factors: Mapping[str, float],
    fitted: Mapping[str, Tensor],
) -> PreTrainedModel:
    """A copy in float32 in which all other channels are zero everywhere."""
    model = deepcopy(walk.model).float()
    went_H = torch.ones(channels.before, dtype=torch.bool, device=model.device)
    went_H[kept_K] = False
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, each_OK in fitted.items():
        parameters[f"{name}.weight"][:, kept_K] = each_OK
    for name in _norms(channels):
        norm = model.get_submodule(name)
        _multiply(norm, factors.get(name, 1.0))
        for key in EPSILONS:  # it is added to a mean over H, and after the cut over K
            if key in vars(norm):
                setattr(norm, key, getattr(norm, key) * len(kept_K) / channels.before)
    for name, side in channels.sides.items():
        if side or parameters[name].ndim > 1 or name.endswith(".bias"):
            parameters[name].index_fill_(side, went_H.nonzero()[:, 0], 0)
    return model


@torch.no_grad()
def cut(masked: PreTrainedModel, channels: Channels, kept_K: Tensor) -> PreTrainedModel:
    """A model of its own with the kept channels alone, in the dtype of `masked`, where all others
    are zero.

    Raises BadModel where its family has other shapes for that width.
    """
    made = narrowed(masked, channels, kept_K)
    for name in _norms(channels):
        _multiply(made.get_submodule(name), (channels.before / channels.after) ** 0.5)
    _rescale(made, _gain(masked) / _gain(made), channels.last)
    return made


def narrowed(model: PreTrainedModel, channels: Channels, kept_K: Tensor) -> PreTrainedModel:
    """The model with the kept channels alone, all numbers as they were; it may be shapes alone.

    Raises BadModel where its family has other shapes for that width.
    """
    config, text = copied(model.config)
    resize(text, channels)
    made = blank(model, config)
    tensors = {
        name: each.index_select(channels.sides[name], kept_K) if name in channels.sides else each
        for name, each in model.state_dict().items()
    }
    if wrong := misfits(made, tensors):
        raise BadModel(
            f"{type(model).__name__} cannot be made narrower by its config alone: {wrong[0]} has "
            "another shape there, so no engine would load it. Leave out --width."
        )
    filled(model, made, tensors)
    return made


def as_stored(model: PreTrainedModel, made: PreTrainedModel) -> PreTrainedModel:
    """What was made in float32 with the numbers of `model`'s dtype."""
    if made.dtype == model.dtype:
        return made
    stored = blank(model, made.config)
    filled(model, stored, {n: each.to(model.dtype) for n, each in made.state_dict().items()})
    return stored


def _norms(channels: Channels) -> Sequence[str]:
    """The whole names of all norms of the stream."""
    alone = {name for name, side in channels.sides.items() if side == 0}
    ends = {norm for each in channels.ends for norm in each.norms}
    found = [name.removesuffix(".weight") for name in alone if name.endswith(".weight")]
    return sorted(n for n in found if n == channels.last or n.rpartition(".")[2] in ends)


def check_norms(model: PreTrainedModel, channels: Channels) -> None:
    """Raise BadModel where a norm of the stream is no RMS norm; without weights too."""
    for name in _norms(channels):
        _added(model.get_submodule(name))


def _multiply(norm: nn.Module, factor: float) -> None:
    """Let a norm give so many times as much. Raises BadModel for one that is no RMS norm."""
    own: Any = norm
    added = _added(norm)
    own.weight.copy_((own.weight + added) * factor - added)


@torch.no_grad()
def _added(norm: nn.Module) -> float:
    """What a norm adds to its weights, 1 or 0, which is seen by a try with weights of 1.

    Raises BadModel for one that is no RMS norm.
    """
    own: Any = deepcopy(norm).to_empty(device="cpu").float()
    own.weight.fill_(1)
    added = float((own(own.weight) - own.weight).mean())
    if min(abs(added), abs(added - 1)) > CLOSE:
        raise BadModel(
            f"{type(norm).__name__} is not known to divide by a mean square alone, so its stream "
            "cannot be made narrower. Leave out --width."
        )
    return float(round(added))


def _gain(model: PreTrainedModel) -> float:
    """How many times the row of a token its embedding gives: Gemma's the root of its width."""
    table: Any = model.get_input_embeddings()
    row = int(table.weight.norm(dim=1).argmax())
    given_H = table(torch.tensor([row], device=table.weight.device))[0]
    return float(given_H.norm() / table.weight[row].norm())


def _rescale(made: PreTrainedModel, factor: float, last: str) -> None:
    """Let rows of the embedding be larger, and a head that is tied to them say the same."""
    table: Any = made.get_input_embeddings()
    if abs(factor - 1) < 1e-6:
        return
    table.weight.mul_(factor)
    head: Any = made.get_output_embeddings()
    if head is not None and head.weight is table.weight:
        _multiply(made.get_submodule(last), 1 / factor)
