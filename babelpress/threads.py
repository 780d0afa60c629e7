"""Pieces of work side by side, each on one thread.

The columns that a solver settles one after another are too small to be shared between threads:
two threads take longer for them than one, and where a neighbour keeps one of them waiting, many
times as long. So do the factors of LAPACK up to some thousand columns. Sites are independent of one
another; they, not their columns, are what threads share out. Results do not depend on how many
there are.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    cost: Callable[[Item], float] = lambda _: 0.0,
) -> list[Result]:
    """What `work` makes of every item, in their order; the most costly are begun first.

    As many at a time as torch has threads. What `work` raises is raised here.
    """
    at_once = min(torch.get_num_threads(), len(items))
    with _one_thread_each():
        if at_once < 2:
            return [work(item) for item in items]

        def run(place: int) -> tuple[int, Result]:
            with torch.no_grad():  # which holds for a thread alone
                return place, work(items[place])

        order = sorted(range(len(items)), key=lambda place: -cost(items[place]))
        with ThreadPoolExecutor(at_once) as pool:
            found = dict(pool.map(run, order))
    return [found[place] for place in range(len(items))]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Inside, torch and LAPACK use one thread; threads that begin there take that over."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
