"""Pieces of work that read one stream: each item is made once, and all have it in their turn.

A piece runs until it wants the next item, and then the next piece does; only one is ever at work,
on a thread of its own. What is set for the whole process while it works (the precision of products,
what freed memory does) is never seen by another, as long as no piece wants an item inside of that.
"""

from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from threading import Thread
from traceback import clear_frames
from typing import Generic, TypeVar

import torch

from babelpress.system.cost import waiting

Item = TypeVar("Item")
Take = Callable[[], Item]  # waits for the next item
Work = Callable[[Take[Item]], None]


def in_turn(items: Iterable[Item], works: Sequence[Work[Item]]) -> list[Exception | None]:
    """Do all work; what each raised, or None, in their order. Work may end before the items do.

    An item is let go before the next one is made. What making one raises, and Ctrl-C, is raised
    here, after KeyboardInterrupt was raised in every piece that still waits. Work that wants more
    items than there are is a fault.
    """
    pieces = [_Piece(work) for work in works]
    try:
        going = [piece for piece in pieces if piece.begin()]
        for item in items if going else ():
            going = [piece for piece in going if piece.go_on(item)]
            del item  # before the next one is made
            if not going:
                break
        assert not going, "there are no more items"
    finally:
        for piece in pieces:
            piece.stop()
    for piece in pieces:
        if isinstance(piece.error, BaseException) and not isinstance(piece.error, Exception):
            raise piece.error
    return [piece.error if isinstance(piece.error, Exception) else None for piece in pieces]


class _Piece(Generic[Item]):
    """One piece of work, which stops where it wants an item."""

    def __init__(self, work: Work[Item]):
        self.error: BaseException | None = None
        self._work = work
        self._given: SimpleQueue[tuple[Item] | None] = SimpleQueue()
        self._wants: SimpleQueue[bool] = SimpleQueue()
        threads = torch.get_num_threads()  # which a new thread does not take over
        self._thread = Thread(target=self._run, args=(threads,), daemon=True)

    def begin(self) -> bool:
        """Let it work until it wants an item; False where it has ended."""
        self._thread.start()
        return self._wants.get()

    def go_on(self, item: Item) -> bool:
        """Let it go on with an item until it wants another one; False where it has ended."""
        self._given.put((item,))
        del item
        return self._wants.get()

    def stop(self) -> None:
        """Interrupt it where it waits, and wait for its end."""
        if self._thread.ident is None:
            return
        self._given.put(None)
        self._thread.join()

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)
        try:
            self._work(self._take)
        except BaseException as error:  # noqa: BLE001 - it is raised or told by whoever waits
            self.error = error
            _let_go(error)
        finally:
            self._wants.put(False)

    def _take(self) -> Item:
        self._wants.put(True)
        with waiting():
            given = self._given.get()
        if given is None:
            raise KeyboardInterrupt
        return given[0]


def _let_go(error: BaseException | None) -> None:
    """Forget what the calls held that an error came through, such as the item: others go on."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
