"""The memory of this process: how much it needs at its peak, and giving back what it does not.

What counts is what the system cannot take back; pages of mapped files do not, for they are read
again when they are needed. It is sampled from /proc, so short peaks may be missed, and where there
is no /proc nothing is known.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STATM = Path("/proc/self/statm")
PAGE = 4096
EVERY = 0.01  # seconds
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
MOST = 32 << 20  # bytes: the highest threshold that it takes for the second
KEPT = 1 << 30  # bytes
LARGE = 4 << 20  # bytes: to clear new memory for every smaller tensor takes longer than its work


@dataclass(slots=True, eq=False)
class Peak:
    """The most memory so far, in bytes; 0 where it cannot be known."""

    bytes: int = 0


@contextmanager
def peak() -> Iterator[Peak]:
    """Watch the memory of this process while the work inside is done: one thread for all peaks."""
    found = Peak(used())
    with _WATCH.lock:
        _WATCH.peaks.append(found)
        if len(_WATCH.peaks) == 1:
            _WATCH.stop = threading.Event()
            _WATCH.thread = threading.Thread(target=_sample, args=(_WATCH.stop,), daemon=True)
            _WATCH.thread.start()
    try:
        yield found
    finally:
        with _WATCH.lock:
            _WATCH.peaks.remove(found)
            last = None if _WATCH.peaks else _WATCH.thread
            if last is not None:
                _WATCH.stop.set()
        if last is not None:
            last.join()
        found.bytes = max(found.bytes, used())


def _sample(stop: threading.Event) -> None:
    while not stop.wait(EVERY):
        now = used()
        with _WATCH.lock:
            for each in _WATCH.peaks:
                each.bytes = max(each.bytes, now)


def used() -> int:
    """Memory of this process now, in bytes, without pages of mapped files."""
    if not STATM.exists():
        return 0
    _, resident, mapped, *_ = STATM.read_text().split()
    return (int(resident) - int(mapped)) * PAGE


def physical() -> int:
    """The memory of the machine, in bytes; 0 where it cannot be known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def give_back() -> None:
    """Return freed memory to the system.

    The C library keeps what freed tensors leave between those that live: after some hundred
    megabytes of hidden states and Gram matrices came and went, several times what is in use.
    """
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def give_back_at_once() -> None:
    """From now on, whatever is large is returned to the system as soon as it is freed.

    What the C library keeps otherwise is half of what pressing a block needs. It costs time, for
    new memory has to be cleared, so it is for those who are short of memory.
    """
    _CHOSEN.at_once = True
    if _LIBC is not None:
        _LIBC.mallopt(M_MMAP_THRESHOLD, LARGE)


@contextmanager
def short_for_now() -> Iterator[None]:
    """What `give_back_at_once` sets inside ends with the block, for work that others follow."""
    before = _CHOSEN.at_once
    try:
        yield
    finally:
        if _CHOSEN.at_once and not before:
            _CHOSEN.at_once = False
            if _LIBC is not None:
                _LIBC.mallopt(M_MMAP_THRESHOLD, MOST)
                _LIBC.mallopt(M_TRIM_THRESHOLD, 2 * MOST)  # as `at_hand` leaves it


def short() -> bool:
    """Whether memory is short, as `give_back_at_once` was told."""
    return _CHOSEN.at_once


@contextmanager
def large_goes_back() -> Iterator[None]:
    """Inside, what is large is returned to the system as soon as it is freed.

    Matrices as large as a linear, of several threads, would otherwise be kept for the next ones.
    """
    if _LIBC is None or _CHOSEN.at_once:
        yield
        return
    _LIBC.mallopt(M_MMAP_THRESHOLD, LARGE)
    try:
        yield
    finally:
        if not _CHOSEN.at_once:
            _LIBC.mallopt(M_MMAP_THRESHOLD, MOST)


@contextmanager
def at_hand() -> Iterator[None]:
    """Inside, freed memory is kept for the next tensor; not after `give_back_at_once`.

    To clear new memory takes a seventh of a pass over a block.
    """
    if _LIBC is None or _CHOSEN.at_once:
        yield
        return
    _LIBC.mallopt(M_MMAP_THRESHOLD, MOST)
    _LIBC.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        _LIBC.mallopt(M_TRIM_THRESHOLD, 2 * MOST)  # what the library itself arrives at


@dataclass(slots=True)
class _Watch:
    """Whose peaks are watched, and by what thread."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    peaks: list[Peak] = field(default_factory=list[Peak])
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


@dataclass(slots=True)
class _Chosen:
    """Whether memory is given back at once: a setting of the whole process, as the C library's."""

    at_once: bool = False


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        _ = library.malloc_trim, library.mallopt
    except (OSError, AttributeError):
        return None  # another C library, which has no such calls
    return library


_LIBC = _glibc()
_WATCH = _Watch()
_CHOSEN = _Chosen()
