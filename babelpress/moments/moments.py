"""Moments: what a site saw in one language, kept apart by language and blended late.

A site is one or more linears that read the same input. For its input x keep the number of tokens
n, Σx, Σ|x|, Σx², max|x|, how often x > 0, and, where a method needs it, the Gram matrix Σxxᵀ.
All are sums or maxima, so parts add up. A mixture with shares p weights tokens of every language
as if each had the same number: E[x²] = Σ_l p_l·sumsq_l/n_l, H = Σ_l p_l·gram_l/n_l.

Shapes: I inputs. Vectors are float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from babelpress.errors import BadMoments

OPTIONAL = ("sum", "sumabs", "positive")  # vectors that most methods do not read


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the tokens of one language at one site; None are those that are not kept.

    Where not all are kept and there is a Gram matrix, the squares are its diagonal. `against_I` is
    the mean square of the same inputs in the text that a contrast is made with, where one is: it
    comes from another folder, and is never written with these.
    """

    n: int
    sum_I: Tensor | None
    sumabs_I: Tensor | None
    sumsq_I: Tensor
    absmax_I: Tensor
    positive_I: Tensor | None
    gram_II: Tensor | None
    against_I: Tensor | None = None

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both parts together. Raises BadMoments if only one has a Gram matrix."""
        if (self.gram_II is None) != (other.gram_II is None):
            raise BadMoments("moments with and without a Gram matrix cannot be added.")
        gram_II = None
        if self.gram_II is not None and other.gram_II is not None:
            gram_II = self.gram_II + other.gram_II
        return Moments(
            self.n + other.n,
            both(self.sum_I, other.sum_I),
            both(self.sumabs_I, other.sumabs_I),
            self.sumsq_I + other.sumsq_I,
            torch.maximum(self.absmax_I, other.absmax_I),
            both(self.positive_I, other.positive_I),
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
        return assembled(int(tensors["n"]), vectors, tensors.get("gram"))


def both(one_I: Tensor | None, other_I: Tensor | None) -> Tensor | None:
    """The sum of two vectors; None where one was not kept."""
    return None if one_I is None or other_I is None else one_I + other_I


def assembled(n: int, vectors: Mapping[str, Tensor], gram_II: Tensor | None) -> Moments:
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
_FIELDS = {
    f.name: f.name.removesuffix("_II").removesuffix("_I")
    for f in fields(Moments)
    if f.name != "against_I"
}
