"""Do a recipe in a folder; killed at any point, the same command goes on.

    RUN/recipe.yaml         the recipe, every default written out
    RUN/steps/01-prune/     report.json of a finished step (and its model until the next is done)
    RUN/model/              the result, an ordinary transformers folder
    RUN/manifest.json       written last: what is needed to do it again, and its cost

A step is written whole or not at all. Only `cost` may differ between two runs of one recipe.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from babelpress import mixtures, opening, press, prune, recipe
from babelpress.calibration import tokenizer_hash
from babelpress.errors import BadMoments, BadRun, BadSetting
from babelpress.files import new_folder, read_json, write_json, write_text
from babelpress.gathering import held, occupied, remove_partials, spent, surroundings, text
from babelpress.languages import select
from babelpress.mixtures import Mixture
from babelpress.models import Walk
from babelpress.opening import Opened, open_model, save_model
from babelpress.packing import Blocks
from babelpress.press import Method, Progress, silent
from babelpress.recipe import Calibration, Prune, Recipe
from babelpress.store import BlockMoments, Store

MANIFEST = "manifest.json"
RECIPE = "recipe.yaml"
REPORT = "report.json"


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
    with held(out):
        _check_folder(plan, out)
        if (out / MANIFEST).exists():
            return read_json(out / MANIFEST)
        origin, source = _origin(plan.model), plan.model
        reports = []
        for number, step in enumerate(plan.steps, 1):
            folder = _step_folder(out, number)
            if not (folder / REPORT).exists():
                opened = open_model(source, device=device, trust_remote_code=trust_remote_code)
                opened = replace(opened, name=origin)
                report = prune_model(opened, plan.calibration, step.prune, progress=progress)
                write_text(out / RECIPE, recipe.dump(plan))
                with new_folder(folder) as new:
                    save_model(opened, new / "model")
                    write_json(new / REPORT, report)
            reports.append(read_json(folder / REPORT))
            source = str(folder / "model")
            shutil.rmtree(_step_folder(out, number - 1) / "model", ignore_errors=True)
        if Path(source).exists():
            shutil.rmtree(out / "model", ignore_errors=True)
            Path(source).rename(out / "model")
        manifest = {
            "recipe": plan.model_dump(mode="json"),
            "steps": [{k: v for k, v in r.items() if k != "cost"} for r in reports],
            "cost": {"steps": [r["cost"] for r in reports]},
            "surroundings": surroundings(device),
        }
        write_json(out / MANIFEST, manifest)
        return manifest


def _check_folder(plan: Recipe, out: Path) -> None:
    """Raise BadRun where a folder is not this run's; a run without a finished step may go."""
    path, begun = out / RECIPE, any(out.glob(f"steps/*/{REPORT}"))
    if not path.exists():
        if occupied(out):
            raise BadRun(f"{out} is not empty and holds no run. Choose another --out.")
    elif begun and path.read_text(encoding="utf-8") != recipe.dump(plan):
        raise BadRun(f"{out} holds a run of another recipe. Choose another --out, or remove it.")
    if (out / MANIFEST).exists() and not (out / "model").exists():
        raise BadRun(f"{out} has lost its model/. Remove the folder to do the run again.")
    remove_partials(out, out / "steps")


def _step_folder(out: Path, number: int) -> Path:
    return out / "steps" / f"{number:02d}-prune"


def _origin(model: str) -> str:
    """The dense model that a MODEL goes back to: of a finished run, the one that it began with."""
    path = Path(model) / MANIFEST
    if path.exists() and (Path(model) / RECIPE).exists():
        return str(read_json(path)["steps"][0]["model"]["name"])
    return model


@dataclass(frozen=True, slots=True)
class _Source:
    """What a step looks at: its languages, their text, and dense moments by block.

    `there` are all languages with moments; `blocks` is empty where the moments are of a folder.
    """

    languages: list[str]
    there: list[str]
    blocks: Mapping[str, Blocks]
    manifest: Mapping[str, Any]
    moments: Callable[[int], BlockMoments]


def prune_model(
    opened: Opened, asked: Calibration, step: Prune, *, progress: Progress = silent
) -> dict[str, Any]:
    """Prune a model in place and report what was done: exact counts, shares, damage by language.

    Mixtures that go by training shares go by those of `opened.name`.
    """
    start = time.monotonic()
    method = Method.of(step.method, step.pattern, step.options, step.skip)
    gram = prune.needs_gram(step.method)
    walk = Walk(opened.model)
    before = opening.fingerprint(opened.model)
    if step.moments is None:
        source = _of_text(opened, walk, asked, gram=gram, progress=progress)
    else:
        source = _of_folder(opened, asked, step, gram=gram)
    mixed = _mixture(step.mixture, source, opened.name)
    shares, trace = mixed.shares, []
    if mixed.policy == "minimax":
        trace = press.minimax(
            lambda p: press.predicted_damage(walk, source.moments, method, p),
            source.languages,
            rounds=step.minimax.rounds,
            rate=step.minimax.rate,
            progress=progress,
        )
        shares = press.best(trace).shares
    if step.propagate == "dense":
        sites = press.press_dense(walk, source.moments, method, shares, progress=progress)
    else:
        sites = press.press_compressed(
            walk, source.blocks, method, shares, gram=gram, progress=progress
        )
    return {
        "kind": "prune",
        "step": step.model_dump(mode="json"),
        "model": {"name": opened.name, "fingerprint": before},
        "calibration": source.manifest,
        "mixture": _mixture_row(mixed, shares),
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


def _of_text(
    opened: Opened, walk: Walk, asked: Calibration, *, gram: bool, progress: Progress
) -> _Source:
    """Text, and its dense moments if they are asked for: for `dense` and for the minimax loop."""
    found = text(opened, asked)
    kept: dict[int, BlockMoments] = {}

    def moments(index: int) -> BlockMoments:
        if not kept:
            kept.update(press.gather_dense(walk, found.blocks, gram=gram, progress=progress))
        return kept[index]

    tags = list(found.blocks)
    return _Source(tags, tags, found.blocks, found.manifest, moments)


def _of_folder(opened: Opened, asked: Calibration, step: Prune, *, gram: bool) -> _Source:
    """Moments that were saved. Raises BadMoments or BadSetting where they are no use here."""
    assert step.moments is not None
    store = Store.open(Path(step.moments))
    if step.propagate != "dense":
        raise BadSetting(
            "moments of a folder are of the dense model: use propagate dense, or drop moments."
        )
    store.check(
        model=opening.fingerprint(opened.model),
        tokenizer=tokenizer_hash(opened.tokenizer),
        dtype=str(opened.model.dtype),
    )
    if gram and not store.identity["gram"]:
        raise BadSetting(
            f"{step.method} needs Gram matrices, which {step.moments} has not. "
            "Calibrate again with --gram."
        )
    there = store.identity["languages"]
    languages = select(asked.languages, among=there) if asked.languages else there
    if missing := [tag for tag in languages if tag not in there]:
        raise BadMoments(
            f"{step.moments} has no moments of {', '.join(missing)}; it has {', '.join(there)}. "
            "Calibrate with them, or leave them out of --languages."
        )
    return _Source(languages, there, {}, store.manifest["calibration"], store.load)


def _mixture(policy: str, source: _Source, model: str) -> Mixture:
    """The mixture of a step. Raises BadSetting for a share of a language that nothing was seen of.

    Moments may take hours to gather, so this is known first.
    """
    mixed = mixtures.mixture(policy, source.languages, model=model)
    wanted = [tag for tag, share in mixed.shares.items() if share > 0]
    if missing := [tag for tag in wanted if tag not in source.there]:
        raise BadSetting(
            f"the mixture {policy} gives a share to {', '.join(missing)}, which is not among the "
            f"languages of this calibration: {', '.join(source.there)}. Add it with --languages."
        )
    return mixed


def _mixture_row(mixed: Mixture, shares: Mapping[str, float]) -> dict[str, Any]:
    return {
        "policy": mixed.policy,
        "shares": dict(shares),
        "distribution": mixed.distribution,
        "unit": mixed.unit,
        "stage": mixed.stage,
        "source": mixed.source,
        "note": mixed.note,
        "counts": mixed.counts,
    }
