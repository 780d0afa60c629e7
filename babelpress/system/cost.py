"""What work costs: seconds, and memory at its peak.

Tested in tests/runs/test_run.py.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from babelpress.system.memory import peak


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """What the work inside costs, known when it is done: seconds, and memory at the peak.

    Memory is that which the system cannot take back (`memory.py`).
    """
    cost: dict[str, float] = {}
    start = time.monotonic()
    with peak() as most:
        yield cost
    cost["seconds"] = round(time.monotonic() - start, 3)
    cost["peak_memory_mib"] = round(most.bytes / 2**20, 1)
