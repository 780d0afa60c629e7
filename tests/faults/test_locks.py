"""Two processes on one folder: the second is told who holds it; a lock that nobody holds goes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from folders import content

from babelpress.errors import BadRun
from babelpress.system.claims import LOCK_NAME

HOLDING = (
    "import sys, pathlib; from babelpress.system.claims import lock\n"
    "with lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


def hold(folder):
    """Another process that holds a folder."""
    words = [sys.executable, "-c", HOLDING, str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("name", ["calibrate", "prune"])
def test_the_second_process_is_refused_with_pid_and_host_of_the_first(name, work, whole, tmp_path):
    out = tmp_path / "out"
    with hold(out) as first:
        with pytest.raises(BadRun) as caught:
            work[name](out)
        first.send_signal(signal.SIGKILL)

    words = str(caught.value)
    assert "\n" not in words
    assert f"{out} is in use by process {first.pid} on {socket.gethostname()} since 20" in words
    assert (out / LOCK_NAME).exists()  # of the dead: it is taken over
    work[name](out)
    assert content(out) == content(whole(name))


def test_a_process_that_is_stopped_still_holds_its_folder(work, tmp_path):
    with hold(tmp_path / "out") as first:
        first.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        with pytest.raises(BadRun, match=f"in use by process {first.pid} "):
            work["prune"](tmp_path / "out")
        first.kill()


STALE = {
    "of a dead process": json.dumps({"pid": 2**22 + 7, "host": socket.gethostname(), "start": "x"}),
    "of a process that lives but holds nothing": json.dumps(
        {"pid": os.getppid(), "host": socket.gethostname(), "start": "x"}
    ),
    "cut short": '{"pid": 1',
    "empty": "",
    "that is a list": "[1]",
    "that is no text": "\x00\x01",
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("what", STALE)
def test_a_lock_that_nobody_holds_is_taken_over(what, work, whole, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK_NAME).write_text(STALE[what])

    work["prune"](tmp_path / "out")

    assert content(tmp_path / "out") == content(whole("prune"))


def test_a_lock_of_another_host_is_named_and_left_to_the_user(work, tmp_path):
    (tmp_path / "out").mkdir()
    lock = tmp_path / "out" / LOCK_NAME
    lock.write_text(json.dumps({"pid": 4, "host": "elsewhere", "start": "2026-01-01"}))

    with pytest.raises(BadRun) as caught:
        work["prune"](tmp_path / "out")

    assert "process 4 on elsewhere since 2026-01-01" in str(caught.value)
    assert f"remove {lock} if that process is gone" in str(caught.value)
    assert lock.exists()
    lock.unlink()
    work["prune"](tmp_path / "out")
