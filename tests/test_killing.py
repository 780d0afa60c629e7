"""Who is killed takes nothing along that others wait for."""

import time
from threading import Thread

import tqdm.auto
from killing import killed_after


def test_the_lock_of_progress_bars_does_not_die_with_a_child():
    list(tqdm.auto.tqdm(range(2), disable=True))  # the lock is made with the first bar

    def hold():
        with tqdm.auto.tqdm.get_lock():
            time.sleep(60)

    assert killed_after(0.3, hold)
    later = Thread(target=lambda: list(tqdm.auto.tqdm(range(2), disable=True)), daemon=True)
    later.start()
    later.join(20)
    assert not later.is_alive()
