"""Sparsity patterns: which weights stay, given a score for each.

Shapes: O outputs, I inputs of one linear layer; B columns that a solver takes at a time,
inputs first; R rows, C columns of any score; P pairs of columns.
The lowest scores go, ties by position, and exactly as many as asked: fractions are read as the
decimals that were written, so 0.29 of 100 is 29, where binary floats would give 28.
The published SparseGPT, and the magnitude baseline beside the published Wanda, take a threshold
instead and lose one more, and all ties.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from babelpress.errors import BadLayer
from babelpress.numerics import notation
from babelpress.numerics.counting import nonzeros

SPARSEGPT_GROUP = 128
ROWS = 1 << 16  # of a few scores that are compared at once
FEW = 8  # scores of a row that are compared each with each, which beats selecting among them


@dataclass(frozen=True, slots=True)
class PerRow:
    """The same fraction of every output row goes: floor(I * fraction) weights."""

    fraction: float | Fraction

    def __post_init__(self):
        notation.check_fraction(self.fraction)

    def __str__(self) -> str:
        return f"{self.fraction}"

    def count(self, rows: int, columns: int) -> int:
        """How many weights go."""
        return rows * _share(columns, self.fraction)

    def keep(self, score_OI: Tensor) -> Tensor:
        """True where a weight stays."""
        return _keep_highest(score_OI, _share(score_OI.shape[1], self.fraction))

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """`keep` for the columns from `start` on; the parts of a row add up to its exact count."""
        end = start + len(score_BO)
        assert end <= total_columns
        drop = _share(end, self.fraction) - _share(start, self.fraction)
        return _keep_highest(score_BO.T, drop).T


@dataclass(frozen=True, slots=True)
class PerLayer:
    """A fraction of all weights of a linear goes, whichever rows they are in."""

    fraction: float | Fraction

    def __post_init__(self):
        notation.check_fraction(self.fraction)

    def __str__(self) -> str:
        return f"{self.fraction}/layer"

    def count(self, rows: int, columns: int) -> int:
        """How many weights go."""
        return _share(rows * columns, self.fraction)

    def keep(self, score_OI: Tensor) -> Tensor:
        """True where a weight stays."""
        drop = _share(score_OI.numel(), self.fraction)
        return _keep_highest(score_OI.reshape(1, -1), drop).reshape(score_OI.shape)

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """`keep`, which needs the whole layer at once."""
        assert (start, len(score_BO)) == (0, total_columns)
        return self.keep(score_BO.T).T


@dataclass(frozen=True, slots=True)
class PerGroup:
    """The same fraction of every group of columns goes, all rows together: SparseGPT's own."""

    fraction: float | Fraction
    columns: int = SPARSEGPT_GROUP

    def __post_init__(self):
        notation.check_fraction(self.fraction)
        notation.check_columns(self.columns)

    def __str__(self) -> str:
        return f"{self.fraction}/{self.columns}"

    def count(self, rows: int, columns: int) -> int:
        """How many weights go."""
        return _share(rows * columns, self.fraction)

    def keep(self, score_OI: Tensor) -> Tensor:
        """True where a weight stays."""
        total = score_OI.shape[1]
        groups = score_OI.split(self.columns, dim=1)
        starts = range(0, total, self.columns)
        kept = [self.keep_among(g.T, s, total).T for g, s in zip(groups, starts, strict=True)]
        return torch.cat(kept, dim=1)

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """`keep` for the group that begins at `start`; the groups add up to the exact count."""
        width, rows = score_BO.shape
        assert start % self.columns == 0
        assert start + width == min(start + self.columns, total_columns)
        drop = _share(rows * (start + width), self.fraction) - _share(rows * start, self.fraction)
        return _keep_highest(score_BO.T.reshape(1, -1), drop).reshape(rows, width).T


@dataclass(frozen=True, slots=True)
class KeepOf:
    """`keep` of every `of` consecutive inputs stay, in every row (2 of 4: sparse tensor cores)."""

    keep_count: int
    of: int

    def __post_init__(self):
        notation.check_keep(self.keep_count, self.of)

    def __str__(self) -> str:
        return f"{self.keep_count}of{self.of}"

    def count(self, rows: int, columns: int) -> int:
        """How many weights go. Raises BadLayer where `of` does not divide the columns."""
        self._check_columns(columns)
        return rows * columns // self.of * (self.of - self.keep_count)

    def keep(self, score_OI: Tensor) -> Tensor:
        """True where a weight stays. Raises BadLayer where `of` does not divide the columns."""
        self._check_columns(score_OI.shape[1])
        drop = self.of - self.keep_count
        return _keep_highest(score_OI.reshape(-1, self.of), drop).reshape(score_OI.shape)

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """`keep` for the group that begins at `start`, in numbers: 1 where a weight stays, or 0."""
        assert start % self.of == 0
        assert len(score_BO) == self.of
        self._check_columns(total_columns)
        drop = self.of - self.keep_count
        if self.of > FEW:
            return _keep_highest(score_BO.T, drop).T.float()
        return _places(score_BO).ge_(drop)

    def _check_columns(self, columns: int) -> None:
        if columns % self.of:
            raise BadLayer(
                f"{self} needs a number of inputs that {self.of} divides; this layer has "
                f"{columns}. Leave it out with --skip, or use --pattern 0.5."
            )


@dataclass(frozen=True, slots=True)
class Stacked:
    """Patterns of linears that read the same input and lie on top of one another.

    `rows` says how many rows each linear has; each gets its own exact count.
    """

    patterns: "tuple[Plain, ...]"
    rows: tuple[int, ...]

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(map(str, self.patterns)))

    def count(self, rows: int, columns: int) -> int:
        """How many weights go."""
        assert rows == sum(self.rows)
        parts = zip(self.patterns, self.rows, strict=True)
        return sum(pattern.count(part, columns) for pattern, part in parts)

    def keep(self, score_OI: Tensor) -> Tensor:
        """True where a weight stays."""
        parts = zip(self.patterns, score_OI.split(self.rows), strict=True)
        return torch.cat([pattern.keep(part) for pattern, part in parts])

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """As the pattern of each linear."""
        first, *others = dict.fromkeys(self.patterns)
        if not others and isinstance(first, PerRow | KeepOf):  # which take every row by itself
            return first.keep_among(score_BO, start, total_columns)
        parts = zip(self.patterns, score_BO.split(self.rows, dim=1), strict=True)
        return torch.cat([each.keep_among(p, start, total_columns) for each, p in parts], 1)


Plain = PerRow | PerLayer | PerGroup | KeepOf  # of one linear
Pattern = Plain | Stacked


def chosen_together(pattern: Pattern, columns: int, total_columns: int) -> int:
    """How many columns `keep_among` must see at once, where a solver takes `columns`."""
    match pattern:
        case PerRow():
            return columns
        case PerLayer():
            return total_columns
        case PerGroup(columns=width):
            return width
        case KeepOf(of=of):
            return of
        case Stacked(patterns=patterns):
            return max(chosen_together(each, columns, total_columns) for each in patterns)


def most_dropped(pattern: Pattern, together: int) -> int:
    """How many weights of a row go at most, among those that are chosen together."""
    match pattern:
        case KeepOf(keep_count=keep_count, of=of):
            return of - keep_count
        case Stacked(patterns=patterns):
            return max(most_dropped(each, together) for each in patterns)
        case _:
            return together


def parse(text: str) -> Plain:
    """Read `0.5`, `0.5/layer`, `0.5/128` or `2of4`; `str` of the result gives it back.

    Raises BadSetting for anything else.
    """
    match notation.pattern(text):
        case int(keep), int(of):
            return KeepOf(keep, of)
        case float(share), notation.ROW:
            return PerRow(share)
        case float(share), notation.LAYER:
            return PerLayer(share)
        case share, columns:
            assert isinstance(columns, int)
            return PerGroup(share, columns)


def _share(number: int, fraction: float | Fraction) -> int:
    return int(number * Fraction(str(fraction)))


def _keep_highest(score_RC: Tensor, drop: int) -> Tensor:
    """True but for the `drop` lowest of each row; of equal scores the first go."""
    rows, columns = score_RC.shape
    if drop == 0:
        return torch.ones_like(score_RC, dtype=torch.bool)
    if 1 < columns <= FEW:
        return _keep_of_few(score_RC, drop)
    # Selecting the threshold costs a fraction of a stable sort; only ties at it need an order.
    threshold_R1 = _lowest(score_RC, drop)
    keep_RC = score_RC > threshold_R1
    if nonzeros(keep_RC) == rows * (columns - drop):
        return keep_RC  # no row keeps more than this above its threshold
    spared_R = columns - keep_RC.sum(1) - drop
    for_ties = spared_R.nonzero().flatten()
    keep_RC[for_ties] = _keep_last_ties(
        score_RC[for_ties], threshold_R1[for_ties], spared_R[for_ties]
    )
    return keep_RC


def _lowest(score_RC: Tensor, place: int) -> Tensor:
    """The score at a place, counted from one, in the order of every row."""
    if score_RC.device.type != "cpu" or score_RC.dtype not in (torch.float32, torch.float64):
        return score_RC.kthvalue(place, dim=1, keepdim=True).values
    # NumPy's selection uses vector instructions: some eight times as fast as kthvalue on a CPU.
    parted_RC = np.partition(score_RC.numpy(), place - 1, axis=1)
    return torch.from_numpy(parted_RC[:, place - 1 : place].copy())


def _keep_of_few(score_RC: Tensor, drop: int) -> Tensor:
    """The same for rows of a few scores, by their places."""
    kept = [(_places(some_RC.T.contiguous()) >= drop).T for some_RC in score_RC.split(ROWS)]
    return kept[0] if len(kept) == 1 else torch.cat(kept)


def _places(score_CR: Tensor) -> Tensor:
    """How many scores of the same row go before each, found by comparing each with each.

    Numbers all the way: comparisons that give truth values, and those turned into numbers, take
    several times as long.
    """
    columns, rows = score_CR.shape
    not_above_CCR = torch.empty(columns, columns, rows, device=score_CR.device)
    torch.le(score_CR[:, None], score_CR, out=not_above_CCR)
    sign_CP, start_C1 = _signs(columns, score_CR.device)
    # small whole numbers, exact in float32
    return torch.addmm(start_C1, sign_CP, not_above_CCR.view(-1, rows))


@cache
def _signs(columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How the place of each score follows from P comparisons, each whether b's is not above c's."""
    sign_CCC = torch.zeros(columns, columns, columns)
    start_C1 = torch.zeros(columns, 1)
    for first, later in combinations(range(columns), 2):
        sign_CCC[later, first, later] = 1
        sign_CCC[first, first, later] = -1
        start_C1[first] += 1
    return sign_CCC.flatten(1).to(device), start_C1.to(device)


def _keep_last_ties(score_RC: Tensor, threshold_R1: Tensor, spared_R: Tensor) -> Tensor:
    """True above the threshold and for the last `spared` scores that equal it."""
    tied_RC = score_RC == threshold_R1
    place_RC = tied_RC.cumsum(1)
    drop_ties_R1 = place_RC[:, -1:] - spared_R[:, None]
    return (score_RC > threshold_R1) | (tied_RC & (place_RC > drop_ties_R1))
