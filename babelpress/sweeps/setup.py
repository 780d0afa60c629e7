"""What a job of a sweep is, and what all of them share.

Tested in tests/sweeps/test_plan.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from babelpress.sweeps.results import Shelf
from babelpress.system.progress import Progress


@dataclass(frozen=True, slots=True)
class Setup:
    """What all jobs of a sweep share; `out` is one folder for all machines."""

    out: Path
    results: str
    device: str = "cpu"
    keep_models: bool = False

    @property
    def shelf(self) -> Shelf:
        """Where the rows go."""
        return Shelf(self.results)


class Job(Protocol):
    """Something to do once; `needs` are the names of jobs that must be done before."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def size(self) -> "Tried | None":
        """The dry run that tells its memory: it waits for that, but does not hang on it."""
        ...

    def done(self, setup: Setup) -> bool:
        """Whether what it makes is there and whole."""
        ...

    def do(self, setup: Setup, progress: Progress) -> None:
        """Do it. Raises a BabelpressError for what a user must mend."""
        ...


class Tried(Job, Protocol):
    """A dry run."""

    def memory(self, out: Path) -> int:
        """Bytes at the worst moment; 0 where nobody found out."""
        ...
