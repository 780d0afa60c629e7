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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting, NotFinite
from babelpress.products import add_gram, dots, mirror
from babelpress.solve import inverse_factor
from babelpress.threads import alone

CACHED = 1 << 18  # so many numbers at once stay in a processor's cache through all five sums


@dataclass(slots=True)
class Moments:
    """Sums over the tokens of one language at one site.

    `sum_I` and `positive_I`, which no method reads, are None where nothing is to be kept.
    """

    n: int
    sum_I: Tensor | None
    sumabs_I: Tensor
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
        bare: bool = False,
    ) -> "Moments":
        """No token seen yet. `bare` leaves out what no method reads."""
        vectors: list[Tensor | None] = [
            None if bare and name in UNREAD else torch.zeros(inputs, dtype=torch.float64).to(device)
            for name in VECTORS
        ]
        gram_II = torch.zeros(inputs, inputs, dtype=gram_dtype, device=device) if gram else None
        return _assembled(0, vectors, gram_II)

    def add(self, x_TI: Tensor, *, where: str = "a site", more: bool = False) -> None:
        """Add tokens, padding already left out. Nothing changes and NotFinite names `where` if an
        input is NaN, infinite or too large to square in float32.

        Where `more` is said to come, only the upper triangle of the Gram matrix is right until
        `complete`.
        """
        if len(x_TI) == 0:
            return
        sums = _sums(x_TI.detach(), bare=self.sum_I is None)
        if not (sums.sumsq_I.isfinite().all() and sums.absmax_I.isfinite().all()):
            raise NotFinite(
                f"the input of {where} holds NaN, infinity or a number too large to square."
            )
        self.n += len(x_TI)
        self.sum_I = _both(self.sum_I, sums.sum_I)
        self.sumabs_I += sums.sumabs_I
        self.sumsq_I += sums.sumsq_I
        self.positive_I = _both(self.positive_I, sums.positive_I)
        torch.maximum(self.absmax_I, sums.absmax_I, out=self.absmax_I)
        if self.gram_II is not None:
            add_gram(self.gram_II, x_TI.detach())
        if not more:
            self.complete()

    def complete(self) -> None:
        """All tokens were added: the lower triangle of the Gram matrix follows."""
        if self.gram_II is not None:
            mirror(self.gram_II)

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
            self.sumabs_I + other.sumabs_I,
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
        vectors = [tensors[name] for name in _FIELDS.values() if name not in ("n", "gram")]
        return _assembled(int(tensors["n"]), vectors, tensors.get("gram"))


def _both(one_I: Tensor | None, other_I: Tensor | None) -> Tensor | None:
    return None if one_I is None or other_I is None else one_I + other_I


def _assembled(n: int, vectors: Sequence[Tensor | None], gram_II: Tensor | None) -> Moments:
    sum_I, sumabs_I, sumsq_I, absmax_I, positive_I = vectors
    assert sumabs_I is not None and sumsq_I is not None and absmax_I is not None
    return Moments(n, sum_I, sumabs_I, sumsq_I, absmax_I, positive_I, gram_II)


VECTORS = ("sum", "sumabs", "sumsq", "absmax", "positive")
UNREAD = ("sum", "positive")  # by any method; engines and analyses read them
_FIELDS = {f.name: f.name.removesuffix("_II").removesuffix("_I") for f in fields(Moments)}


@dataclass(frozen=True, slots=True)
class Blend:
    """What a method sees of a site: means over the tokens of a mixture of languages.

    `absmax_I` is over all languages that have a share, `tokens` how many tokens they have.
    """

    mean_square_I: Tensor
    mean_abs_I: Tensor
    mean_I: Tensor | None
    absmax_I: Tensor
    firing_I: Tensor | None
    gram_II: Tensor | None
    tokens: int
    where: str
    _factors: dict[float, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def rms_I(self) -> Tensor:
        """Root mean square of every input, in float32."""
        return self.mean_square_I.sqrt().float()

    def factor(self, damp: float) -> Tensor:
        """Upper U with (H + damp · mean diagonal)⁻¹ = UᵀU, computed once for each damp."""
        if damp not in self._factors:
            gram_II = self.require_gram()
            self._factors[damp] = inverse_factor(
                gram_II, damp, where=self.where, tokens=self.tokens
            )
        return self._factors[damp]

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
        mean_abs_I=_weighted([m.sumabs_I for m in used], weight),
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
    """`damage` for many languages: tr(ΔGΔᵀ) = Σ (ΔᵀΔ)∘G, and ΔᵀΔ is the same for all of them."""
    if all(m.gram_II is None for m in moments.values()):
        kept_OI = weight_OI.detach().float()
        lost_OI = kept_OI - pressed_OI.detach().float()
        lost_I, kept_I = lost_OI.square().sum(0).double(), kept_OI.square().sum(0).double()
        return {
            language: Damage(float(lost_I @ m.sumsq_I), float(kept_I @ m.sumsq_I))
            for language, m in moments.items()
        }
    grams = [_gram_of(m) for m in moments.values()]
    lost = dots(weight_OI.detach().float() - pressed_OI.detach().float(), grams)
    kept = dots(weight_OI.detach(), grams)
    return {tag: Damage(*each) for tag, *each in zip(moments, lost, kept, strict=True)}


@alone()
def _sums(x_TI: Tensor, *, bare: bool = False) -> Moments:
    tokens, inputs = x_TI.shape
    at_once = max(1, CACHED // inputs) if x_TI.device.type == "cpu" else tokens
    parts = x_TI.split(at_once)
    ones_T = torch.ones(at_once, device=x_TI.device)
    sums_SPI = ones_T.new_zeros(4, len(parts), inputs)  # P parts of each of S sums
    largest_PI = ones_T.new_empty(len(parts), inputs)
    scratch = ones_T.new_empty(1 if bare else 2, min(at_once, tokens), inputs)
    # Few calls and no new tensors: threads side by side wait for one another at every call, and
    # what happens in place stays in the cache.
    for part_TI, largest_I, sum_I, positive_I, sumabs_I, sumsq_I in zip(
        parts, largest_PI, *sums_SPI, strict=True
    ):
        exact_TI, *rest = scratch[:, : len(part_TI)]
        one_T = ones_T[: len(part_TI)]
        exact_TI.copy_(part_TI)
        # A product with ones sums down the columns faster than sum(0) does.
        for positive_TI in rest:
            torch.mv(exact_TI.T, one_T, out=sum_I)
            torch.clamp(exact_TI, 0, 1, out=positive_TI).ceil_()
            torch.mv(positive_TI.T, one_T, out=positive_I)
        torch.mv(exact_TI.abs_().T, one_T, out=sumabs_I)
        torch.amax(exact_TI, 0, out=largest_I)
        # Squares have more digits than bfloat16, which such a product may be allowed to round to.
        torch.sum(exact_TI.square_(), 0, out=sumsq_I)
    sum_I, positive_I, sumabs_I, sumsq_I = sums_SPI.double().sum(1)
    vectors = [sum_I, sumabs_I, sumsq_I, largest_PI.amax(0).double(), positive_I]
    if bare:
        vectors = [
            None if name in UNREAD else each for name, each in zip(VECTORS, vectors, strict=True)
        ]
    return _assembled(tokens, vectors, None)


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
