"""Progress: whoever works says what is done, and someone may watch.

`progress("press: block", 3, 18)` is said when the third of eighteen is done, and 0 where they
begin; `remark` says a line that counts nothing. A command shows bars on a terminal and lines
elsewhere, a library call shows nothing.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from babelpress.system.escaping import clean

Progress = Callable[[str, int, int], None]  # what, done, total

SOON = 2.0  # seconds between lines at first
LATER = 60.0  # and at last: a line a minute
GROWTH = 20  # lines are apart a twentieth of the time that went by


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def remark(progress: Progress, line: str) -> None:
    """Say a line to whoever watches."""
    progress(line, 0, 0)


def within(progress: Progress, place: str) -> Progress:
    """Progress of a part of something: what is said there is said with the place before it."""

    def watch(what: str, done: int, total: int) -> None:
        progress(f"{place}: {what.removeprefix('press: ')}", done, total)

    return watch


def ago(seconds: float) -> str:
    """A span of time in words, rough: `40 s`, `2 min`, `1 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Lines:
    """Lines on standard error, for a log: a line a block where blocks are slow, else now and then.

    A block of minutes gets a line a minute. Remarks are always said.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._stream = clock, sys.stderr
        self._began = self._said = self._heard = clock()
        self._since: dict[str, float] = {}  # when what is being done began
        self._now: tuple[str, int, int] | None = None
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> "Lines":
        threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Progress."""
        with self._lock:
            if not total:
                self._say(what)
                return
            began = self._since.setdefault(what, self._heard if done else self._clock())
            self._heard = self._clock()
            self._now = (what, done, total)
            if not done:  # it begins
                return
            if done >= total:
                del self._since[what]
                self._now = None
            if self._heard - self._said >= self._pause():
                self._say(_line(what, done, total, self._heard - began))

    def tick(self) -> None:
        """Say what is being done, where nothing was said for a minute."""
        with self._lock:
            if self._clock() - self._said < LATER:
                return
            if self._now is None:
                self._say(f"at work, {ago(self._clock() - self._began)}")
            else:
                what, done, total = self._now
                spent = ago(self._clock() - self._since[what])
                self._say(f"{what} {done + 1} of {total} at work, {spent}")

    def _pause(self) -> float:
        return min(LATER, max(SOON, (self._clock() - self._began) / GROWTH))

    def _say(self, line: str) -> None:
        self._said = self._clock()
        print(clean(line), file=self._stream, flush=True)

    def _wait(self) -> None:
        while not self._over.wait(LATER / 4):
            self.tick()


class Bars:
    """Bars on a terminal, which go when the work is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Rich

        self._bars = Rich(console=Console(stderr=True), transient=True)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Progress."""
        if not total:
            self._bars.console.print(clean(what), markup=False, highlight=False, soft_wrap=True)
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        shown = f"{what} {done} of {total}"
        self._bars.update(self._tasks[what], completed=done, total=total, description=shown)


def _line(what: str, done: int, total: int, seconds: float) -> str:
    left = seconds / done * (total - done) if done else 0.0
    to_go = f", about {ago(left)} to go" if 0 < done < total else ""
    return f"{what} {done} of {total}, {ago(seconds)}{to_go}"
