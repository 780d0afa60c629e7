"""A stopwatch of phases that exclude one another, for every side of the benchmark.

A phase that begins inside another one stops that one's clock until it ends, so that the phases of a
process add up to its time. Functions of other packages are timed by putting a timed one in their
place; nothing of them is changed. What threads do side by side counts as their part of the time.
Only the standard library is used: this runs in environments that
have no babelpress. Linux only (/proc).
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from threading import Lock, current_thread, main_thread
from typing import Any

STARTED = time.perf_counter()


class Clock:
    """Seconds by phase; `rest` is what no phase claims. `side_by_side` threads share one's time."""

    def __init__(self, side_by_side: int = 1) -> None:
        self.side_by_side = side_by_side
        self._lock = Lock()
        self.seconds: dict[str, float] = {"rest": 0.0}
        self._names = ["rest"]
        self._since = STARTED

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body under a name."""
        if current_thread() is not main_thread():
            start = time.perf_counter()
            yield
            self._claim(name, (time.perf_counter() - start) / self.side_by_side)
            return
        self._turn()
        self._names.append(name)
        try:
            yield
        finally:
            self._turn()
            self._names.pop()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Time every call of a function of a module or a class."""
        plain: Callable[..., Any] = getattr(owner, attribute)

        @wraps(plain)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return plain(*args, **kwargs)

        setattr(owner, attribute, timed)

    def write(self, path: Path, **facts: Any) -> None:
        """The phases so far, the time since the start, and facts, as JSON."""
        self._turn()
        call = sum(self.seconds.values())
        phases = {name: round(seconds, 4) for name, seconds in self.seconds.items()}
        told = {
            "inside_s": round(call, 4),
            "peak_mib": round(peak_mib(), 1),
            "phases": phases,
            **facts,
        }
        path.write_text(json.dumps(told))

    def _claim(self, name: str, seconds: float) -> None:
        """Time of another thread, which the main thread waits for in its own phase."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self.seconds[self._names[-1]] = self.seconds.get(self._names[-1], 0.0) - seconds

    def _turn(self) -> None:
        now = time.perf_counter()
        name = self._names[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def peak_mib() -> float:
    """The most memory that this program has held."""
    # Not getrusage: its ru_maxrss begins with what the parent held when it started this process.
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
