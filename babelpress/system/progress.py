"""Progress: whoever works says what is done, and someone may watch.

Tested in tests/test_cli.py.
"""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what, done, total


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""
