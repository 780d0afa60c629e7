"""File systems that are small or cannot be written, for tests that may mount them."""

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(folder, size):
    """A file system of `size` bytes at `folder`; skips where this user may mount none."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder, size):
    """Make a small disk larger."""
    _remount(folder, f"size={size}")


def forbid(folder):
    """Nothing can be written to this disk from now on."""
    _remount(folder, "ro")


def _remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
