"""Work that takes turns at one stream, against what each would see of it alone."""

import signal
import time
import weakref
from _thread import interrupt_main

import pytest
import torch

from babelpress.system.cost import measured
from babelpress.system.in_turn import in_turn


class Item:
    """Something large, as far as anyone can tell."""

    def __init__(self, number):
        self.number = number


def items(count, log, alive=None):
    for number in range(count):
        log.append(f"make {number}")
        item = Item(number)
        if alive is not None:
            alive.append(weakref.ref(item))
        yield item
        del item


def reader(name, log, wants):
    def work(take):
        for _ in range(wants):
            number = take().number
            log.append(f"{name} {number}")
        log.append(f"{name} ends")

    return work


def test_every_piece_has_every_item_in_its_turn_and_each_is_made_once():
    log = []

    errors = in_turn(items(3, log), [reader("a", log, 3), reader("b", log, 1)])

    assert errors == [None, None]
    expected = ["make 0", "a 0", "b 0", "b ends", "make 1", "a 1", "make 2", "a 2", "a ends"]
    assert log == expected


def test_an_item_is_gone_before_the_next_one_is_made():
    alive, seen = [], []

    def made():
        for item in items(4, [], alive):
            seen.append(sum(each() is not None for each in alive))
            yield item
            del item

    def work(take):
        for _ in range(4):
            item = take()
            assert item.number >= 0
            del item

    assert in_turn(made(), [work, work]) == [None, None]
    assert seen == [1, 1, 1, 1]


def test_one_that_fails_stops_no_other_and_nothing_is_made_for_nobody():
    log = []

    def fails(take):
        take()
        raise ValueError("mine")

    errors = in_turn(items(9, log), [fails, reader("b", log, 2)])

    assert isinstance(errors[0], ValueError) and errors[1] is None
    assert log == ["make 0", "b 0", "make 1", "b 1", "b ends"]
    log.clear()
    assert in_turn(items(9, log), [reader("c", log, 0)]) == [None]
    assert log == ["c ends"]


def test_one_that_failed_holds_no_item_while_others_go_on():
    alive, seen = [], []

    def fails(take):
        item = take()
        try:
            raise KeyError(item.number)
        except KeyError as error:
            raise ValueError("mine") from error

    def goes_on(take):
        for _ in range(3):
            take()
            seen.append([each() is not None for each in alive])

    errors = in_turn(items(3, [], alive), [fails, goes_on])

    assert isinstance(errors[0], ValueError)
    assert [each[0] for each in seen] == [True, False, False]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_what_stops_the_stream_is_raised_here_and_interrupts_all_that_wait(kind):
    stopped = []

    def stops():
        yield Item(0)
        raise kind("now")

    def work(take):
        try:
            take()
            take()
        except KeyboardInterrupt:
            stopped.append(True)
            raise

    with pytest.raises(kind, match="now"):
        in_turn(stops(), [work, work])
    assert stopped == [True, True]


@pytest.fixture
def ctrl_c():
    """Interrupts are heard, also in the background of a shell, which has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_piece_works_stops_it_where_it_wants_its_next_item():
    log = []

    def interrupted(take):
        take()
        interrupt_main()
        time.sleep(0.1)
        log.append("a goes on")
        try:
            take()
        except KeyboardInterrupt:
            log.append("a stops")
            raise

    with pytest.raises(KeyboardInterrupt):
        in_turn(items(2, log), [interrupted, reader("b", log, 2)])
    assert log == ["make 0", "a goes on", "a stops"]


def test_who_wants_more_than_there_is_is_not_waited_for():
    with pytest.raises(AssertionError, match="no more items"):
        in_turn(items(1, []), [reader("a", [], 2)])


def test_waiting_for_others_is_no_cost_and_threads_are_those_of_the_caller():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    seen = []

    def quick(take):
        with measured() as cost:
            take()
            take()
        seen.append((cost["seconds"], torch.get_num_threads()))

    def slow(take):
        take()
        time.sleep(0.4)
        take()

    try:
        in_turn(items(2, []), [quick, slow])
    finally:
        torch.set_num_threads(before)
    ((seconds, threads),) = seen
    assert seconds < 0.3
    assert threads == 1
