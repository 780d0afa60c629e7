"""Work side by side: the same results in the same order, whatever the number of threads."""

import threading
import time

import pytest
import torch

from babelpress.system.threads import Room, Turns, side_by_side


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(threads):
    assert side_by_side(lambda n: n * n, range(7), cost=float) == [0, 1, 4, 9, 16, 25, 36]
    assert side_by_side(str, []) == []
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_the_costly_begin_first(threads):
    begun, gate = [], threading.Barrier(2, timeout=20)

    def work(item):
        begun.append(item)
        gate.wait()

    side_by_side(work, [1, 9, 2, 8], cost=float)

    assert set(begun[:2]) == {8, 9}  # both at a time, or the barrier would break


def test_each_has_one_thread_and_no_gradients(threads):
    with torch.no_grad():
        found = side_by_side(
            lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(threads)
        )

    assert found == [(1, False)] * threads


def test_what_goes_wrong_is_raised_and_threads_are_as_before(threads):
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, [1, 0, 2])

    assert torch.get_num_threads() == threads


# ---- what there is too little of -----------------------------------------------------------


class Watched:
    """Work that takes what it needs for a while; `most` is what was taken at once."""

    def __init__(self):
        self.now, self.most, self.together, self._lock = 0, 0, 0, threading.Lock()
        self._running = 0

    def __call__(self, need):
        with self._lock:
            self.now, self._running = self.now + need, self._running + 1
            self.most, self.together = max(self.most, self.now), max(self.together, self._running)
        time.sleep(0.02)
        with self._lock:
            self.now, self._running = self.now - need, self._running - 1
        return torch.get_num_threads(), need


@pytest.mark.parametrize("threads", [4], indirect=True)
@pytest.mark.parametrize("cost", [float, lambda need: -need], ids=["largest first", "last"])
def test_those_together_need_no_more_than_the_largest_alone(threads, cost):
    needs, work = [3, 9, 4, 2, 8, 1, 1], Watched()

    found = side_by_side(work, needs, cost=cost, need=int)

    assert found == [(1, need) for need in needs]  # as many threads as without
    assert work.most <= 9 and work.together > 1


def test_what_fails_leaves_room_for_the_next():
    room, done = Room(5), []

    def fails():
        with room.taken(5):
            raise ValueError("five")

    def follows():
        with room.taken(4):
            done.append(4)

    with pytest.raises(ValueError, match="five"):
        fails()
    thread = threading.Thread(target=follows, daemon=True)
    thread.start()
    thread.join(timeout=20)

    assert done == [4]


# ---- taking turns --------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [4], indirect=True)
def test_turns_keep_the_order_of_numbers_at_every_place(threads):
    turns, order = Turns(), {"a": [], "b": []}

    def work(number):
        for place, order_there in order.items():
            time.sleep(0.01 * ((7 * number) % 4))  # later ones are often there first
            with turns.turn(place, number):
                order_there.append(number)

    side_by_side(work, range(12), most=4)

    assert order == {"a": list(range(12)), "b": list(range(12))}


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_nobody_waits_for_the_turn_of_one_that_failed(threads):
    turns, done = Turns(), []

    def work(number):
        with turns.taking_part(number):
            if number == 2:
                raise ValueError("two")
            with turns.turn("here", number):
                done.append(number)

    with pytest.raises(ValueError, match="two"):
        side_by_side(work, range(20), most=3)

    assert done == [0, 1]


@pytest.mark.parametrize("threads", [4], indirect=True)
@pytest.mark.parametrize(("most", "each"), [(2, 2), (3, 1), (1, 4), (9, 1)])
def test_threads_are_shared_out(threads, most, each):
    assert side_by_side(lambda _: torch.get_num_threads(), range(9), most=most) == [each] * 9
