"""Hand a model over: gather what an export reads; its folder appears whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babelpress import card, codes, export, mixtures, opening
from babelpress.calibration import tokenizer_hash
from babelpress.errors import BadMoments, BadRun, BadSetting
from babelpress.export import Source
from babelpress.feeding import Progress, silent
from babelpress.files import new_folder, read_json, write_text
from babelpress.opening import Opened, open_model
from babelpress.run import MANIFEST, RECIPE
from babelpress.store import Store

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
    progress: Progress = silent,
) -> list[str]:
    """Export a MODEL into a new folder; the lines to tell the user.

    Raises BadRun where the run is not finished or the folder is taken, BadSetting for options that
    the format has not, and what the format raises.
    """
    options = dict(options or {})
    export.check_options(form, options)
    run = Path(model) if (Path(model) / RECIPE).exists() else None
    if run and not (run / MANIFEST).exists():
        raise BadRun(f"{model} is not finished: run the same command again, then export it.")
    progress(f"export {form}", 0, 1)
    manifest = read_json(run / MANIFEST) if run else None
    opened = open_model(model)
    store = _moments(opened, moments, manifest) if moments else None
    source = Source(
        model,
        opened,
        manifest,
        _codes(run),
        store,
        _shares(mixture, manifest, store, model),
    )
    with new_folder(out) as new:
        says = export.get(form)(source, new, **options)
        if run:
            write_text(new / CARD, card.card(run, dense=against))
    progress(f"export {form}", 1, 1)
    return says


def _codes(run: Path | None) -> codes.CodesFolder | None:
    folder = run / codes.FOLDER if run else None
    return codes.CodesFolder.open(folder) if folder and folder.exists() else None


def _moments(opened: Opened, folder: Path, manifest: Mapping[str, Any] | None) -> Store:
    """Moments of this model, or of the dense one that a run began with."""
    store = Store.open(folder)
    of_model = opening.fingerprint(opened.model)
    of_dense = manifest["steps"][0]["model"]["fingerprint"] if manifest else of_model
    same = store.identity["model"] == of_dense
    store.check(
        model=of_dense if same else of_model,
        tokenizer=tokenizer_hash(opened.tokenizer),
        dtype=store.identity["dtype"],
    )
    return store


def _shares(
    policy: str, manifest: Mapping[str, Any] | None, store: Store | None, model: str
) -> dict[str, float] | None:
    """Shares of `--mixture`, else those of the last step of the run."""
    if not policy:
        return dict(manifest["steps"][-1]["mixture"]["shares"]) if manifest else None
    if store is None:
        raise BadSetting("--mixture is read with --moments, whose languages it weights.")
    mixed = mixtures.mixture(policy, store.identity["languages"], model=model)
    if mixed.policy == "minimax":
        raise BadSetting(
            "minimax is found while pressing: export a run that was pressed with it, and its "
            "shares are taken."
        )
    missing = [
        tag for tag, p in mixed.shares.items() if p > 0 and tag not in store.identity["languages"]
    ]
    if missing:
        raise BadMoments(f"{store.folder} has no moments of {', '.join(missing)}.")
    return dict(mixed.shares)
