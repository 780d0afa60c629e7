"""A process that dies, by SIGKILL, just before its n-th change of the disk."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

CHANGES = ("fsync", "replace", "rename", "rmdir", "unlink")


def killed_before(number: int, action: Callable[[], object]) -> bool:
    """Do `action` in a child that is killed before change `number` (from 0); False if it lived.

    The child must not use more than one thread of OpenMP, which a fork does not take along.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that forks and threads go ill together
        child = os.fork()
    if child == 0:
        code = 1
        try:
            _arm(number)
            action()
            code = 0
        except BaseException:  # noqa: BLE001 -- the child must never come back into the test
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, "the child failed; its traceback is above"
    return False


def _arm(number: int) -> None:
    left = [number]

    def dying(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return change(*arguments, **options)

        return wrapper

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))
