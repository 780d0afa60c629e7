"""What work costs: seconds, and memory at its peak.

Tested in tests/runs/test_run.py and tests/system/test_in_turn.py.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from babelpress.system.memory import peak

_WAITED: ContextVar[float] = ContextVar("seconds of waiting", default=0.0)


@contextmanager
def waiting() -> Iterator[None]:
    """Inside, this thread waits for others: that is no cost of its work."""
    start = time.monotonic()
    yield
    _WAITED.set(_WAITED.get() + time.monotonic() - start)


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """What the work inside costs, known when it is done: seconds, and memory at the peak.

    Memory is that which the system cannot take back (`memory.py`).
    """
    cost: dict[str, float] = {}
    start = time.monotonic() - _WAITED.get()
    with peak() as most:
        yield cost
    cost["seconds"] = round(time.monotonic() - _WAITED.get() - start, 3)
    cost["peak_memory_mib"] = round(most.bytes / 2**20, 1)
