"""A score of one model in one language, kept document by document (D of them).

Every score is a ratio of sums: bits per byte is bits over bytes, accuracy is hits over questions.
Because the parts of each document are kept, two models can be compared on the same documents.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from babelpress.errors import BadRun
from babelpress.system.files import write_bytes

_COLUMNS = ("document", "numerator", "denominator")


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The parts of a ratio of sums, one row a document; document ids are unique."""

    documents: tuple[str, ...]
    numerator_D: np.ndarray
    denominator_D: np.ndarray

    def __post_init__(self) -> None:
        assert self.numerator_D.shape == self.denominator_D.shape == (len(self.documents),)
        assert len(set(self.documents)) == len(self.documents), "a document is tallied twice"

    @property
    def value(self) -> float:
        """Sum of numerators over sum of denominators."""
        return float(self.numerator_D.sum() / self.denominator_D.sum())

    def interval(self, *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
        """The 95 % interval of the value: percentile bootstrap over documents (R draws).

        Draws in which the denominator is zero are left out.
        """
        count = len(self.documents)
        rng = np.random.default_rng(seed)
        counts_RD = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        top_R, bottom_R = counts_RD @ self.numerator_D, counts_RD @ self.denominator_D
        some_R = bottom_R > 0
        low, high = np.quantile(top_R[some_R] / bottom_R[some_R], [0.025, 0.975])
        return float(low), float(high)

    def save(self, path: Path) -> None:
        """Write parquet with columns document, numerator, denominator; whole or not at all."""
        # pyarrow takes a fifth of a second to import, and `babelpress --help` needs none of it.
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = (list(self.documents), self.numerator_D, self.denominator_D)
        buffer = io.BytesIO()
        pq.write_table(pa.table(dict(zip(_COLUMNS, columns, strict=True))), buffer)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Tally":
        """Read what `save` wrote; raise BadRun for a missing, cut or foreign file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path, columns=list(_COLUMNS))
            names, numerator, denominator = (table[name] for name in _COLUMNS)
            documents = tuple(names.to_pylist())
            numerator_D = numerator.to_numpy().astype(np.float64)
            denominator_D = denominator.to_numpy().astype(np.float64)
        except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise _unreadable(path, why) from error
        if not _are_parts(documents, numerator_D, denominator_D):
            raise _unreadable(path, "documents without a name of their own, or no numbers")
        return cls(documents, numerator_D, denominator_D)


def _are_parts(documents: tuple[object, ...], *parts: np.ndarray) -> bool:
    """Whether names are unique words, numbers finite, and denominators add up to something."""
    _, denominator_D = parts
    return (
        all(isinstance(name, str) for name in documents)
        and len(set(documents)) == len(documents)
        and all(bool(np.isfinite(part_D).all()) for part_D in parts)
        and bool((denominator_D >= 0).all() and denominator_D.sum() > 0)
    )


def _unreadable(path: Path, why: str) -> BadRun:
    return BadRun(
        f"{path} cannot be read as a tally ({why}). "
        "Evaluate this model again with `babelpress eval`."
    )
