"""A process that dies by SIGKILL: just before its n-th change of the disk, or at any moment."""

import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
import tqdm.auto

CHANGES = ("fsync", "replace", "rename", "rmdir", "unlink")


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread of torch: forked children must not touch OpenMP."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def killed_before(number: int, action: Callable[[], object]) -> bool:
    """Do `action` in a child that is killed before change `number` (from 0); False if it lived.

    The child must not use more than one thread of OpenMP, which a fork does not take along.
    """

    def armed() -> None:
        _arm(number)
        action()

    return _died(_child(armed))


def killed_after(seconds: float, action: Callable[[], object]) -> bool:
    """Do `action` in a child that is killed after so long, wherever it is; False if it was done."""
    child = _child(action)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return _died(child, status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return _died(child)


def _child(action: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that forks and threads go ill together
        child = os.fork()
    if child == 0:
        code = 1
        try:
            _do_not_share_bars()
            action()
            code = 0
        except BaseException:  # noqa: BLE001 -- the child must never come back into the test
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def _do_not_share_bars() -> None:
    """Take a lock of our own for progress bars.

    That of tqdm is shared by processes that fork: one that is killed while it holds the lock would
    stop all others for ever.
    """
    lock = RLock()
    for bar in (tqdm.tqdm, tqdm.auto.tqdm):
        bar.set_lock(lock)


def _died(child: int, status: int | None = None) -> bool:
    if status is None:
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
