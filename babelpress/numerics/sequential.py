"""Whether a ratio of sums over many documents lies above a bound, known from the first few.

What a pressed model needs for N documents, over what the dense one needs: Σp/Σd. The d of all N
are known, p only of those that were scored. Documents are drawn without replacement, each with a
chance in proportion to its weight among those that are left (successive sampling, Raj 1956): large
ones come early, so that none that carries the sum is left for last. Before draw i, let ρ_i be
Σp/Σd of the i − 1 documents drawn and W_i the weight of those that are left. A *step* is what the
document has beyond that, and what ρ_i says of the whole, beyond the bound b:

    x_i = (p_i − ρ_i·d_i) / w_i + (ρ_i − b)·Σd / W_i        Σd over all N

Given what came before, its mean is (Σp − b·Σd) / W_i: **exactly**, whatever documents are like. The
first document gives ρ and is no step.

Whether steps have a mean above zero is asked by a t-test that may be looked at at any time: a
mixture over their variance (right Haar) and over their mean in units of its root, N(0, g), of which
Wang and Ramdas (2023, arXiv:2310.03722) make a test martingale in the filtration of the t
statistic. Theirs is for both sides; here the mixture is the upper half of N(0, g). Of n steps let t
be their mean over its standard error (with the variance over n), and

    c² = t²/(n + t²) · n·g/(1 + n·g)
    E_n = (1 + n·g)^(−1/2) · (1 − c²)^(−n/2) · 2·F_n(√n · c/√(1 − c²)),   F_n: Student's t of n

so that where the mean is zero E ever reaches 1/α with a chance of at most α (Ville 1939). That is
exact for normal steps of one unknown variance. **For others it is asymptotic**, and skewness is
what errs most in few. So t is corrected for it (Hall 1992, J. R. Statist. Soc. B 54, 221-228): with
the skewness κ of the steps (unbiased, as Joanes and Gill 1998 have it) and k = κ/√n

    t + k·t²/3 + k²·t³/27 + k/6

is taken where κ speaks against a finding, never for one. g = 1/4 and the twelve documents before
anything is known are chosen so that simulations keep the level where all languages lose exactly
what they may. What no test sees without a bound on what one document can lose, and bits have none,
is a few documents that lose nearly all and are not drawn yet. With all N drawn nothing is left to
chance.

Shapes: X anything, N documents, T of them drawn, in the order of the draw.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from babelpress.system.files import sha256_text

LEAST = 12  # documents before anything is known, of more: the first round
ROUND = 4  # documents of the next rounds
PART = 4  # a later round is this part of what is there
SCALE = 0.25  # g
TINY = 1e-12
SKEWED = 1e-6  # what is less is not skewed
LARGEST = 2.0**40  # of a ratio
HALVINGS = 60


def drawn(documents: Sequence[str], weight_N: np.ndarray, seed: int = 0) -> list[int]:
    """The places of documents in the order of the draw; those of no weight come last.

    Every name has a lot, an exponential time over the weight (Efraimidis and Spirakis 2006), that
    only the name and the seed decide: the same for all models, and in all languages that have it.
    """
    lots = [int(sha256_text(f"{seed}/{name}")[:13], 16) for name in documents]
    times = [
        -math.log((lot + 0.5) / 16**13) / weight if weight > 0 else math.inf
        for lot, weight in zip(lots, weight_N.tolist(), strict=True)
    ]
    return sorted(range(len(documents)), key=lambda place: (times[place], documents[place]))


def rounds(total: int) -> Iterator[int]:
    """After how many documents to look, `total` last."""
    done = min(total, LEAST)
    while done < total:
        yield done
        done = min(total, done + max(ROUND, done // PART // ROUND * ROUND))
    yield total


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps at any bound: what they are at zero, (X, T − 1), and how much less with each unit."""

    at_zero_XT: np.ndarray
    slope_XT: np.ndarray

    @classmethod
    def of(cls, pressed_XT: np.ndarray, dense_XN: np.ndarray, weight_XN: np.ndarray) -> "Steps":
        """Weights are above zero; where all dense parts so far are zero, ρ is 1."""
        size = pressed_XT.shape[-1]
        dense_XT, weight_XT = dense_XN[..., :size], weight_XN[..., :size]
        there_XT = _before(dense_XT)
        some_XT = there_XT > 0
        ratio_XT = np.where(some_XT, _before(pressed_XT), 1) / np.where(some_XT, there_XT, 1)
        left_XT = weight_XN.sum(-1, keepdims=True) - _before(weight_XT)
        slope_XT = dense_XN.sum(-1, keepdims=True) / left_XT
        own_XT = (pressed_XT - ratio_XT * dense_XT) / weight_XT
        return cls((own_XT + ratio_XT * slope_XT)[..., 1:], slope_XT[..., 1:])

    def at(self, bound: float) -> np.ndarray:
        """The steps (X, T − 1)."""
        return self.at_zero_XT - bound * self.slope_XT

    def middle(self) -> float:
        """The ratio for which nothing speaks on either side: where steps sum to zero."""
        return float(self.at_zero_XT.sum() / self.slope_XT.sum())

    def upper(self, alpha: float) -> float:
        """The least ratio above which the whole does not lie, at alpha; `LARGEST` is none."""
        return self._limit(lambda bound: _last(-self.at(bound)) >= -math.log(alpha), up=True)

    def lower(self, alpha: float) -> float:
        """The largest ratio below which the whole does not lie, at alpha; 0 is none."""
        return self._limit(lambda bound: _last(self.at(bound)) >= -math.log(alpha), up=False)

    def _limit(self, ruled_out: Callable[[float], bool], *, up: bool) -> float:
        """The first ratio from the middle on that is ruled out, by halving."""
        near, far = max(self.middle(), 1 / LARGEST), LARGEST if up else 0.0
        if not ruled_out(far):
            return far
        for _ in range(HALVINGS):
            half = math.sqrt(near * far) if up else (near + far) / 2
            near, far = (near, half) if ruled_out(half) else (half, far)
        return far


def log_evidence(step_XT: np.ndarray, looks: Sequence[int]) -> np.ndarray:
    """log E_n for a mean above zero after each of these numbers of steps (1 or more)."""
    from scipy.special import stdtr

    n_T = np.asarray(looks)
    sum_XT, square_XT, cube_XT = ((step_XT**power).cumsum(-1)[..., n_T - 1] for power in (1, 2, 3))
    square_XT = np.where(square_XT > 0, square_XT, 1.0)  # all steps are zero, and so is the sum
    mean_XT = sum_XT / n_T
    second_XT = np.maximum(square_XT / n_T - mean_XT**2, TINY * square_XT / n_T)
    third_XT = cube_XT / n_T - 3 * mean_XT * square_XT / n_T + 2 * mean_XT**3
    t_XT = _without_skewness(mean_XT * np.sqrt(n_T / second_XT), third_XT / second_XT**1.5, n_T)
    known_T = n_T * SCALE
    c_XT = t_XT * np.sqrt(known_T / (1 + known_T) / (n_T + t_XT**2))
    rest_XT = 1 - c_XT**2
    tail_XT = np.maximum(stdtr(n_T, np.sqrt(n_T / rest_XT) * c_XT), np.finfo(float).tiny)
    return np.log(2 * tail_XT) - np.log1p(known_T) / 2 - n_T * np.log(rest_XT) / 2


def _without_skewness(t_XT: np.ndarray, skew_XT: np.ndarray, n_T: np.ndarray) -> np.ndarray:
    """The statistic, corrected where that makes it smaller; it grows with what it corrects."""
    unbiased_T = np.sqrt(n_T * np.maximum(n_T - 1, 1)) / np.maximum(n_T - 2, 1)
    third_XT = np.minimum(skew_XT * unbiased_T, -SKEWED) / (3 * np.sqrt(n_T))
    hall_XT = ((1 + third_XT * t_XT) ** 3 - 1) / (3 * third_XT) + third_XT / 2
    return np.where(skew_XT < -SKEWED, hall_XT, t_XT)


def _last(step_T: np.ndarray) -> float:
    return float(log_evidence(step_T, [step_T.shape[-1]])[..., 0])


def _before(part_XT: np.ndarray) -> np.ndarray:
    """The sum before each draw."""
    return part_XT.cumsum(-1) - part_XT
