"""Progress as lines: one a block where blocks are slow, one a minute where they are slower."""

import sys
import time
from itertools import pairwise

import pytest

from babelpress.system.progress import Lines, ago, remark, within


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def said(capsys) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (610, "10 min"), (3900, "1 h 5 min")],
)
def test_spans_of_time_are_rough(seconds, words):
    assert ago(seconds) == words


def test_slow_blocks_have_a_line_each_and_say_how_long_it_will_be(capsys, clock):
    lines = Lines(clock)
    for block in (1, 2, 3):
        clock.now += 40
        lines("prune: block", block, 18)

    assert said(capsys) == [
        "prune: block 1 of 18, 40 s, about 11 min to go",
        "prune: block 2 of 18, 1 min, about 11 min to go",
        "prune: block 3 of 18, 2 min, about 10 min to go",
    ]


def test_quick_blocks_share_a_line_and_a_long_job_says_one_a_minute(capsys, clock):
    lines = Lines(clock)
    for block in range(1, 10_001):
        clock.now += 0.5
        lines("prune: block", block, 10_000)

    found = said(capsys)
    assert found[0] == "prune: block 4 of 10000, 2 s, about 1 h 23 min to go"
    assert 60 < len(found) < 160  # 83 minutes
    late = [int(line.split()[2]) for line in found[-3:]]
    assert [b - a for a, b in pairwise(late)] == [120, 120]


def test_a_phase_begins_where_the_one_before_it_ended(capsys, clock):
    lines = Lines(clock)
    for what in ("calibrate: block", "prune: block", "prune: block"):
        for block in (1, 2):
            clock.now += 10
            lines(what, block, 2)

    assert said(capsys) == [
        *("calibrate: block 1 of 2, 10 s, about 10 s to go", "calibrate: block 2 of 2, 20 s"),
        *("prune: block 1 of 2, 10 s, about 10 s to go", "prune: block 2 of 2, 20 s"),
        *("prune: block 1 of 2, 10 s, about 10 s to go", "prune: block 2 of 2, 20 s"),
    ]


def test_what_says_that_it_begins_does_not_count_what_was_before(capsys, clock):
    lines = Lines(clock)
    clock.now += 45
    lines("prune: block", 0, 4)
    clock.now += 5
    lines("prune: block", 1, 4)

    assert said(capsys) == ["prune: block 1 of 4, 5 s, about 15 s to go"]


def test_a_block_that_takes_minutes_has_a_line_a_minute(capsys, clock):
    lines = Lines(clock)
    clock.now += 61
    lines.tick()
    clock.now += 61
    lines("prune: block", 2, 18)
    for _ in range(2):
        clock.now += 30.5
        lines.tick()

    assert said(capsys) == [
        "at work, 1 min",
        "prune: block 2 of 18, 2 min, about 16 min to go",
        "prune: block 3 of 18 at work, 3 min",
    ]


def test_a_remark_is_always_said_and_cannot_command_a_terminal(capsys, clock):
    lines = Lines(clock)
    remark(lines, "resuming: 3 of 4 blocks")
    remark(lines, "sweep: job 1 of 2: \x1b[2J")

    assert said(capsys) == ["resuming: 3 of 4 blocks", "sweep: job 1 of 2: \ufffd[2J"]


def test_a_place_stands_before_what_is_done_there():
    told = []
    watch = within(lambda *at: told.append(at), "step 2 of 3, prune")
    watch("press: block", 1, 4)
    watch("calibrate: block", 2, 4)
    remark(watch, "a line")

    assert told == [
        ("step 2 of 3, prune: block", 1, 4),
        ("step 2 of 3, prune: calibrate: block", 2, 4),
        ("step 2 of 3, prune: a line", 0, 0),
    ]


def test_lines_are_ticked_while_they_are_watched_and_no_longer(capsys, monkeypatch):
    monkeypatch.setattr(sys.modules[Lines.__module__], "LATER", 0.04)
    with Lines() as lines:
        time.sleep(0.2)
    found = said(capsys)
    time.sleep(0.1)

    assert found
    assert set(found) == {"at work, 0 s"}
    assert said(capsys) == []
    assert callable(lines)
