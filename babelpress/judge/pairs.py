"""The scores of two models on the same documents of one language, and draws of these documents.

A draw takes D of the D documents with replacement, the same ones for both models. Where all
languages share their documents a draw takes the same ones in all of them, else every language has
draws of its own.

Shapes: L languages, D documents, R bootstrap draws.

Tested in tests/judge/test_compare.py.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from babelpress.errors import BadRun
from babelpress.judge.evidence import ALPHA, mcnemar
from babelpress.numerics.tally import Tally


@dataclass(frozen=True, slots=True)
class Pair:
    """Dense and pressed parts of one language, documents in the order of their ids."""

    documents: tuple[str, ...]
    dense_D2: np.ndarray
    pressed_D2: np.ndarray

    def ratio(self) -> float:
        """Pressed over dense."""
        (a, b), (c, d) = self.pressed_D2.sum(0), self.dense_D2.sum(0)
        return (a / b) / (c / d)

    @property
    def is_binary(self) -> bool:
        """Whether both models have every document right or wrong: 1 or 0 of 1."""
        both_2D2 = np.stack([self.dense_D2, self.pressed_D2])
        return bool(np.isin(both_2D2[..., 0], (0, 1)).all() and (both_2D2[..., 1] == 1).all())

    def exact_p(self) -> float:
        """McNemar's p-value."""
        turned_D = self.pressed_D2[:, 0] - self.dense_D2[:, 0]
        return mcnemar(int((turned_D < 0).sum()), int((turned_D > 0).sum()))

    def dense_above(self, counts_RD: np.ndarray, floor: float) -> bool:
        """Whether the 95 % interval of the dense score lies above a floor."""
        top_R, bottom_R = (counts_RD @ self.dense_D2).T
        return bool(np.quantile(top_R / bottom_R, ALPHA / 2) > floor)

    def ratio_R(self, counts_RD: np.ndarray, tag: str, *, at_chance: bool) -> np.ndarray:
        """Pressed over dense in every draw.

        Raises BadRun where the dense score is zero in one; at chance, where nothing is read of it,
        such a draw has NaN.
        """
        top_R2, bottom_R2 = counts_RD @ self.pressed_D2, counts_RD @ self.dense_D2
        sizes_R = top_R2[:, 1] * bottom_R2[:, 1]
        if not (sizes_R.all() and (at_chance or bottom_R2.all())):
            raise too_few(tag, len(self.documents))
        dense_R = np.where(bottom_R2[:, 0] == 0, np.nan, bottom_R2[:, 0]) / bottom_R2[:, 1]
        return (top_R2[:, 0] / top_R2[:, 1]) / dense_R


def pairs_of(dense: Mapping[str, Tally], pressed: Mapping[str, Tally]) -> dict[str, Pair]:
    """Both models in every language. Raises BadRun naming what was not scored with both."""
    _check(dense, pressed)
    return {tag: _align(tag, dense[tag], pressed[tag]) for tag in dense}


def is_shared(pairs: Mapping[str, Pair]) -> bool:
    """Whether all languages have the same documents."""
    return len({pair.documents for pair in pairs.values()}) == 1


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of every language, and in every draw; NaN in draws that say nothing.

    `at_chance` are languages in which the dense model is no better than its floor.
    """

    loss_L: np.ndarray
    loss_RL: np.ndarray
    at_chance: frozenset[str]


def losses(
    pairs: Mapping[str, Pair],
    *,
    lower_is_better: bool,
    floors: Mapping[str, float] | None,
    draws: int,
    seed: int,
) -> Losses:
    """Losses of all languages on draws that only their documents and the seed decide."""
    shared, sign = is_shared(pairs), 1.0 if lower_is_better else -1.0
    loss_RL = np.empty((draws, len(pairs)))
    at_chance: set[str] = set()
    for column, (tag, pair) in enumerate(pairs.items()):
        counts_RD = counts(len(pair.documents), draws, seed, "" if shared else tag)
        if floors and tag in floors and not pair.dense_above(counts_RD, floors[tag]):
            at_chance.add(tag)
        ratio_R = pair.ratio_R(counts_RD, tag, at_chance=tag in at_chance)
        loss_RL[:, column] = sign * (ratio_R - 1)
    loss_L = np.array([sign * (pair.ratio() - 1) for pair in pairs.values()])
    return Losses(loss_L, loss_RL, frozenset(at_chance))


@lru_cache(maxsize=1)  # the same for all languages of a parallel corpus
def counts(documents: int, draws: int, seed: int, stream: str) -> np.ndarray:
    """How often each draw takes each document, shape (R, D); `stream` names independent ones."""
    rng = np.random.default_rng([seed, zlib.crc32(stream.encode())])
    return rng.multinomial(documents, np.full(documents, 1 / documents), size=draws).astype(float)


def too_few(tag: str, documents: int) -> BadRun:
    """The error for a language whose draws give no relative change."""
    return BadRun(
        f"{tag}: {documents} documents are too few for a relative change: the dense score is zero "
        "in some resamples. Evaluate on more documents."
    )


def _check(dense: Mapping[str, Tally], pressed: Mapping[str, Tally]) -> None:
    if not dense:
        raise BadRun("there is no language to compare. Evaluate with --languages first.")
    for tags, owner in (
        (dense.keys() - pressed.keys(), "pressed"),
        (pressed.keys() - dense.keys(), "dense"),
    ):
        if tags:
            raise BadRun(
                f"the {owner} model was not evaluated in {some(tags)}. Evaluate both models on "
                "the same languages, or leave these out with --languages."
            )


def _align(tag: str, dense: Tally, pressed: Tally) -> Pair:
    ours, theirs = set(dense.documents), set(pressed.documents)
    for extra, owner in ((ours - theirs, "dense"), (theirs - ours, "pressed")):
        if extra:
            raise BadRun(
                f"{tag}: {len(extra)} documents were scored with the {owner} model only "
                f"({some(extra)}). Evaluate both models on the same corpus."
            )
    dense_D2, pressed_D2 = _sorted_parts(dense), _sorted_parts(pressed)
    if not (dense_D2.sum(0).all() and pressed_D2.sum(0)[1]):
        raise BadRun(
            f"{tag}: the dense score is zero, so there is no relative change to give. Leave the "
            "language out with --languages."
        )
    return Pair(tuple(sorted(ours)), dense_D2, pressed_D2)


def _sorted_parts(tally: Tally) -> np.ndarray:
    order_D = sorted(range(len(tally.documents)), key=tally.documents.__getitem__)
    return np.stack([tally.numerator_D[order_D], tally.denominator_D[order_D]], axis=1)


def some(names: Iterable[str]) -> str:
    """The first few names of some."""
    shown = sorted(names)
    return ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")
