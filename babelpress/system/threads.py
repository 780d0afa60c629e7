"""Pieces of work side by side, each on a thread of its own, or on a few.

The columns that a solver settles one after another are too small to be shared between threads:
two threads take longer for them than one, and where a neighbour keeps one of them waiting, many
times as long. So do the factors of LAPACK up to some thousand columns, and most of what a block
does besides its products. Sites and batches are independent of one another; they are what threads
share out. Sums keep their order, so results do not depend on who was first.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache
from math import inf
from threading import Condition
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

FEW = 4  # threads that together are hardly faster than one at short operations

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    cost: Callable[[Item], float] = lambda _: 0.0,
    most: int | None = None,
    need: Callable[[Item], int] | None = None,
) -> list[Result]:
    """What `work` makes of every item, in their order; the most costly are begun first.

    As many at a time as torch has threads, or at most `most`, which then have some threads each,
    however many items there are. With `need`, of any unit, those under way together never need
    more than the one that needs most does alone; threads have to wait for that, but each has as
    many as without. What `work` raises is raised here.
    """
    threads = torch.get_num_threads()
    at_once = min(threads, most or threads)
    each = threads // at_once
    with _threads(each):
        if at_once < 2 or len(items) < 2:
            return [work(item) for item in items]

        room = None if need is None else Room(max(map(need, items)))

        def run(place: int) -> tuple[int, Result]:
            item = items[place]
            held = nullcontext() if room is None or need is None else room.taken(need(item))
            with held, torch.no_grad():  # which holds for a thread alone
                return place, work(item)

        order = sorted(range(len(items)), key=lambda place: -cost(items[place]))
        # Without this a thread takes over what another one has set meanwhile.
        with ThreadPoolExecutor(
            min(at_once, len(items)), initializer=torch.set_num_threads, initargs=(each,)
        ) as pool:
            found = dict(pool.map(run, order))
    return [found[place] for place in range(len(items))]


class Room:
    """So much of something, of which pieces of work take what they need while they last."""

    def __init__(self, size: int):
        self._changed = Condition()
        self._left = size

    @contextmanager
    def taken(self, need: int) -> Iterator[None]:
        """Inside, so much is taken. Waits until there is as much; `need` is at most the size."""
        with self._changed:
            self._changed.wait_for(lambda: need <= self._left)
            self._left -= need
        try:
            yield
        finally:
            with self._changed:
                self._left += need
                self._changed.notify_all()


class Broken(Exception):
    """Another piece of work failed, whose turn came first."""


class Turns:
    """Lets numbered pieces of work pass each of some places one after another, in order."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next: dict[Hashable, int] = {}
        self._failed = inf  # the least number of a piece that did

    @contextmanager
    def turn(self, place: Hashable, number: int) -> Iterator[None]:
        """Inside, `number` is alone at this place, and all before it were there.

        Raises Broken where one of them never will be.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._next.get(place, 0) == number or self._failed < number
            )
            if self._failed < number:
                raise Broken
        yield
        with self._changed:
            self._next[place] = number + 1
            self._changed.notify_all()

    @contextmanager
    def taking_part(self, number: int) -> Iterator[None]:
        """Around a whole piece of work: where it fails, nobody waits for it."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._failed = min(self._failed, number)
                self._changed.notify_all()
            raise


@contextmanager
def alone() -> Iterator[None]:
    """Inside, torch works on one thread, unless there are many: for many short operations.

    To wake a thread and wait for it takes as long as going over what lies in a cache.
    """
    before = torch.get_num_threads()
    if before > FEW:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Inside, torch and LAPACK use so many; threads that begin there take that over."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with _libraries().limit(limits=number, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
