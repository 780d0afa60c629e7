"""Work side by side: the same results in the same order, whatever the number of threads."""

import threading

import pytest
import torch

from babelpress.threads import side_by_side


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
