"""Who holds a folder: locks, and what killed processes left in it.

POSIX only (flock). A lock names its process; that of a process that died is taken over.

Tested in tests/system/test_files.py and tests/faults/test_locks.py.
"""

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from babelpress.errors import BadRun
from babelpress.system.files import LEFT, cannot_write

LOCK_NAME = ".lock"


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone.

    Raises BadRun with the process and host that hold it. The lock of a process that has died on
    this host is taken over; of another host nothing can be known, so its lock stays.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path)
    except OSError as error:
        raise cannot_write(path, None, error) from error
    try:
        here = socket.gethostname()
        holder = _holder(file)
        if holder.get("host", here) != here:
            raise _locked(path, holder)
        try:
            _sign(file, path)
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        file.close()


def _open_locked(path: Path) -> TextIO:
    """Open the lock file and hold it. The kernel lets go when this process ends, in any way."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise _locked(path, _holder(file)) from None
        # Its last holder may have removed it between our opening and our holding it.
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()


def _holder(file: TextIO) -> dict[str, Any]:
    """Who wrote the lock file; empty where its writer did not come to the end."""
    try:
        found = json.loads(file.read())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _sign(file: TextIO, path: Path) -> None:
    # Past the buffer, which on a full disk would fail a second time when it is closed.
    try:
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), json.dumps(_this_process()).encode(), 0)
    except OSError as error:
        raise cannot_write(path, None, error) from error


def _locked(path: Path, holder: dict[str, Any]) -> BadRun:
    return BadRun(
        f"{path.parent} is in use by process {holder.get('pid', '?')} on "
        f"{holder.get('host', '?')} since {holder.get('start', '?')}. "
        f"Wait for it, or remove {path} if that process is gone."
    )


def _this_process() -> dict[str, str | int]:
    start = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "start": start}


PARTIAL = ".*.partial"  # the temporary names of files.py
# Of a folder: its name, and the process and host at it, which may hold dots too.
BEGUN = re.compile(rf"\.(?P<name>.+)\.([0-9]+@.+|{LEFT})\.partial")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; a new one in which nothing was made goes again.

    Raises BadRun where another process holds it.
    """
    new = not folder.exists()
    try:
        with lock(folder):
            yield
    finally:
        if new:
            with suppress(OSError):  # not empty: something was made
                folder.rmdir()


def occupied(folder: Path) -> bool:
    """Whether a folder holds more than our lock and what a killed process left half-written."""
    return any(path.name != LOCK_NAME and not _half_written(path) for path in folder.iterdir())


def _half_written(path: Path) -> bool:
    """Whether a killed process left this: a temporary, or a folder with nothing else in it."""
    return path.match(PARTIAL) or (path.is_dir() and all(map(_half_written, path.iterdir())))


def remove_partials(
    *folders: Path, names: str = PARTIAL, but: Collection[str] = frozenset()
) -> None:
    """Remove what killed processes left half-written in folders that this process holds.

    What they left of folders with the names in `but` stays, for `new_folder(resume=True)`.
    """
    for path in (path for folder in folders for path in folder.glob(names)):
        begun = BEGUN.fullmatch(path.name)
        if begun and begun["name"] in but:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def leave_partials(*folders: Path) -> None:
    """Give up what killed processes began in folders that this process holds, for others to take.

    `new_folder(resume=True)` goes on with it. Of several attempts at one folder only the one that
    has most files stays.
    """
    for folder in folders:
        attempts: dict[str, list[Path]] = {}
        for path in folder.glob(PARTIAL):
            begun = BEGUN.fullmatch(path.name)
            if begun and path.is_dir():
                attempts.setdefault(begun["name"], []).append(path)
        for name, paths in attempts.items():
            *others, furthest = sorted(paths, key=lambda path: sum(1 for _ in path.rglob("*")))
            for path in others:
                shutil.rmtree(path)
            furthest.rename(folder / f".{name}.{LEFT}.partial")
