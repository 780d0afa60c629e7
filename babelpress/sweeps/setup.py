"""What a job of a sweep is, who does it, and what all of them share.

Tested in tests/sweeps/test_plan.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from babelpress.sweeps.results import Shelf
from babelpress.system.progress import Progress


@dataclass(frozen=True, slots=True)
class Setup:
    """What all jobs of a sweep share; `out` is one folder for all machines.

    With `one_pass` recipes of one model and text are pressed together, block by block.
    """

    out: Path
    results: str
    device: str = "cpu"
    keep_models: bool = False
    one_pass: bool = False

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


class Hands(Protocol):
    """Who does jobs.

    `apart`: languages are seen one a job, as many hands at once like it. `sized`: they want to know
    what memory a job takes.
    """

    apart: bool
    sized: bool

    def give(self, job: Job) -> None:
        """Have a job done; what it needs is there."""
        ...

    def take(self) -> tuple[Job, str]:
        """A job that has ended, and its error or nothing; waits for one."""
        ...
