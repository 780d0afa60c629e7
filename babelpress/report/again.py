"""The commands that do it again: make a run, score it, serve it; score the dense model, report.

Paths are those that the report was asked with.

Tested in tests/report/test_gather.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join
from typing import Any

from babelpress.runs import manifest
from babelpress.runs.manifest import Manifest
from babelpress.runs.places import MODEL, folder_of

FOLDER = "again"  # after the name of a run, what is made again


def of_run(
    run: Path, found: Manifest | None, on: str, scored: Mapping[str, Any]
) -> tuple[str, ...]:
    """How to make a run in a new folder, score it as it was scored, and serve it.

    A model from elsewhere can only be scored and served.
    """
    if found is None or not (run / manifest.RECIPE).exists():
        return (_score(run, run, on, scored), _serve(run))
    new = _new(run)
    there = run if (run / MODEL).exists() else new
    lines = [
        *_make(run, found),
        _score(new, None, on, scored),
        _serve(there / MODEL),
    ]
    if found.ledger.get("bytes_stored", 0) < found.ledger.get("bytes_dense", 0):
        packed, kind = f"{run.name}-packed", "compressed-tensors"
        lines += [
            join(["babelpress", "export", f"{there}", "--format", kind, "--out", packed]),
            _serve(Path(packed)),
        ]
    return tuple(lines)


def _new(run: Path) -> Path:
    """Where a run is made again: here, and not among the runs of a sweep."""
    return Path(f"{run.name}-{FOLDER}")


def _make(run: Path, found: Manifest) -> list[str]:
    """How to make a run, and before it those runs that it began with, as far as they are there."""
    model = str(found.recipe.get("model", ""))
    first = folder_of(model)
    lines: list[str] = []
    if manifest.is_run(first) and (made := manifest.read_if_there(first)):
        lines, model = _make(first, made), f"{_new(first)}"
    recipe, new = f"{run / manifest.RECIPE}", f"{_new(run)}"
    return [*lines, join(["babelpress", "press", model, recipe, "--out", new])]


def of_page(
    dense: Path, runs: Sequence[Path], model: str, on: str, scored: Mapping[str, Any]
) -> tuple[str, ...]:
    """How to score the dense model as it was scored, and to make the page."""
    named = [] if on == "bits_per_byte" else ["--on", on]
    if scored.get("corpus"):
        named += ["--corpus", str(scored["corpus"])]
    if scored.get("languages"):
        named += ["--languages", ",".join(scored["languages"])]
    words = ["babelpress", "report", f"{dense}", *map(str, runs), *named, "--out", "report.html"]
    return (_score(Path(model), dense, on, scored), join(words))


def _score(model: Path, out: Path | None, on: str, scored: Mapping[str, Any]) -> str:
    words = ["babelpress", "eval", f"{model}", "--on", on]
    for name in ("corpus", "documents", "skip", "window"):
        if scored.get(name):
            words += [f"--{name}", str(scored[name])]
    for name, value in scored.get("options", {}).items():
        words += ["--option", f"{name}={value}"]
    if scored.get("languages"):
        words += ["--languages", ",".join(scored["languages"])]
    return join([*words, *(["--out", f"{out}"] if out else [])])


def _serve(model: Path) -> str:
    return join(["vllm", "serve", f"{model}"])
