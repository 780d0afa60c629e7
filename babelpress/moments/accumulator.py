"""Moments as they are added up, batch by batch.

Tokens may be given what each counts; then all sums but n and the maximum are over s_t·x, s_t·x² and
so on, and those of weights that are all one have the bits of those without, in float32.

Shapes: T tokens, P parts of a batch, S vectors, I inputs. Vectors are float64, so that neither
batch size nor the order of languages shows; batches are summed in float32, whatever the dtype of x,
because bfloat16 sums lose three digits.

Tested in tests/moments/test_moments.py.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from babelpress.errors import NotFinite
from babelpress.moments.moments import OPTIONAL, VECTORS, Moments, assembled
from babelpress.numerics.products import add_gram, mirror
from babelpress.system.threads import alone

CACHED = 1 << 18  # so many numbers at once stay in a processor's cache through all five sums


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number


_TOO_LARGE = "the input of {where} holds NaN, infinity or a number too large to square."


class Accumulator:
    """Sums of one language at one site, to which tokens are added; `finish` makes moments of them.

    `vectors` are those kept besides the squares and the largest.
    """

    def __init__(
        self,
        inputs: int,
        gram: bool,
        *,
        device: torch.device | str = "cpu",
        gram_dtype: torch.dtype = torch.float32,
        vectors: Collection[str] = OPTIONAL,
    ):
        self.n = 0
        self._vectors = {
            name: torch.zeros(inputs, dtype=torch.float64).to(device)
            for name in VECTORS
            if name in vectors or name not in OPTIONAL
        }
        self._gram_II = (
            torch.zeros(inputs, inputs, dtype=gram_dtype, device=device) if gram else None
        )

    def add(self, x_TI: Tensor, *, where: str = "a site") -> "Accumulator":
        """Add tokens, padding already left out. Nothing changes and NotFinite names `where` if an
        input is NaN, infinite or too large to square in float32; what is so only in sum may be
        found by `finish` alone.
        """
        if len(x_TI):
            gram = self._gram_II is not None
            self.take(vectors_of(x_TI, self._vectors, gram=gram, where=where), x_TI)
        return self

    def take(self, sums: Moments, x_TI: Tensor, mass_T: Tensor | None = None) -> None:
        """Add tokens whose `vectors_of` are known, and what they count where that is not one."""
        self.n += sums.n
        largest_I = torch.maximum(self._vectors["absmax"], sums.absmax_I)
        added = sums.tensors()
        for name, sum_I in self._vectors.items():
            self._vectors[name] = largest_I if name == "absmax" else sum_I + added[name]
        if self._gram_II is not None:
            x_TI = x_TI.detach()
            # The root on both sides keeps the matrix symmetric to the last bit.
            scaled_TI = x_TI if mass_T is None else x_TI.float() * mass_T.sqrt()[:, None]
            add_gram(self._gram_II, scaled_TI)

    def finish(self, *, where: str = "a site") -> Moments:
        """The moments of all tokens so far; nothing may be added afterwards.

        Raises NotFinite where numbers that were not too large to square are so in sum.
        """
        vectors = dict(self._vectors)
        if self._gram_II is not None:
            diagonal_I = self._gram_II.diagonal()
            if not diagonal_I.isfinite().all():
                raise NotFinite(_TOO_LARGE.format(where=where))
            mirror(self._gram_II)
            if not set(OPTIONAL) <= set(vectors):
                vectors["sumsq"] = diagonal_I.to(torch.float64, copy=True)
        return assembled(self.n, vectors, self._gram_II)


def vectors_of(
    x_TI: Tensor,
    kept: Collection[str],
    *,
    gram: bool,
    where: str,
    mass_T: Tensor | None = None,
) -> Moments:
    """The vectors of tokens, at least one, that moments with these `vectors` add.

    `mass_T` is what each token counts, in float32. They lack the squares where a Gram matrix has
    them. Raises NotFinite as `Accumulator.add`.
    """
    kept = {name for name in OPTIONAL if name in kept}
    apart = not gram or len(kept) == len(OPTIONAL)
    sums = _sums(x_TI.detach(), kept | {"sumsq"} if apart else kept, mass_T)
    squares_I = sums.sumsq_I if apart else sums.absmax_I.float().square()
    if not (squares_I.isfinite().all() and sums.absmax_I.isfinite().all()):
        raise NotFinite(_TOO_LARGE.format(where=where))
    return sums


@alone()
def _sums(x_TI: Tensor, wanted: Collection[str], mass_T: Tensor | None) -> Moments:
    """The largest, and the vectors that are wanted; squares are zero where they are not."""
    tokens, inputs = x_TI.shape
    size = max(1, CACHED // inputs) if x_TI.device.type == "cpu" else tokens
    parts = x_TI.split(size)
    # Every sum has memory of its own: kernels may round by how the memory they write is aligned,
    # which must not depend on what else is wanted.
    found = {
        name: torch.zeros(len(parts), inputs, device=x_TI.device)
        for name in VECTORS
        if name in wanted
    }
    masses = None if mass_T is None else mass_T.split(size)
    largest_PI = _add_up(parts, found, masses) if found else _largest(parts)
    vectors = {
        "sumsq": torch.zeros(inputs, dtype=torch.float64, device=x_TI.device),
        **{name: found_PI.double().sum(0) for name, found_PI in found.items()},
        "absmax": largest_PI.amax(0).double(),
    }
    return assembled(tokens, vectors, None)


def _add_up(
    parts: Sequence[Tensor], found: Mapping[str, Tensor], masses: Sequence[Tensor] | None
) -> Tensor:
    """Sums down the columns of every part, into (parts, inputs) tensors by name; the largest |x|.

    `masses` are what the tokens of every part count, one each where there are none.

    Few calls and no new tensors: threads side by side wait for one another at every call, and what
    happens in place stays in the cache.
    """
    scratch_STI = parts[0].new_empty(2, *parts[0].shape, dtype=torch.float32)
    ones_T = scratch_STI.new_ones(len(parts[0]))
    largest_PI = scratch_STI.new_empty(len(parts), parts[0].shape[1])
    for place, part_TI in enumerate(parts):
        exact_TI, positive_TI = scratch_STI[:, : len(part_TI)]
        one_T = ones_T[: len(part_TI)] if masses is None else masses[place]
        exact_TI.copy_(part_TI)
        # A product with ones sums down the columns faster than sum(0) does.
        if "sum" in found:
            torch.mv(exact_TI.T, one_T, out=found["sum"][place])
        if "positive" in found:
            torch.clamp(exact_TI, 0, 1, out=positive_TI).ceil_()
            torch.mv(positive_TI.T, one_T, out=found["positive"][place])
        exact_TI.abs_()
        if "sumabs" in found:
            torch.mv(exact_TI.T, one_T, out=found["sumabs"][place])
        torch.amax(exact_TI, 0, out=largest_PI[place])
        # Squares have more digits than bfloat16, which such a product may be allowed to round to.
        if "sumsq" in found:
            squares_TI = exact_TI.square_()
            if masses is not None:
                squares_TI *= one_T[:, None]
            torch.sum(squares_TI, 0, out=found["sumsq"][place])
    return largest_PI


def _largest(parts: Sequence[Tensor]) -> Tensor:
    """The largest |x| of every part and column: without the sign, bits are ordered as numbers are.

    NaN lies above infinity in that order. Integers take half the time of bfloat16 numbers.
    """
    if parts[0].element_size() not in _BITS:
        parts = [part_TI.float() for part_TI in parts]
    bits = _BITS[parts[0].element_size()]
    unsigned_TI = torch.empty_like(parts[0], dtype=bits)
    largest_PI = unsigned_TI.new_empty(len(parts), parts[0].shape[1])
    for part_TI, largest_I in zip(parts, largest_PI, strict=True):
        without_TI = unsigned_TI[: len(part_TI)]
        torch.bitwise_and(part_TI.view(bits), torch.iinfo(bits).max, out=without_TI)
        torch.amax(without_TI, 0, out=largest_I)
    return largest_PI.view(parts[0].dtype)
