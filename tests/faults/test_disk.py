"""A disk that fills up at any point, or takes nothing: one line, and with room the same bytes."""

import random

import pytest
from disks import forbid, grow, small_disk
from folders import content, halves

from babelpress.cli import main
from babelpress.errors import BadRun

COMMANDS = ("calibrate", "prune", "quantize", "press")


def fill(name, seed, work, whole, tmp_path):
    size = sum(path.stat().st_size for path in whole(name).rglob("*"))
    pages = random.Random(f"{name} {seed}").randrange(2, max(3, size // 4096 - 2))
    with small_disk(tmp_path / "disk", 4096 * pages):
        out = tmp_path / "disk" / "out"
        with pytest.raises(BadRun, match=r"^[^\n]*(No space left|disk is full)[^\n]*$"):
            work[name](out)
        assert not halves(tmp_path / "disk")

        grow(tmp_path / "disk", "32m")
        work[name](out)
        assert content(out) == content(whole(name))


@pytest.mark.parametrize("name", ["calibrate", "press"])
def test_a_disk_that_fills_up_is_one_line_and_with_room_it_goes_on(name, work, whole, tmp_path):
    fill(name, 0, work, whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("seed", range(1, 6))
def test_wherever_the_disk_fills_up_with_room_it_goes_on(name, seed, work, whole, tmp_path):
    fill(name, seed, work, whole, tmp_path)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", ["calibrate", "prune"])
def test_a_folder_that_cannot_be_written_is_one_line(name, begun, work, tmp_path):
    with small_disk(tmp_path / "disk", "1m"):
        out = tmp_path / "disk" / "out"
        if begun:
            out.mkdir()
        forbid(tmp_path / "disk")

        with pytest.raises((BadRun, OSError), match="Read-only file system") as caught:
            work[name](out)
        assert "\n" not in str(caught.value)


def test_the_command_line_says_which_folder_cannot_be_written(tmp_path, capsys):
    with small_disk(tmp_path / "disk", "1m"):
        forbid(tmp_path / "disk")
        out = str(tmp_path / "disk" / "out")

        code = main(["eval", "babel-mini", "--languages", "sw", "--documents", "1", "--out", out])

    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and out in said and "may not be written" in said
