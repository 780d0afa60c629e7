"""Killed at any moment, the same command goes on, and what it makes is the same to the last byte.

Points are random but seeded. Half of them are moments of time; half are changes of the disk, where
most is to be lost. Some processes are killed twice before they are let go on.
"""

import random
import subprocess
import sys
import time

import pytest
from folders import content, halves
from killing import killed_after, killed_before

COMMANDS = ("calibrate", "prune", "quantize", "press", "sweep")
CHANGES = {"calibrate": 24, "prune": 30, "quantize": 46, "press": 76, "sweep": 290}  # of the disk
MANY = 6  # of either kind and command: 60 in all


@pytest.fixture(scope="module")
def seconds(work, tmp_path_factory):
    """How long a command takes in a child, measured once."""
    found = {}

    def measured(name):
        if name not in found:
            start = time.monotonic()
            assert not killed_after(600, lambda: work[name](tmp_path_factory.mktemp("t") / "out"))
            found[name] = time.monotonic() - start
        return found[name]

    return measured


def check(name, work, whole, out):
    work[name](out)
    assert content(out) == content(whole(name))
    assert not halves(out.parent)


@pytest.mark.parametrize("name", [*COMMANDS[:-1], pytest.param("sweep", marks=pytest.mark.slow)])
def test_a_command_killed_before_a_write_goes_on_to_the_same_bytes(
    name, work, whole, tmp_path, request
):
    number = random.Random(name).randrange(3, CHANGES[name] // 2)
    whole(name)

    assert killed_before(number, lambda: work[name](tmp_path / "out"))

    check(name, work, whole, tmp_path / "out")
    request.node.user_properties.append((name, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("seed", range(MANY))
def test_a_command_killed_before_any_write_goes_on_to_the_same_bytes(
    name, seed, work, whole, tmp_path, request
):
    rng = random.Random(f"{name} {seed}")
    out = tmp_path / "out"
    whole(name)
    killed = killed_before(rng.randrange(CHANGES[name]), lambda: work[name](out))
    if seed % 3 == 0:
        killed += killed_before(rng.randrange(CHANGES[name]), lambda: work[name](out))

    check(name, work, whole, out)
    request.node.user_properties.append((name, int(killed)))
    assert killed


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("seed", range(MANY))
def test_a_command_killed_at_a_random_moment_goes_on_to_the_same_bytes(
    name, seed, work, whole, seconds, tmp_path, request
):
    rng = random.Random(f"{name} {seed} moment")
    out = tmp_path / "out"
    whole(name)
    killed = killed_after(rng.uniform(0.02, 0.9) * seconds(name), lambda: work[name](out))
    if seed % 3 == 0:
        killed += killed_after(rng.uniform(0.02, 0.9) * seconds(name), lambda: work[name](out))

    check(name, work, whole, out)
    request.node.user_properties.append((name, int(killed)))


@pytest.mark.slow
def test_a_program_killed_from_outside_goes_on_to_the_same_bytes(
    model, tmp_path, monkeypatch, request
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["-c", "from babelpress.cli import run; run()", "prune", str(model)]
    words += ["--languages", "swh_Latn,amh_Ethi", "--tokens", "4096", "--length", "64", "--out"]

    def start(name):
        return subprocess.Popen([sys.executable, *words, str(tmp_path / name)], stdout=-3)

    begun = time.monotonic()
    assert start("whole").wait() == 0
    took = time.monotonic() - begun
    rng = random.Random(4)
    killed = 0
    for _ in range(4):
        process = start("killed")
        time.sleep(rng.uniform(0.3, 0.95) * took)
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed
    assert start("killed").wait() == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    request.node.user_properties.append(("program", killed))
