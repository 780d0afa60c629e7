"""Moments: what a site saw in one language, kept apart by language and blended late.

A site is one or more linears that read the same input. For its input x keep the number of tokens
n, Σx, Σ|x|, Σx², max|x|, how often x > 0, and, where a method needs it, the Gram matrix Σxxᵀ.
All are sums or maxima, so parts add up. A mixture with shares p weights tokens of every language
as if each had the same number: E[x²] = Σ_l p_l·sumsq_l/n_l, H = Σ_l p_l·gram_l/n_l.

Tokens that are weighed by the loss (`weigh.py`) count s_t each instead of one, in every sum but n
and the maximum, and their mass Σ s_t stands where n does in the means.

Shapes: I inputs, O outputs of all linears of a site. Vectors are float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from babelpress.errors import BadMoments
from babelpress.numerics.triangles import folded, whole

OPTIONAL = ("sum", "sumabs", "positive")  # vectors that most methods do not read


@dataclass(frozen=True, slots=True)
class OfLoss:
    """What the loss says of a language at a site, where tokens are weighed by it: sums, all three.

    `mass` is what the tokens count together. `nats` is the loss of all text of the language,
    whether its tokens came to this site or not. `slope_OI` is the gradient of that loss by the
    weights of the site's linears, one below the other, of all positions and not only those that
    count; None where it was not kept.
    """

    mass: float
    nats: float
    slope_OI: Tensor | None = None

    def __add__(self, other: "OfLoss") -> "OfLoss":
        """That of both parts together."""
        slope_OI = both(self.slope_OI, other.slope_OI)
        return OfLoss(self.mass + other.mass, self.nats + other.nats, slope_OI)


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the tokens of one language at one site; None are those that are not kept.

    `gram` is symmetric, and whole or, from a file, folded to half its size (`triangles.py`).
    Whoever wants the matrix asks for `gram_II`.

    Where not all are kept and there is a Gram matrix, the squares are its diagonal. `against_I` is
    the mean square of the same inputs in the text that a contrast is made with, where one is: it
    comes from another folder, and is never written with these. `of_loss` is there where tokens are
    weighed by the loss.
    """

    n: int
    sum_I: Tensor | None
    sumabs_I: Tensor | None
    sumsq_I: Tensor
    absmax_I: Tensor
    positive_I: Tensor | None
    gram: Tensor | None
    against_I: Tensor | None = None
    of_loss: OfLoss | None = None

    @property
    def mass(self) -> float:
        """What the tokens count together, which means are divided by: their number, or Σ s_t."""
        return self.n if self.of_loss is None else self.of_loss.mass

    @property
    def gram_II(self) -> Tensor | None:
        """The whole Gram matrix; unfolded anew each time, where it is folded."""
        return None if self.gram is None else whole(self.gram)

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both parts together.

        Raises BadMoments if only one has a Gram matrix, or only one is weighed by the loss.
        """
        if (self.gram is None) != (other.gram is None):
            raise BadMoments("moments with and without a Gram matrix cannot be added.")
        if (self.of_loss is None) != (other.of_loss is None):
            raise BadMoments("moments whose tokens are weighed otherwise cannot be added.")
        of_loss = None
        if self.of_loss is not None and other.of_loss is not None:
            of_loss = self.of_loss + other.of_loss
        return Moments(
            self.n + other.n,
            both(self.sum_I, other.sum_I),
            both(self.sumabs_I, other.sumabs_I),
            self.sumsq_I + other.sumsq_I,
            torch.maximum(self.absmax_I, other.absmax_I),
            both(self.positive_I, other.positive_I),
            _both_grams(self.gram, other.gram),
            of_loss=of_loss,
        )

    def without_gram(self) -> "Moments":
        """The same as a calibration without Gram matrices gives them."""
        return replace(self, gram=None)

    def tensors(self) -> dict[str, Tensor]:
        """The moments under the names they have on disk: n, sum, sumabs, …, gram."""
        named = {name: getattr(self, name) for name in _FIELDS if name != "n"}
        kept = {_FIELDS[name]: tensor for name, tensor in named.items() if tensor is not None}
        return {"n": torch.tensor(self.n), **kept, **_of_loss_tensors(self.of_loss)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """The inverse of `tensors`. Raises BadMoments where one but the Gram matrix is missing."""
        if missing := sorted(set(_FIELDS.values()) - set(tensors) - {"gram"}):
            raise BadMoments(f"these moments lack {', '.join(missing)}. Calibrate again.")
        vectors = {name: tensors[name] for name in VECTORS}
        found = assembled(int(tensors["n"]), vectors, tensors.get("gram"))
        if "mass" not in tensors:
            return found
        mass, nats = float(tensors["mass"]), float(tensors["nats"])
        return replace(found, of_loss=OfLoss(mass, nats, tensors.get("slope")))


def both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two; None where one was not kept."""
    return None if one is None or other is None else one + other


def _both_grams(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two that are whole or folded: folded, unless both are whole."""
    if one is None or other is None or one.shape == other.shape:
        return both(one, other)
    return folded(one) + folded(other)


def assembled(n: int, vectors: Mapping[str, Tensor], gram: Tensor | None) -> Moments:
    """From vectors by their names on disk."""
    return Moments(
        n,
        vectors.get("sum"),
        vectors.get("sumabs"),
        vectors["sumsq"],
        vectors["absmax"],
        vectors.get("positive"),
        gram,
    )


VECTORS = ("sum", "sumabs", "sumsq", "absmax", "positive")
APART = ("against_I", "of_loss")
_FIELDS = {f.name: f.name.removesuffix("_I") for f in fields(Moments) if f.name not in APART}


def _of_loss_tensors(of_loss: OfLoss | None) -> dict[str, Tensor]:
    if of_loss is None:
        return {}
    numbers = {"mass": of_loss.mass, "nats": of_loss.nats}
    found = {name: torch.tensor(each, dtype=torch.float64) for name, each in numbers.items()}
    return found if of_loss.slope_OI is None else {**found, "slope": of_loss.slope_OI}
