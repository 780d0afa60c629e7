"""Do a recipe in a folder; killed at any point, the same command goes on.

    RUN/recipe.yaml         the recipe, every default written out
    RUN/steps/01-prune/     report.json of a finished step (and its model until the next is done)
    RUN/model/              the result, an ordinary transformers folder
    RUN/manifest.json       written last: what is needed to do it again, and its cost

A step is written whole or not at all. Only `cost` may differ between two runs of one recipe.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from babelpress import mixtures, models, press, prune, recipe
from babelpress.calibration import tokenizer_hash
from babelpress.errors import BadRun, BadSetting
from babelpress.files import lock, new_folder, read_json, write_json, write_text
from babelpress.gathering import spent, surroundings, text
from babelpress.models import Opened, Walk, open_model, save_model
from babelpress.press import Method, Progress, silent
from babelpress.recipe import Calibration, Prune, Recipe
from babelpress.store import BlockMoments, Store

MANIFEST = "manifest.json"
RECIPE = "recipe.yaml"


def do(
    plan: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Do a recipe in a folder and give its manifest; finished steps are not done again.

    Raises BadRun where the folder holds another run or is in use.
    """
    with lock(out):
        words = recipe.dump(plan)
        if (out / RECIPE).exists():
            if (out / RECIPE).read_text(encoding="utf-8") != words:
                raise BadRun(
                    f"{out} holds a run of another recipe. Choose another --out, or remove it."
                )
            if (out / MANIFEST).exists():
                return read_json(out / MANIFEST)
        elif any(p for p in out.iterdir() if p.name != ".lock"):
            raise BadRun(f"{out} is not empty and holds no run. Choose another --out.")
        write_text(out / RECIPE, words)
        source = plan.model
        reports = []
        for number, step in enumerate(plan.steps, 1):
            folder = out / "steps" / f"{number:02d}-prune"
            if not (folder / "report.json").exists():
                opened = open_model(source, device=device, trust_remote_code=trust_remote_code)
                report = prune_model(opened, plan.calibration, step.prune, progress=progress)
                with new_folder(folder) as new:
                    save_model(opened, new / "model")
                    write_json(new / "report.json", report)
            reports.append(read_json(folder / "report.json"))
            source = str(folder / "model")
            shutil.rmtree(out / "steps" / f"{number - 1:02d}-prune" / "model", ignore_errors=True)
        if (folder / "model").exists():
            shutil.rmtree(out / "model", ignore_errors=True)
            (folder / "model").rename(out / "model")
        manifest = {
            "recipe": plan.model_dump(mode="json"),
            "steps": [{k: v for k, v in r.items() if k != "cost"} for r in reports],
            "cost": {"steps": [r["cost"] for r in reports]},
            "surroundings": surroundings(),
        }
        write_json(out / MANIFEST, manifest)
        return manifest


def prune_model(
    opened: Opened, asked: Calibration, step: Prune, *, progress: Progress = silent
) -> dict[str, Any]:
    """Prune a model in place and report what was done: exact counts, shares, damage by language."""
    start = time.monotonic()
    method = Method.of(step.method, step.pattern, step.options, step.skip)
    walk = Walk(opened.model)
    before = models.fingerprint(opened.model)
    gram = prune.needs_gram(step.method)
    with _moments(opened, walk, asked, step, gram=gram, progress=progress) as (found, moments):
        languages = found["languages"]
        mixed = mixtures.mixture(step.mixture, languages, model=opened.name)
        shares, trace = mixed.shares, []
        if mixed.policy == "minimax":
            trace = press.minimax(
                lambda p: press.predicted_damage(walk, moments, method, p),
                languages,
                rounds=step.minimax.rounds,
                rate=step.minimax.rate,
                progress=progress,
            )
            shares = press.best(trace).shares
        if step.propagate == "dense":
            sites = press.press_dense(walk, moments, method, shares, progress=progress)
        else:
            sites = press.press_compressed(
                walk, found["blocks"], method, shares, gram=gram, progress=progress
            )
    return {
        "kind": "prune",
        "step": step.model_dump(mode="json"),
        "model": {"name": opened.name, "fingerprint": before},
        "calibration": found["manifest"],
        "mixture": {
            "policy": mixed.policy,
            "shares": shares,
            "distribution": mixed.distribution,
            "unit": mixed.unit,
            "stage": mixed.stage,
            "source": mixed.source,
            "note": mixed.note,
            "counts": mixed.counts,
        },
        "trace": [{"worst": r.worst, "mean": r.mean, "shares": r.shares} for r in trace],
        "damage": press.mean_damage(sites),
        "sites": [
            {"block": s.block, "site": s.site, "zeros": s.zeros, "weights": s.weights}
            for s in sites
        ],
        "zeros": sum(s.zeros for s in sites),
        "weights": sum(s.weights for s in sites),
        "cost": spent(start),
    }


@contextmanager
def _moments(
    opened: Opened,
    walk: Walk,
    asked: Calibration,
    step: Prune,
    *,
    gram: bool,
    progress: Progress,
) -> Iterator[tuple[dict[str, Any], Callable[[int], BlockMoments]]]:
    """Where the moments of a step come from: a folder, or one dense pass over the text.

    Dense moments are taken for `propagate: dense` and for the minimax loop alone.
    """
    if step.moments is not None:
        store = Store.open(Path(step.moments))
        if step.propagate != "dense":
            raise BadSetting(
                "moments of a folder are of the dense model: use propagate dense, or drop moments."
            )
        store.check(
            model=models.fingerprint(opened.model),
            tokenizer=tokenizer_hash(opened.tokenizer),
            dtype=str(opened.model.dtype),
        )
        if gram and not store.identity["gram"]:
            raise BadSetting(
                f"{step.method} needs Gram matrices, which {step.moments} has not. "
                "Calibrate again with --gram."
            )
        facts = {
            "languages": store.identity["languages"],
            "blocks": {},
            "manifest": store.manifest["calibration"],
        }
        yield facts, store.load
        return
    found = text(opened, asked)
    facts = {
        "languages": list(found.blocks),
        "blocks": found.blocks,
        "manifest": found.manifest,
    }
    kept: dict[int, BlockMoments] = {}
    if step.propagate == "dense" or step.mixture == "minimax":
        kept = dict(press.gather_dense(walk, found.blocks, gram=gram, progress=progress))
    yield facts, kept.__getitem__
