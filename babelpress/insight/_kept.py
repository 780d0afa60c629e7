"""Results of analyses in a folder, read and written here and nowhere else.

    NAME.jsonl    the rows, one a line, each with its seal
    NAME.json     what they are of, the pictures made of them, and the hashes of all files; last

Nothing heavy is imported: a report reads pictures without the models.

Tested in tests/insight/test_kept.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shlex import quote
from typing import Any

from babelpress.errors import BadRun
from babelpress.insight import ANALYSES, Row
from babelpress.insight._pictures import Picture, read
from babelpress.system.files import (
    check_hashes,
    read_json,
    seal,
    sha256_file,
    unsealed,
    write_sealed,
    write_text,
)

FORMAT = 1
FOLDER = "insight"  # inside a run, where its results are by default


@dataclass(frozen=True, slots=True)
class Kept:
    """The results of one analysis; `about` says which runs and languages in words.

    `model` is the hash of the dense model's weights.
    """

    analysis: str
    model: str
    spoken: str
    about: str
    identity: Mapping[str, Any]
    pictures: tuple[Picture, ...]
    files: Mapping[str, str]


def rows_path(folder: Path, analysis: str) -> Path:
    """Where the rows of an analysis are."""
    return folder / f"{analysis}.jsonl"


def facts_path(folder: Path, analysis: str) -> Path:
    """Where it is written what its rows are of."""
    return folder / f"{analysis}.json"


def write(folder: Path, kept: Kept, rows: Sequence[Row], files: Mapping[str, str]) -> Kept:
    """Write rows and further files, then what they are of; gives what can be read of it.

    Raises BadRun when the disk refuses.
    """
    lines = [json.dumps(seal(row), ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    texts = {rows_path(folder, kept.analysis).name: "".join(lines), **files}
    for name in files:
        _spare(folder / name, facts_path(folder, kept.analysis))
    for name, text in texts.items():
        write_text(folder / name, text)
    written = {name: sha256_file(folder / name) for name in texts}
    write_sealed(
        facts_path(folder, kept.analysis),
        {
            "format": FORMAT,
            "analysis": kept.analysis,
            "model": kept.model,
            "spoken": kept.spoken,
            "about": kept.about,
            "identity": dict(kept.identity),
            "pictures": [picture.written() for picture in kept.pictures],
            "files": written,
        },
    )
    found = read_one(folder, kept.analysis)
    assert found is not None
    return found


def _spare(path: Path, facts: Path) -> None:
    """Move a file out of the way that is not as it was written: somebody has edited it.

    It becomes `.old`, or `.old2` and so on: what was edited before stays too.
    """
    if not path.exists():
        return
    try:
        written = read_json(facts)["files"][path.name]
    except (BadRun, KeyError, TypeError):
        written = ""  # nobody knows, so it may be somebody's
    if sha256_file(path) == written:
        return
    names = (path.with_name(f"{path.name}.old{n if n > 1 else ''}") for n in count(1))
    path.replace(next(name for name in names if not name.exists()))


def read_one(folder: Path, analysis: str) -> Kept | None:
    """The results of an analysis; None where there are none.

    Raises BadRun where they are damaged, or were written by another version.
    """
    path = facts_path(folder, analysis)
    if not path.exists():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadRun(f"{path} holds no analysis of format {FORMAT}. Remove it and do it again.")
    try:
        pictures = tuple(read(each, str(path)) for each in found["pictures"])
        kept = Kept(
            str(found["analysis"]),
            str(found["model"]),
            str(found["spoken"]),
            str(found["about"]),
            dict(found["identity"]),
            pictures,
            dict(found["files"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRun(f"{path} is no analysis. Remove it, and do it again.") from error
    rows = rows_path(folder, analysis).name
    check_hashes(folder, {rows: kept.files[rows]})  # others are there to be edited
    return kept


def read_all(folder: Path) -> tuple[list[Kept], list[str]]:
    """All results in a folder, in the order of their names; none where there is no folder.

    Those that are damaged are left out, and a line about each says what to do.
    """
    found: list[Kept] = []
    damaged: list[str] = []
    for name in ANALYSES.names():
        try:
            kept = read_one(folder, name)
        except BadRun as error:
            wrong = str(error).removesuffix(error.next).strip()
            damaged.append(
                f"the analysis {name} is left out: {wrong} Do it again: babelpress insight RUN "
                f"--on {name} --out {quote(str(folder))}"
            )
            continue
        found += [kept] if kept else []
    return found, damaged


def read_rows(folder: Path, analysis: str) -> list[Row]:
    """The rows of an analysis. Raises BadRun for a broken line, or where there are none."""
    path = rows_path(folder, analysis)
    if not path.exists():
        raise BadRun(f"{folder} has no {path.name}. Make it: babelpress insight --on {analysis}")
    rows: list[Row] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            rows.append(unsealed(json.loads(line), f"{path} line {number}", BadRun))
    except (ValueError, RecursionError) as error:  # also what no UTF-8 raises
        raise BadRun(f"{path} line {len(rows) + 1} is not JSON: do the analysis again.") from error
    return rows
