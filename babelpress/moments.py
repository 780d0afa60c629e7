"""Moments: what a site saw in one language, kept apart by language and blended late.

A site is one or more linears that read the same input. For its input x keep the number of tokens
n, Σx, Σ|x|, Σx², max|x|, how often x > 0, and, where a method needs it, the Gram matrix Σxxᵀ.
All are sums or maxima, so parts add up. A mixture with shares p weights tokens of every language
as if each had the same number: E[x²] = Σ_l p_l·sumsq_l/n_l, H = Σ_l p_l·gram_l/n_l.

Shapes: T tokens, I inputs, O outputs. Vectors are float64, so that neither batch size nor the
order of languages shows; batches are summed in float32, whatever the dtype of x, because bfloat16
sums lose three digits.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting, NotFinite
from babelpress.products import add_gram, dots, mirror
from babelpress.solve import inverse_factor
from babelpress.threads import alone

CACHED = 1 << 18  # so many numbers at once stay in a processor's cache through all five sums
OPTIONAL = ("sum", "sumabs", "positive")  # vectors that most methods do not read
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number


@dataclass(slots=True)
class Moments:
    """Sums over the tokens of one language at one site; None are those that are not kept.

    Where not all are kept and there is a Gram matrix, the squares are its diagonal.
    """

    n: int
    sum_I: Tensor | None
    sumabs_I: Tensor | None
    sumsq_I: Tensor
    absmax_I: Tensor
    positive_I: Tensor | None
    gram_II: Tensor | None

    @classmethod
    def empty(
        cls,
        inputs: int,
        gram: bool,
        *,
        device: torch.device | str = "cpu",
        gram_dtype: torch.dtype = torch.float32,
        vectors: Collection[str] = OPTIONAL,
    ) -> "Moments":
        """No token seen yet. `vectors` are those kept besides the squares and the largest."""
        zeros = {
            name: torch.zeros(inputs, dtype=torch.float64).to(device)
            for name in VECTORS
            if name in vectors or name not in OPTIONAL
        }
        gram_II = torch.zeros(inputs, inputs, dtype=gram_dtype, device=device) if gram else None
        return _assembled(0, zeros, gram_II)

    def add(self, x_TI: Tensor, *, where: str = "a site", more: bool = False) -> None:
        """Add tokens, padding already left out. Nothing changes and NotFinite names `where` if an
        input is NaN, infinite or too large to square in float32; what is so only in sum may be
        found by `complete` alone.

        Where `more` is said to come, the Gram matrix is right only when it is `complete`.
        """
        if len(x_TI):
            kept = self.tensors().keys()
            self.take(vectors_of(x_TI, kept, gram=self.gram_II is not None, where=where), x_TI)
        if not more:
            self.complete(where=where)

    def take(self, sums: "Moments", x_TI: Tensor) -> None:
        """Add tokens whose `vectors_of` are known; `complete` has to follow."""
        self.n += sums.n
        self.sum_I = _both(self.sum_I, sums.sum_I)
        self.sumabs_I = _both(self.sumabs_I, sums.sumabs_I)
        self.sumsq_I += sums.sumsq_I
        self.positive_I = _both(self.positive_I, sums.positive_I)
        torch.maximum(self.absmax_I, sums.absmax_I, out=self.absmax_I)
        if self.gram_II is not None:
            add_gram(self.gram_II, x_TI.detach())

    def complete(self, *, where: str = "a site") -> None:
        """All tokens were added: the lower triangle of the Gram matrix follows.

        Raises NotFinite where numbers that were not too large to square are so in sum.
        """
        if self.gram_II is None:
            return
        diagonal_I = self.gram_II.diagonal()
        if not diagonal_I.isfinite().all():
            raise NotFinite(_TOO_LARGE.format(where=where))
        mirror(self.gram_II)
        if any(each is None for each in (self.sum_I, self.sumabs_I, self.positive_I)):
            self.sumsq_I = diagonal_I.to(torch.float64, copy=True)

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both parts together. Raises BadMoments if only one has a Gram matrix."""
        if (self.gram_II is None) != (other.gram_II is None):
            raise BadMoments("moments with and without a Gram matrix cannot be added.")
        gram_II = None
        if self.gram_II is not None and other.gram_II is not None:
            gram_II = self.gram_II + other.gram_II
        return Moments(
            self.n + other.n,
            _both(self.sum_I, other.sum_I),
            _both(self.sumabs_I, other.sumabs_I),
            self.sumsq_I + other.sumsq_I,
            torch.maximum(self.absmax_I, other.absmax_I),
            _both(self.positive_I, other.positive_I),
            gram_II,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The moments under the names they have on disk: n, sum, sumabs, …, gram."""
        named = {name: getattr(self, name) for name in _FIELDS if name != "n"}
        kept = {_FIELDS[name]: tensor for name, tensor in named.items() if tensor is not None}
        return {"n": torch.tensor(self.n), **kept}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """The inverse of `tensors`. Raises BadMoments where one but the Gram matrix is missing."""
        if missing := sorted(set(_FIELDS.values()) - set(tensors) - {"gram"}):
            raise BadMoments(f"these moments lack {', '.join(missing)}. Calibrate again.")
        vectors = {name: tensors[name] for name in VECTORS}
        return _assembled(int(tensors["n"]), vectors, tensors.get("gram"))


def _both(one_I: Tensor | None, other_I: Tensor | None) -> Tensor | None:
    return None if one_I is None or other_I is None else one_I + other_I


def _assembled(n: int, vectors: Mapping[str, Tensor], gram_II: Tensor | None) -> Moments:
    """From vectors by their names on disk."""
    return Moments(
        n,
        vectors.get("sum"),
        vectors.get("sumabs"),
        vectors["sumsq"],
        vectors["absmax"],
        vectors.get("positive"),
        gram_II,
    )


VECTORS = ("sum", "sumabs", "sumsq", "absmax", "positive")
_FIELDS = {f.name: f.name.removesuffix("_II").removesuffix("_I") for f in fields(Moments)}
_TOO_LARGE = "the input of {where} holds NaN, infinity or a number too large to square."


@dataclass(frozen=True, slots=True)
class Blend:
    """What a method sees of a site: means over the tokens of a mixture of languages.

    `absmax_I` is over all languages that have a share, `tokens` how many tokens they have. What was
    not kept is None.
    """

    mean_square_I: Tensor
    mean_abs_I: Tensor | None
    mean_I: Tensor | None
    absmax_I: Tensor
    firing_I: Tensor | None
    gram_II: Tensor | None
    tokens: int
    where: str
    _factors: dict[tuple[float, bool], Tensor] = field(
        default_factory=dict, compare=False, repr=False
    )

    def rms_I(self) -> Tensor:
        """Root mean square of every input, in float32."""
        return self.mean_square_I.sqrt().float()

    def factor(self, damp: float, *, falling: bool = False) -> Tensor:
        """Upper U with (H + damp · mean diagonal)⁻¹ = UᵀU, computed once for each damp.

        `falling` puts the inputs of H in the order of `falling_I`.
        """
        key = damp, falling
        if key not in self._factors:
            self._factors[key] = inverse_factor(
                self.require_gram(),
                damp,
                where=self.where,
                tokens=self.tokens,
                order_I=self.falling_I() if falling else None,
            )
        return self._factors[key]

    def falling_I(self) -> Tensor:
        """The inputs by falling diagonal of the Gram matrix, ties by position."""
        return self.require_gram().diagonal().argsort(descending=True, stable=True)

    def require_mean_abs(self) -> Tensor:
        """The mean of |x|. Raises BadMoments where it was not kept."""
        if self.mean_abs_I is None:
            raise BadMoments(
                f"the moments of {self.where} hold no sum of |x|, which this method needs. "
                'Its module has to say so: READS = ("sumabs",).'
            )
        return self.mean_abs_I

    def require_gram(self) -> Tensor:
        """The mean Gram matrix. Raises BadMoments where none was kept."""
        if self.gram_II is None:
            raise BadMoments(
                f"the moments of {self.where} hold no Gram matrix, which this method needs. "
                "Calibrate again with --gram."
            )
        return self.gram_II


class Damage(NamedTuple):
    """tr(ΔGΔᵀ) and tr(WGWᵀ): what new weights lose of a linear's output, and all there was."""

    numerator: float
    denominator: float


def blend(moments: Mapping[str, Moments], shares: Mapping[str, float], where: str) -> Blend:
    """The means of a mixture. `shares` are of tokens and sum to one.

    Raises BadMoments for a language that has a share but no tokens.
    """
    weight = _weights(moments, shares, where)
    used = [moments[language] for language in weight]
    return Blend(
        mean_square_I=_weighted([m.sumsq_I for m in used], weight),
        mean_abs_I=_if_kept([m.sumabs_I for m in used], weight),
        mean_I=_if_kept([m.sum_I for m in used], weight),
        absmax_I=torch.stack([m.absmax_I for m in used]).amax(0),
        firing_I=_if_kept([m.positive_I for m in used], weight),
        gram_II=_blended_gram(used, weight),
        tokens=sum(m.n for m in used),
        where=where,
    )


def damage(weight_OI: Tensor, pressed_OI: Tensor, moments: Moments) -> Damage:
    """What replacing a weight does to one language; without a Gram matrix, by its diagonal."""
    return damages(weight_OI, pressed_OI, {"": moments})[""]


def damages(
    weight_OI: Tensor, pressed_OI: Tensor, moments: Mapping[str, Moments]
) -> dict[str, Damage]:
    """`damage` for many languages."""
    lost = energies(weight_OI.detach().float() - pressed_OI.detach().float(), moments)
    kept = energies(weight_OI, moments)
    return {tag: Damage(lost[tag], kept[tag]) for tag in moments}


def energies(weight_OI: Tensor, moments: Mapping[str, Moments]) -> dict[str, float]:
    """tr(WGWᵀ) for many languages: Σ (WᵀW)∘G, and WᵀW is the same for all of them.

    Without Gram matrices by their diagonals. Weights of bfloat16 set the precision of products of
    the whole process meanwhile; those of float32 leave it alone.
    """
    if all(m.gram_II is None for m in moments.values()):
        size_I = weight_OI.detach().float().square().sum(0).double()
        # No product of vectors, which may round by how moments from a file are aligned.
        return {language: float((size_I * m.sumsq_I).sum()) for language, m in moments.items()}
    found = dots(weight_OI.detach(), [_gram_of(m) for m in moments.values()])
    return dict(zip(moments, found, strict=True))


def vectors_of(x_TI: Tensor, kept: Collection[str], *, gram: bool, where: str) -> Moments:
    """The vectors of tokens, at least one, that moments with these `vectors` add.

    They lack the squares where a Gram matrix has them. Raises NotFinite as `Moments.add`.
    """
    kept = {name for name in OPTIONAL if name in kept}
    apart = not gram or len(kept) == len(OPTIONAL)
    sums = _sums(x_TI.detach(), kept | {"sumsq"} if apart else kept)
    squares_I = sums.sumsq_I if apart else sums.absmax_I.float().square()
    if not (squares_I.isfinite().all() and sums.absmax_I.isfinite().all()):
        raise NotFinite(_TOO_LARGE.format(where=where))
    return sums


@alone()
def _sums(x_TI: Tensor, wanted: Collection[str]) -> Moments:
    """The largest, and the vectors that are wanted; squares are zero where they are not."""
    tokens, inputs = x_TI.shape
    parts = x_TI.split(max(1, CACHED // inputs) if x_TI.device.type == "cpu" else tokens)
    # Every sum has memory of its own: kernels may round by how the memory they write is aligned,
    # which must not depend on what else is wanted.
    found = {
        name: torch.zeros(len(parts), inputs, device=x_TI.device)
        for name in VECTORS
        if name in wanted
    }
    largest_PI = _add_up(parts, found) if found else _largest(parts)
    vectors = {
        "sumsq": torch.zeros(inputs, dtype=torch.float64, device=x_TI.device),
        **{name: found_PI.double().sum(0) for name, found_PI in found.items()},
        "absmax": largest_PI.amax(0).double(),
    }
    return _assembled(tokens, vectors, None)


def _add_up(parts: Sequence[Tensor], found: Mapping[str, Tensor]) -> Tensor:
    """Sums down the columns of every part, into (parts, inputs) tensors by name; the largest |x|.

    Few calls and no new tensors: threads side by side wait for one another at every call, and what
    happens in place stays in the cache.
    """
    scratch_STI = parts[0].new_empty(2, *parts[0].shape, dtype=torch.float32)
    ones_T = scratch_STI.new_ones(len(parts[0]))
    largest_PI = scratch_STI.new_empty(len(parts), parts[0].shape[1])
    for place, part_TI in enumerate(parts):
        exact_TI, positive_TI = scratch_STI[:, : len(part_TI)]
        one_T = ones_T[: len(part_TI)]
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
            torch.sum(exact_TI.square_(), 0, out=found["sumsq"][place])
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


def _weights(
    moments: Mapping[str, Moments], shares: Mapping[str, float], where: str
) -> dict[str, float]:
    """p_l / n_l for every language with a share."""
    if min(shares.values(), default=0) < 0 or not math.isclose(sum(shares.values()), 1):
        raise BadSetting(f"shares must be zero or more and sum to one, not {dict(shares)}.")
    wanted = [language for language, share in shares.items() if share > 0]
    lacking = [language for language in wanted if not (m := moments.get(language)) or m.n == 0]
    if lacking:
        raise BadMoments(
            f"the mixture gives a share to {', '.join(lacking)}, of which {where} saw no token. "
            "Calibrate with that language, or leave it out of the mixture."
        )
    return {language: shares[language] / moments[language].n for language in wanted}


def _if_kept(sums: Sequence[Tensor | None], weight: Mapping[str, float]) -> Tensor | None:
    kept = [each for each in sums if each is not None]
    return _weighted(kept, weight) if len(kept) == len(sums) else None


def _weighted(sums: Iterable[Tensor], weight: Mapping[str, float]) -> Tensor:
    return torch.stack([w * s for w, s in zip(weight.values(), sums, strict=True)]).sum(0)


def _blended_gram(used: list[Moments], weight: Mapping[str, float]) -> Tensor | None:
    grams = [m.gram_II for m in used if m.gram_II is not None]
    if len(grams) < len(used):
        return None
    blended_II = torch.zeros_like(grams[0])
    for share, gram_II in zip(weight.values(), grams, strict=True):
        blended_II.add_(gram_II, alpha=share)
    return blended_II


def _gram_of(moments: Moments) -> Tensor:
    if moments.gram_II is None:
        raise BadMoments("some languages have a Gram matrix and some have none. Calibrate again.")
    return moments.gram_II
