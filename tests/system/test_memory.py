"""Freed memory is at hand while blocks run, and goes back to the system when they are done."""

import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import torch

from babelpress.system.memory import peak

MIB = 1 << 20
INSIDE = """
import resource, torch
from babelpress.system.memory import at_hand, give_back, used
MIB = 1 << 20

def twenty_tensors():
    kept = [torch.ones(4 * MIB, dtype=torch.uint8) for _ in range(20)]
    del kept

twenty_tensors()
give_back()
start = used()
with at_hand():
    twenty_tensors()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    twenty_tensors()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    inside = used() - start
    give_back()
print(faults, inside, used() - start)
"""


def child(code):
    """What a new process prints: settings of the C library stay for good."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_is_taken_again_inside():
    faults, inside, after = child(INSIDE)

    assert faults < 10_000  # of 20,480 pages, all of them without
    assert inside > 70 * MIB
    assert after < 10 * MIB


CHILD = """
import torch
from babelpress.system.memory import at_hand, give_back_at_once, used
give_back_at_once()
before = used()
with at_hand():
    kept = [torch.ones(16 << 20, dtype=torch.uint8) for _ in range(5)]
    del kept
    print(used() - before)
"""


def test_whoever_is_short_of_memory_gets_it_back_at_once():
    assert child(CHILD)[0] < 10 * MIB


HELD = """
import torch
from babelpress.system.memory import give_back, used
MIB = 1 << 20

def held():
    torch.ones(16 * MIB, dtype=torch.uint8)
    give_back()
    start = used()
    torch.ones(16 * MIB, dtype=torch.uint8)
    return used() - start
"""

LARGE = """
from babelpress.system.memory import at_hand, large_goes_back

with at_hand():
    pass
before = held()
with large_goes_back():
    inside = held()
print(before, inside, held())
"""


def test_what_is_large_goes_back_at_once_only_inside():
    before, inside, after = child(HELD + LARGE)

    assert before > 12 * MIB
    assert inside < 4 * MIB
    assert after > 12 * MIB


FOR_NOW = """
from babelpress.system.memory import give_back_at_once, short, short_for_now

with short_for_now():
    give_back_at_once()
    inside, told = held(), short()
print(inside, held(), int(told), int(short()))
with short_for_now():
    pass
give_back_at_once()
with short_for_now():
    give_back_at_once()
assert short()
"""


def test_memory_is_short_for_one_work_and_not_for_what_follows():
    inside, after, told, still = child(HELD + FOR_NOW)

    assert inside < 4 * MIB < 12 * MIB < after
    assert (told, still) == (1, 0)


def test_many_peaks_are_watched_by_one_thread_each_from_where_it_begins():
    before = threading.active_count()
    with peak() as outer:
        kept = torch.ones(48 * MIB, dtype=torch.uint8)
        time.sleep(0.1)
        del kept
        with ExitStack() as many:
            inner = [many.enter_context(peak()) for _ in range(9)]
            assert threading.active_count() == before + 1
        with peak() as later:
            kept = torch.ones(48 * MIB, dtype=torch.uint8)
            time.sleep(0.1)
            del kept

    assert threading.active_count() == before
    assert all(outer.bytes - each.bytes > 40 * MIB for each in inner)
    assert later.bytes - inner[0].bytes > 40 * MIB
