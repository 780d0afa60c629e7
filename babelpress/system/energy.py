"""The energy that processors have taken, as their own counters say it (RAPL, on Linux).

The counters are of whole packages: what other programs take meanwhile is in them, and memory and
graphics cards are not. Where the kernel shows none, or only to root, nothing is said.
"""

from dataclasses import dataclass
from pathlib import Path

PLACE = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:[0-9]*"  # AMD's are called so too; parts of a package have a second number
UNREADABLE = (
    "energy is not told: this machine shows no counter of it (RAPL under /sys/class/powercap) that "
    "may be read here."
)


@dataclass(frozen=True, slots=True)
class Counter:
    """One package: microjoules since some time, and where they begin anew."""

    path: Path
    most: int

    def read(self) -> int:
        """Microjoules. Raises OSError."""
        return int((self.path / "energy_uj").read_text())


def counters(place: Path = PLACE) -> list[Counter]:
    """The counters that can be read here."""
    found = []
    for path in sorted(place.glob(PACKAGES)):
        if path.name.count(":") > 1:
            continue
        try:
            counter = Counter(path, int((path / "max_energy_range_uj").read_text()))
            counter.read()
        except (OSError, ValueError):
            continue  # only root may, or the driver has none
        found.append(counter)
    return found


class Meter:
    """Joules since it was made, of all counters; None where there is none, or one was lost."""

    def __init__(self, place: Path = PLACE):
        self._counters = counters(place)
        self._before = self._read()

    def joules(self) -> float | None:
        """So far. A counter that began anew in between is taken to have done so once."""
        now = self._read()
        if not self._counters or len(now) != len(self._before):
            return None
        spent = 0
        for counter, before, after in zip(self._counters, self._before, now, strict=True):
            spent += after - before if after >= before else after - before + counter.most
        return spent / 1e6

    def _read(self) -> list[int]:
        try:
            return [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            return []
