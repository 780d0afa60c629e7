"""The means of a mixture: moments of languages, weighted by its shares."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting
from babelpress.moments.moments import Moments
from babelpress.numerics.least_squares import inverse_factor
from babelpress.numerics.triangles import folded, whole


@dataclass(frozen=True, slots=True)
class Blend:
    """What a method sees of a site: means over the tokens of a mixture of languages.

    `absmax_I` is over all languages that have a share, `tokens` how many tokens they have. What was
    not kept is None. `shares` are of the languages that have one. `against_I` are mean squares on
    the same shares in the text that a contrast is made with.
    """

    mean_square_I: Tensor
    mean_abs_I: Tensor | None
    mean_I: Tensor | None
    absmax_I: Tensor
    firing_I: Tensor | None
    gram_II: Tensor | None
    tokens: int
    where: str
    shares: Mapping[str, float]
    against_I: Tensor | None = None
    _apart: Mapping[str, Moments] | None = field(default=None, compare=False, repr=False)
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

    def by_language(self) -> dict[str, "Blend"]:
        """Every language's own means, made when they are asked for: of those with a share.

        Raises BadMoments where the languages were not kept apart.
        """
        apart = self._kept_apart()
        return {tag: blend(apart, {tag: 1.0}, self.where) for tag in self.shares}

    def own_mean_square_I(self, language: str) -> Tensor | None:
        """The mean squares of a language, with or without a share; None where no token of it came.

        Raises BadMoments where the languages were not kept apart.
        """
        seen = self._kept_apart().get(language)
        return None if seen is None else seen.sumsq_I / seen.mass

    def _kept_apart(self) -> Mapping[str, Moments]:
        if self._apart is None:
            raise BadMoments(
                f"the means of {self.where} are those of a mixture only, and this method needs "
                'every language\'s own. Its module has to say so: READS = ("languages",).'
            )
        return self._apart

    def require_mean_abs(self) -> Tensor:
        """The mean of |x|. Raises BadMoments where it was not kept."""
        if self.mean_abs_I is None:
            raise BadMoments(
                f"the moments of {self.where} hold no sum of |x|, which this method needs. "
                'Its module has to say so: READS = ("sumabs",).'
            )
        return self.mean_abs_I

    def require_against(self) -> Tensor:
        """Mean squares in the other text. Raises BadMoments where there is none."""
        if self.against_I is None:
            raise BadMoments(
                f"nothing is known of {self.where} in a second text, which this method makes a "
                "contrast with. Give its moments with --against FOLDER."
            )
        return self.against_I

    def require_mean(self) -> Tensor:
        """The mean of x. Raises BadMoments where it was not kept."""
        if self.mean_I is None:
            raise BadMoments(
                f"the moments of {self.where} hold no sum of x, which this method needs. "
                'Its module has to say so: READS = ("sum",).'
            )
        return self.mean_I

    def require_firing(self) -> Tensor:
        """How often x > 0, as a share of tokens. Raises BadMoments where it was not kept."""
        if self.firing_I is None:
            raise BadMoments(
                f"the moments of {self.where} hold no count of x > 0, which this method needs. "
                'Its module has to say so: READS = ("positive",).'
            )
        return self.firing_I

    def require_gram(self) -> Tensor:
        """The mean Gram matrix. Raises BadMoments where none was kept."""
        if self.gram_II is None:
            raise BadMoments(
                f"the moments of {self.where} hold no Gram matrix, which this method needs. "
                "Calibrate again with --gram."
            )
        return self.gram_II


def blend(
    moments: Mapping[str, Moments],
    shares: Mapping[str, float],
    where: str,
    *,
    apart: bool = False,
) -> Blend:
    """The means of a mixture. `shares` are of tokens and sum to one.

    With `apart` the moments of all languages are held, for whoever asks for their own means.
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
        shares={language: shares[language] for language in weight},
        against_I=_if_kept([m.against_I for m in used], {tag: shares[tag] for tag in weight}),
        _apart={language: seen for language, seen in moments.items() if seen.mass}
        if apart
        else None,
    )


def _weights(
    moments: Mapping[str, Moments], shares: Mapping[str, float], where: str
) -> dict[str, float]:
    """p_l / n_l for every language with a share; of tokens weighed by the loss, p_l / Σ s_t."""
    if min(shares.values(), default=0) < 0 or not math.isclose(sum(shares.values()), 1):
        raise BadSetting(f"shares must be zero or more and sum to one, not {dict(shares)}.")
    wanted = [language for language, share in shares.items() if share > 0]
    lacking = [language for language in wanted if not (m := moments.get(language)) or not m.mass]
    if lacking:
        raise BadMoments(
            f"the mixture gives a share to {', '.join(lacking)}, of which {where} saw no token. "
            "Calibrate with that language, or leave it out of the mixture."
        )
    return {language: shares[language] / moments[language].mass for language in wanted}


def _if_kept(sums: Sequence[Tensor | None], weight: Mapping[str, float]) -> Tensor | None:
    kept = [each for each in sums if each is not None]
    return _weighted(kept, weight) if len(kept) == len(sums) else None


def _weighted(sums: Iterable[Tensor], weight: Mapping[str, float]) -> Tensor:
    return torch.stack([w * s for w, s in zip(weight.values(), sums, strict=True)]).sum(0)


def _blended_gram(used: list[Moments], weight: Mapping[str, float]) -> Tensor | None:
    grams = [m.gram for m in used if m.gram is not None]
    if len(grams) < len(used):
        return None
    if any(gram.shape != grams[0].shape for gram in grams):  # some are of an older version
        grams = [folded(gram) for gram in grams]
    blended = torch.zeros_like(grams[0])
    for share, gram in zip(weight.values(), grams, strict=True):
        blended.add_(gram, alpha=share)
    return whole(blended)
