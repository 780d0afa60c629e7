"""Minimax: what each block gives is chosen for the language that loses most, from measured losses.

A table has what every language loses, KL(dense ‖ pressed) in nats a token of text held apart, where
one block alone is pressed with one option. A mixed-integer program (HiGHS) finds the least t so
that for every language the sum over blocks is at most t, exactly one option a block, all within
the budget. That losses of single blocks add up is Malinovskii et al.'s observation (HIGGS, 2024).
Then blocks trade: one goes an option up, another down, as long as the measured worst language
gains, which is EvoPress's mutation (Sieberling et al., 2024) without its population.

A sum over blocks is no promise: what is measured of the whole model is told beside it.

Shapes: L languages, B blocks, O options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import fsum

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from babelpress.errors import BadSetting

Table = Sequence[Sequence[Sequence[float]]]  # (L, B, O) nats a token
Sizes = Sequence[Sequence[int]]  # (B, O), in whatever the budget is in

GAP = 1e-6  # of t: HiGHS may stop so near the least
NODES = 20_000  # of its search at most, so that an end does not hang on the clock


@dataclass(frozen=True, slots=True)
class Asked:
    """What a table is asked for: how much text, which options, how many trades."""

    tokens: int
    densities: str
    bits: str
    trades: int


def asked(*, tokens: int = 512, densities: str = "", bits: str = "", trades: int = 8) -> Asked:
    """`tokens` of each language are looked at; `trades` whole models at most are measured.

    `densities` and `bits` are what a block may get, in words: see `_options.py`.
    """
    return Asked(tokens, densities, bits, trades)


# ---- by the table --------------------------------------------------------------------------


def losses(loss_LBO: Table, chosen_B: Sequence[int]) -> list[float]:
    """What each language loses by the table (L,): the sum over blocks."""
    return [fsum(row[each] for row, each in zip(of, chosen_B, strict=True)) for of in loss_LBO]


def size(size_BO: Sizes, chosen_B: Sequence[int]) -> int:
    """What all blocks take."""
    return sum(row[each] for row, each in zip(size_BO, chosen_B, strict=True))


def check(size_BO: Sizes, budget: int) -> None:
    """Raise BadSetting where even the smallest option of every block takes more."""
    if (least := sum(map(min, size_BO))) > budget:
        raise BadSetting(
            f"the smallest option of every block takes {least:,} in all, more than the budget of "
            f"{budget:,}. Allow smaller options, or ask for less."
        )


def solve(loss_LBO: Table, size_BO: Sizes, budget: int) -> list[int]:
    """The option of every block (B,) with the least worst language by the table.

    Raises BadSetting where no choice is within the budget.
    """
    check(size_BO, budget)
    loss = np.asarray(loss_LBO, dtype=np.float64)
    allowed = budget
    while True:
        chosen = _program(loss, np.asarray(size_BO, dtype=np.float64), allowed)
        over = size(size_BO, chosen) - budget
        if over <= 0:
            return chosen
        allowed -= over  # what tolerances of a solver in floats let pass


def _program(loss_LBO: np.ndarray, size_BO: np.ndarray, budget: int) -> list[int]:
    """One whole number, 0 or 1, for every option of every block, and t last."""
    languages, blocks, options = loss_LBO.shape
    number = blocks * options
    scale = np.abs(loss_LBO).max(2).sum(1).max() or 1.0
    worst = sparse.hstack(
        [sparse.csr_matrix(loss_LBO.reshape(languages, number) / scale), -np.ones((languages, 1))]
    )
    one_each = sparse.hstack(
        [sparse.kron(sparse.eye(blocks), np.ones((1, options))), np.zeros((blocks, 1))]
    )
    within = np.append(size_BO.reshape(number) / max(1, budget), 0.0)[None]
    found = milp(
        np.append(np.zeros(number), 1.0),
        constraints=[
            LinearConstraint(worst, -np.inf, 0),
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(within, -np.inf, 1),
        ],
        integrality=np.append(np.ones(number), 0),
        bounds=Bounds(
            np.append(np.zeros(number), -np.inf),  # type: ignore[arg-type]
            np.append(np.ones(number), np.inf),  # type: ignore[arg-type]
        ),
        options={"mip_rel_gap": GAP, "node_limit": NODES},
    )
    if found.x is None:
        raise BadSetting(
            f"no choice of options was found within a budget of {budget:,} ({found.message}). "
            "Allow other options."
        )
    return found.x[:number].reshape(blocks, options).argmax(1).tolist()


# ---- by measurement ------------------------------------------------------------------------


@dataclass(slots=True)
class Trades:
    """The choices that were measured, each with its worst language's loss: the first is where it
    began, `best` the one that did best."""

    tried: list[tuple[list[int], float]] = field(default_factory=list)
    best: int = 0

    @property
    def chosen(self) -> list[int]:
        """The options that did best."""
        return self.tried[self.best][0]


def trade(
    chosen_B: Sequence[int],
    loss_LBO: Table,
    size_BO: Sizes,
    budget: int,
    worst: Callable[[list[int]], float],
    trades: int,
) -> Trades:
    """Trade between blocks as long as the worst language gains, as `worst` measures it.

    A trade gives one block its next larger option and another its next smaller, within the budget;
    those that are best by the table are tried first, and `trades` of them at most.
    """
    found = Trades([([*chosen_B], worst([*chosen_B]))])
    seen = {tuple(chosen_B)}
    gained = True
    while gained:
        gained = False
        for each in _neighbours(found.chosen, loss_LBO, size_BO, budget):
            if tuple(each) in seen:
                continue
            if len(found.tried) > trades:
                return found
            seen.add(tuple(each))
            found.tried.append((each, worst(each)))
            if found.tried[-1][1] < found.tried[found.best][1]:
                found.best, gained = len(found.tried) - 1, True
                break
    return found


def _neighbours(
    chosen_B: Sequence[int], loss_LBO: Table, size_BO: Sizes, budget: int
) -> list[list[int]]:
    """What one trade away is within the budget, best by the table first."""
    order = [sorted(range(len(row)), key=row.__getitem__) for row in size_BO]
    place = [own.index(each) for own, each in zip(order, chosen_B, strict=True)]
    found: list[list[int]] = []
    for up, own in enumerate(order):
        for down, other in enumerate(order):
            if up == down or place[up] + 1 == len(own) or not place[down]:
                continue
            tried = [*chosen_B]
            tried[up], tried[down] = own[place[up] + 1], other[place[down] - 1]
            if size(size_BO, tried) <= budget:
                found.append(tried)
    return sorted(found, key=lambda each: max(losses(loss_LBO, each)))  # stable: ties as they come
