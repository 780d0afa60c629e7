"""Work that may end early: Ctrl-C then keeps the best so far as a finished thing.

A command that does one thing says so; where several are done one after the other, as in a sweep,
Ctrl-C ends all, and what was at work goes on when the same command is given again.

Tested in tests/steps/test_recover.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MAY: ContextVar[bool] = ContextVar("may end early", default=False)


@contextmanager
def may_end_early(may: bool = True) -> Iterator[None]:
    """Inside, work may end early, or may not."""
    token = _MAY.set(may)
    try:
        yield
    finally:
        _MAY.reset(token)


def ends_early() -> bool:
    """Whether Ctrl-C ends this work, and not all."""
    return _MAY.get()
