"""Freed memory is at hand while blocks run, and goes back to the system when they are done."""

import resource
import subprocess
import sys

import torch

from babelpress.memory import at_hand, give_back, used

MIB = 1 << 20


def faults_of(work):
    """Pages that had to be made while some work was done a second time."""
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def twenty_tensors():
    kept = [torch.ones(4 * MIB, dtype=torch.uint8) for _ in range(20)]
    del kept


def test_freed_memory_is_taken_again_inside():
    with at_hand():
        assert faults_of(twenty_tensors) < 10_000  # of 20,480 pages, all of them without
        give_back()
    before = used()

    with at_hand():
        twenty_tensors()
        assert used() - before > 70 * MIB
        give_back()

    assert used() - before < 10 * MIB


CHILD = """
import torch
from babelpress.memory import at_hand, give_back_at_once, used
give_back_at_once()
before = used()
with at_hand():
    kept = [torch.ones(16 << 20, dtype=torch.uint8) for _ in range(5)]
    del kept
    print(used() - before)
"""


def test_whoever_is_short_of_memory_gets_it_back_at_once():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 10 * MIB
