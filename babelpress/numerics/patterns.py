"""Sparsity patterns: which weights stay, given a score for each.

Shapes: O outputs, I inputs of one linear layer; B columns that a solver takes at a time,
inputs first.
The lowest scores go, ties by position, and exactly as many as asked: fractions are read as the
decimals that were written, so 0.29 of 100 is 29, where binary floats would give 28.
The published SparseGPT, and the magnitude baseline beside the published Wanda, take a threshold
instead and lose one more, and all ties.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from babelpress.errors import BadLayer
from babelpress.numerics import notation
from babelpress.numerics.selecting import FEW, keep_highest, places

SPARSEGPT_GROUP = 128


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
        return keep_highest(score_OI, _share(score_OI.shape[1], self.fraction))

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """`keep` for the columns from `start` on; the parts of a row add up to its exact count."""
        end = start + len(score_BO)
        assert end <= total_columns
        drop = _share(end, self.fraction) - _share(start, self.fraction)
        return keep_highest(score_BO.T, drop).T


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
        return keep_highest(score_OI.reshape(1, -1), drop).reshape(score_OI.shape)

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
        return keep_highest(score_BO.T.reshape(1, -1), drop).reshape(rows, width).T


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
        return keep_highest(score_OI.reshape(-1, self.of), drop).reshape(score_OI.shape)

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """`keep` for the group that begins at `start`, in numbers: 1 where a weight stays, or 0."""
        assert start % self.of == 0
        assert len(score_BO) == self.of
        self._check_columns(total_columns)
        drop = self.of - self.keep_count
        if self.of > FEW:
            return keep_highest(score_BO.T, drop).T.float()
        return places(score_BO).ge_(drop)

    def _check_columns(self, columns: int) -> None:
        if columns % self.of:
            raise BadLayer(
                f"{self} needs a number of inputs that {self.of} divides; this layer has "
                f"{columns}. Leave it out with --skip, or use --pattern 0.5."
            )


@dataclass(frozen=True, slots=True)
class Spared:
    """A pattern of a linear of which some rows and columns stay whole; others go in their place.

    As many weights go as without. Where every row is to lose its share, the other rows lose what
    those that stay whole do not: equally many, and the first of them one more. A solver that sees
    some columns at a time takes of them what their share of the columns that may go is.
    """

    plain: "Plain"
    rows: frozenset[int] = frozenset()
    columns: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.plain}"

    def count(self, rows: int, columns: int) -> int:
        """How many weights go. Raises BadLayer where too few of those may that are to."""
        total, others = self.plain.count(rows, columns), rows - len(self.rows)
        match self.plain:
            case KeepOf(keep_count=keep, of=of):
                if self.rows and total:
                    raise BadLayer(
                        f"{self} takes weights of every row, so that none can stay whole. "
                        "Protect columns only, or use --pattern 0.5."
                    )
                self._check_groups(keep, of, columns)
            case PerGroup(fraction=fraction, columns=width):
                for start in range(0, columns, width):
                    end = min(start + width, columns)
                    drop = _share(rows * end, fraction) - _share(rows * start, fraction)
                    where = f"columns {start} to {end - 1} of this layer"
                    self._check(drop, others * self._free(start, end), where)
            case _:
                self._check(total, others * self._free(0, columns), "this layer")
        return total

    def keep(self, score_OI: Tensor) -> Tensor:
        """True where a weight stays. Raises BadLayer as `count`."""
        self.count(*score_OI.shape)
        if isinstance(self.plain, PerRow):
            return self.keep_among(score_OI.T, 0, score_OI.shape[1]).T
        return self.plain.keep(score_OI.masked_fill(self.spared(score_OI, 0), torch.inf))

    def keep_among(self, score_BO: Tensor, start: int, total_columns: int) -> Tensor:
        """As the pattern's own; the parts of a row, a group or the layer add up to exact counts."""
        score_OB = score_BO.T
        score_OB = score_OB.masked_fill(self.spared(score_OB, start), torch.inf)
        if not isinstance(self.plain, PerRow):
            return self.plain.keep_among(score_OB.T, start, total_columns)
        keep_OB = torch.ones_like(score_OB, dtype=torch.bool)
        drop_O = self._drops(len(score_OB), start, start + len(score_BO), total_columns)
        for drop in drop_O.unique().tolist():
            rows_O = (drop_O == drop).to(score_OB.device)
            keep_OB[rows_O] = keep_highest(score_OB[rows_O].contiguous(), drop)
        return keep_OB.T

    def spared(self, score_OB: Tensor, start: int) -> Tensor:
        """True where a weight must stay, of the columns from `start` on."""
        spared_OB = torch.zeros_like(score_OB, dtype=torch.bool)
        end = start + score_OB.shape[1]
        spared_OB[sorted(self.rows)] = True
        spared_OB[:, [column - start for column in self.columns if start <= column < end]] = True
        return spared_OB

    def _drops(self, rows: int, start: int, end: int, total_columns: int) -> Tensor:
        """How many weights of every row go, of these columns."""
        others = [row for row in range(rows) if row not in self.rows]
        drop_O, free = torch.zeros(rows, dtype=torch.long), self._free(0, total_columns)
        if others and free:
            each, more = divmod(self.plain.count(rows, total_columns), len(others))
            drop_O[others] = each
            drop_O[others[:more]] += 1
            before, so_far = self._free(0, start), self._free(0, end)
            drop_O = drop_O * so_far // free - drop_O * before // free
        return drop_O

    def _free(self, start: int, end: int) -> int:
        """How many of these columns may go."""
        return end - start - sum(start <= column < end for column in self.columns)

    def _check(self, drop: int, free: int, where: str) -> None:
        if drop > free:
            raise BadLayer(
                f"{self} takes {drop} weights of {where}, where protection leaves {free}. "
                "Protect less, or prune less."
            )

    def _check_groups(self, keep: int, of: int, columns: int) -> None:
        for start in range(0, columns, of):
            if (free := self._free(start, start + of)) < of - keep:
                raise BadLayer(
                    f"{self} takes {of - keep} of inputs {start} to {start + of - 1}, where "
                    f"protection leaves {free}. Protect at most {keep} of them."
                )


@dataclass(frozen=True, slots=True)
class Stacked:
    """Patterns of linears that read the same input and lie on top of one another.

    `rows` says how many rows each linear has; each gets its own exact count.
    """

    patterns: "tuple[Plain | Spared, ...]"
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
Pattern = Plain | Spared | Stacked


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
        case Spared(plain=plain):
            return chosen_together(plain, columns, total_columns)
        case Stacked(patterns=patterns):
            return max(chosen_together(each, columns, total_columns) for each in patterns)


def most_dropped(pattern: Pattern, together: int) -> int:
    """How many weights of a row go at most, among those that are chosen together."""
    match pattern:
        case KeepOf(keep_count=keep_count, of=of):
            return of - keep_count
        case Spared(plain=plain):
            return most_dropped(plain, together)
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
