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
from babelpress.runs.places import MODEL

FOLDER = "again"  # after the name of a run, what is made again


def of_run(
    run: Path, found: Manifest | None, on: str, scored: Mapping[str, Any]
) -> tuple[str, ...]:
    """How to make a run in a new folder, score it as it was scored, and serve it.

    A model from elsewhere can only be scored and served.
    """
    recipe = run / manifest.RECIPE
    if found is None or not recipe.exists():
        return (_score(run, run, on, scored), _serve(run))
    new = Path(f"{run.name}-{FOLDER}")  # here, and not among the runs of a sweep
    there = run if (run / MODEL).exists() else new
    model = str(found.recipe.get("model", ""))
    lines = [
        join(["babelpress", "press", model, f"{recipe}", "--out", f"{new}"]),
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
    for name in ("corpus", "documents", "window"):
        if scored.get(name):
            words += [f"--{name}", str(scored[name])]
    for name, value in scored.get("options", {}).items():
        words += ["--option", f"{name}={value}"]
    if scored.get("languages"):
        words += ["--languages", ",".join(scored["languages"])]
    return join([*words, *(["--out", f"{out}"] if out else [])])


def _serve(model: Path) -> str:
    return join(["vllm", "serve", f"{model}"])
