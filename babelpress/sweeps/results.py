"""Results of many jobs, one file each, on a folder or any store that fsspec knows.

A file is there when its job is done, and no two jobs write the same one: nobody needs a lock.
Each line is one row, sealed, with how many lines the file has: a file that was cut short or
damaged counts as missing.

Tested in tests/sweeps/test_plan.py.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from babelpress.errors import BadRun, BadSetting
from babelpress.system.files import SEAL, seal, unsealed, write_bytes

Row = dict[str, Any]

END = ".jsonl"
LINES = "lines"  # how many a file has


class Shelf:
    """Files of rows under one place: a folder, or a URL such as s3://bucket/sweep."""

    def __init__(self, place: str):
        """Raises BadSetting for a place that fsspec cannot reach."""
        try:
            self._files, self._root = url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise BadSetting(
                f"results cannot go to {place}: {error}. Give a folder that all machines share, or "
                "a URL whose fsspec package is installed on them."
            ) from error
        self.place = place

    def put(self, name: str, rows: Sequence[Row]) -> None:
        """Write the rows of a job: whole, or seen to be damaged. Raises BadRun where refused."""
        data = "".join(_line(row, len(rows)) for row in rows).encode()
        path = self._path(name)
        if isinstance(self._files, LocalFileSystem):
            write_bytes(Path(path), data)
            return
        try:
            self._files.pipe_file(path, data)
        except OSError as error:
            raise BadRun(f"cannot write {path}: {error}.") from error

    def get(self, name: str) -> list[Row] | None:
        """The rows of a job; None where it is not done or its file is not what was written."""
        try:
            data = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return _sound(data)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}{END}"


def _line(row: Row, lines: int) -> str:
    whole = seal({**row, LINES: lines})
    return json.dumps(whole, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"


def _sound(data: bytes) -> list[Row] | None:
    """The rows of a file, or None where a line is damaged or missing."""
    rows: list[Row] = []
    try:
        for line in data.decode().split("\n")[:-1]:
            row = json.loads(line)
            if not isinstance(row, dict) or SEAL not in row:
                return None
            rows.append(unsealed(row, "a line", BadRun))
    except (ValueError, RecursionError, BadRun):  # not UTF-8, not JSON, or not what was written
        return None
    if not rows or any(row.pop(LINES, None) != len(rows) for row in rows):
        return None
    return rows
