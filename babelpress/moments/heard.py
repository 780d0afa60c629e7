"""What sites read, added up as soon as it is known how much the loss hears of what they give.

`weigh.py` says what that is, and runs the model.

Shapes: B sequences, T positions, O outputs, I inputs, R rows that a linear sees; one language a
batch.

Tested in tests/moments/test_weigh.py and test_slopes.py.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from babelpress.errors import NotFinite
from babelpress.models.experts import Hear, See
from babelpress.models.linears import Linear, linears, watched, weight
from babelpress.models.sites import Site
from babelpress.models.walk import Walk
from babelpress.moments.accumulator import Accumulator, vectors_of
from babelpress.moments.gather import rows_that_count
from babelpress.moments.moments import OfLoss
from babelpress.moments.store import BlockMoments

Place = tuple[int, Site]  # a site of a block


def outputs_of(walk: Walk, index: int, site: Site) -> dict[str, int]:
    """How many outputs every linear of a site has."""
    layers = linears(walk.blocks[index])
    return {name: len(weight(layers[name])) for name in site.linears}


@dataclass(slots=True)
class _Run:
    """One run of a site in a batch: the rows that are kept of it, and what is heard so far.

    `keep_R` says which of all rows they are, `counts_R` which of those that are kept count, and
    `squares_R` is Σ_o (∂L/∂z_o)² of those that count, over the linears that were heard.
    """

    x_RI: Tensor
    keep_R: Tensor
    counts_R: Tensor
    squares_R: Tensor
    waits: int


@dataclass(slots=True)
class _Sums:
    """The sums of a language at a site."""

    inputs: Accumulator
    mass: float = 0.0
    slopes: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class Heard:
    """Adds up what sites read, as soon as it is known how much the loss hears of what they give."""

    def __init__(
        self,
        walk: Walk,
        sites: Mapping[int, Sequence[Site]],
        gram: bool,
        slopes: bool,
        vectors: Collection[str],
    ):
        self._walk, self._gram, self._slopes, self._vectors = walk, gram, slopes, vectors
        self._places = [(index, site) for index, each in sites.items() for site in each]
        self._outputs = {place: outputs_of(walk, *place) for place in self._places}
        self._sums: dict[Place, dict[str, _Sums]] = {place: {} for place in self._places}
        self._nats: dict[str, float] = {}
        self._runs: dict[Place, list[_Run]] = {}
        self._language, self._counted_BT = "", torch.empty(0)
        self._kept_BT = self._counted_BT

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, what the sites read and how the loss hears it is seen in every pass."""
        see: dict[Linear, See] = {}
        hear: dict[Linear, Hear] = {}
        for place in self._places:
            index, site = place
            layers = linears(self._walk.blocks[index])
            see[layers[site.linears[0]]] = self._look(place)
            hear |= {layers[name]: self._listen(place, name) for name in site.linears}
        with watched(see, hear):
            yield

    def begin(self, language: str, counted_BT: Tensor) -> None:
        """What comes now is a batch of a language."""
        self._language, self._counted_BT = language, counted_BT
        self._kept_BT = _up_to_the_last(counted_BT) if self._slopes else counted_BT
        self._runs = {}

    def end(self, nats: float) -> None:
        """The batch has been followed back; what nothing was heard of adds what it has."""
        self._nats[self._language] = self._nats.get(self._language, 0.0) + nats
        for place, runs in self._runs.items():
            for run in runs:
                if run.waits:
                    self._add(place, run)
        self._runs = {}

    def _look(self, place: Place) -> See:
        """Begins a run of a site with the rows that count, or all that a gradient is made of."""

        def see(x_RI: Tensor, token_R: Tensor | None) -> None:
            where = self._walk.name(place[0], place[1].name)
            keep_R = rows_that_count((self._kept_BT,), len(x_RI), token_R, where)
            counts_R = rows_that_count((self._counted_BT,), len(x_RI), token_R, where)[keep_R]
            mine_RI = x_RI.detach()[keep_R]  # a copy, for blocks may go on to change it in place
            squares_R = mine_RI.new_zeros(int(counts_R.sum()), dtype=torch.float32)
            run = _Run(mine_RI, keep_R, counts_R, squares_R, len(place[1].linears))
            self._runs.setdefault(place, []).append(run)

        return see

    def _listen(self, place: Place, name: str) -> Hear:
        """Hears the gradient of what a linear gives; nothing before the first needs one."""

        def hear(z: Tensor) -> Tensor:
            run = self._runs[place][-1]
            if not z.requires_grad:
                z = z.detach().requires_grad_().clone()  # which may be changed in place
            z.register_hook(lambda g_z: self._heard(place, name, run, g_z))
            return z

        return hear

    def _heard(self, place: Place, name: str, run: _Run, g_z: Tensor) -> None:
        g_RO = g_z.reshape(-1, g_z.shape[-1])[run.keep_R].float()
        squares_R = g_RO[run.counts_R].square().sum(1)
        if not (squares_R.isfinite().all() and g_RO.isfinite().all()):
            raise NotFinite(
                f"the gradient of the loss at {self._where(place, self._language)} ({name}) holds "
                "NaN, infinity or a number too large to square."
            )
        run.squares_R += squares_R
        if self._slopes and len(g_RO):
            own = self._of(place, g_RO.device).slopes
            if name not in own:
                own[name] = g_RO.new_zeros(g_RO.shape[1], place[1].inputs)
            own[name].addmm_(g_RO.T, run.x_RI.float())
        run.waits -= 1
        if not run.waits:
            self._add(place, run)

    def _add(self, place: Place, run: _Run) -> None:
        """Add the tokens of a run, each with what it counts."""
        run.waits = 0
        x_RI = run.x_RI[run.counts_R]
        if not len(x_RI):  # an expert may see no token that counts
            return
        mass_R = run.squares_R / sum(self._outputs[place].values())
        own = self._of(place, x_RI.device)
        where = self._where(place, self._language)
        sums = vectors_of(x_RI, self._vectors, gram=self._gram, where=where, mass_T=mass_R)
        own.inputs.take(sums, x_RI, mass_R)
        own.mass += float(mass_R.sum(dtype=torch.float64))

    def _where(self, place: Place, language: str) -> str:
        return f"{self._walk.name(place[0], place[1].name)} in {language}"

    def _of(self, place: Place, device: torch.device) -> _Sums:
        seen = self._sums[place]
        if self._language not in seen:
            inputs = place[1].inputs
            seen[self._language] = _Sums(
                Accumulator(inputs, self._gram, device=device, vectors=self._vectors)
            )
        return seen[self._language]

    def take(self, index: int) -> BlockMoments:
        """The moments of a block, once, when all batches have run."""
        found: BlockMoments = {}
        for place in [each for each in self._places if each[0] == index]:
            found[place[1]] = {}
            for language, own in self._sums.pop(place).items():
                if not own.inputs.n:  # of an expert that only special tokens chose
                    continue
                made = own.inputs.finish(where=self._where(place, language))
                of_loss = OfLoss(own.mass, self._nats[language], self._slope(place, own))
                found[place[1]][language] = replace(made, of_loss=of_loss)
        return found

    def _slope(self, place: Place, own: _Sums) -> Tensor | None:
        """The gradients by the weights of a site, one below the other; zero where none came."""
        if not self._slopes:
            return None
        inputs = place[1].inputs
        parts = [
            own.slopes.get(name, torch.zeros(outputs, inputs))
            for name, outputs in self._outputs[place].items()
        ]
        return torch.cat([each.to(parts[0].device) for each in parts])


def _up_to_the_last(counted_BT: Tensor) -> Tensor:
    """The positions (B, T) up to the last of their sequence that counts.

    What linears give at one that does not count, such as BOS, is heard by the loss of tokens after
    it. Padding, and all else behind the last token that counts, no loss hears of.
    """
    return counted_BT.flip(1).cummax(1).values.flip(1)
