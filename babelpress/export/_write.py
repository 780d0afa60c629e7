"""Hand a model over: gather what an export reads; its folder appears whole or not at all.

Tested in tests/export/test_every_export.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babelpress.errors import BadMoments, BadRun
from babelpress.export import FORMATS
from babelpress.export._serving import ways
from babelpress.export._shares import given as _given
from babelpress.export._source import Source
from babelpress.models.open import Opened
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.weights import weights_hash
from babelpress.moments.store import Store
from babelpress.press import codes
from babelpress.report import card
from babelpress.report.card import Served
from babelpress.runs import manifest
from babelpress.runs.manifest import Manifest
from babelpress.runs.open import open_any
from babelpress.runs.places import run_of
from babelpress.steps import KINDS
from babelpress.system.files import new_folder, write_text
from babelpress.system.progress import Progress, silent

CARD = "README.md"  # what hubs show


def write(
    model: str,
    out: Path,
    form: str,
    *,
    moments: Path | None = None,
    mixture: str = "",
    against: Path | None = None,
    options: Mapping[str, Any] | None = None,
    program: str = "",
    progress: Progress = silent,
) -> tuple[list[str], str]:
    """Export a MODEL into a new folder; the lines to tell the user, and the command that serves it.

    Of several programs that serve it the usual one, or the first whose name begins with `program`.

    Raises BadRun where the run is not finished or the folder is taken, BadSetting for options that
    the format has not, and what the format raises.
    """
    options = dict(options or {})
    FORMATS.check_options(form, options)
    run = run_of(model)
    if run and not manifest.is_finished(run):
        raise BadRun(f"{model} is not finished: run the same command again, then export it.")
    progress(f"export {form}", 0, 1)
    made = manifest.read(run) if run else None
    opened = open_any(model)
    store = _moments(opened, moments, made) if moments else None
    source = Source(
        model,
        opened,
        made,
        _codes(run),
        store,
        _shares(mixture, made, store, model),
        progress,
    )
    with new_folder(out) as new:
        says = FORMATS.get(form)(source, new, **options)
        if run:
            write_text(new / CARD, card.card(run, dense=against, served=_served(form, source)))
    progress(f"export {form}", 1, 1)
    found = ways(form, source, out)
    found = [way for way in found if way.program.startswith(program)] or found
    return says, next((way.line() for way in found), "")


def _served(form: str, source: Source) -> Served:
    """What the card says of serving: from inside of the folder."""
    shown = [(way.program, way.language, way.text) for way in ways(form, source, Path())]
    return Served(tuple(shown), FORMATS.facts(form).get("LIBRARY", ""))


def _codes(run: Path | None) -> codes.CodesFolder | None:
    folder = run / codes.FOLDER if run else None
    return codes.CodesFolder.open(folder) if folder and folder.exists() else None


def _moments(opened: Opened, folder: Path, made: Manifest | None) -> Store:
    """Moments of this model, or of the dense one that a run began with."""
    store = Store.open(folder)
    of_model = weights_hash(opened.model)
    of_dense = made.origin.fingerprint if made else of_model
    same = store.identity["model"] == of_dense
    if made and same and of_dense != of_model:
        _check_blocks(folder, made)
    store.check(
        model=of_dense if same else of_model,
        tokenizer=tokenizer_hash(opened.tokenizer),
        dtype=store.identity["dtype"],
    )
    return store


def _check_blocks(folder: Path, made: Manifest) -> None:
    """Raise BadMoments where blocks of a run are others than those of the model before."""
    for step in made.chain:
        if why := KINDS.facts(step.kind).get("NEW_SHAPES"):
            raise BadMoments(
                f"{folder} holds moments of the model before `{step.kind}`, and {why}. Calibrate "
                "this run, and give those."
            )


def _shares(
    policy: str, made: Manifest | None, store: Store | None, model: str
) -> dict[str, float] | None:
    """Shares of `--mixture`, else those of the last step of the run."""
    if not policy:
        return dict(made.shares) if made and made.shares else None
    folder, there = (store.folder, store.identity["languages"]) if store else (None, ())
    return _given(policy, folder, there, model)
