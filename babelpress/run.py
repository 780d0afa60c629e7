"""Do a recipe in a folder; killed at any point, the same command goes on.

    RUN/recipe.yaml         the recipe, every default written out
    RUN/steps/01-prune/     report.json of a finished step (and its results until the next is done)
    RUN/model/              the result, an ordinary transformers folder
    RUN/codes/              the integers behind it, where the last step quantized
    RUN/ranges.safetensors  the largest inputs that calibration saw, by BLOCK.SITE
    RUN/manifest.json       written last: what is needed to do it again, and its cost

A step is written whole or not at all. Only `cost` may differ between two runs of one recipe. The
manifest lists the hashes of all files that it came with, and whoever reads one of them checks it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from babelpress import codes, recipe
from babelpress.errors import BadModel, BadRun
from babelpress.feeding import Progress, silent
from babelpress.files import hashes, new_folder, read_json, save_tensors, write_sealed, write_text
from babelpress.gathering import held, occupied, remove_partials, surroundings
from babelpress.offload import in_memory, on_disk
from babelpress.opening import Opened, open_model, save_model
from babelpress.recipe import Recipe
from babelpress.step import Done, do_step

MANIFEST = "manifest.json"
RECIPE = "recipe.yaml"
REPORT = "report.json"
RANGES = "ranges.safetensors"
APART = ("cost", "files")  # what the manifest has once, not for every step


def do(
    plan: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    offload: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Do a recipe in a folder and give its manifest; finished steps are not done again.

    With `offload` hidden states and pressed blocks lie in the folder instead of in memory; the
    result is the same. Raises BadRun where the folder holds another run or is in use.
    """
    with held(out):
        _check_model(plan.model)
        _check_folder(plan, out)
        if (out / MANIFEST).exists():
            return read_json(out / MANIFEST)
        origin, source = _origin(plan.model), plan.model
        reports = []
        for number, step in enumerate(plan.steps, 1):
            folder = _step_folder(out, number, step.kind)
            if not (folder / REPORT).exists():
                opened = open_model(source, device=device, trust_remote_code=trust_remote_code)
                opened = replace(opened, name=origin)
                hold = on_disk(out) if offload else in_memory
                with _step(folder) as new:
                    done = do_step(
                        opened, plan.calibration, step.work, new, hold=hold, progress=progress
                    )
                    write_text(out / RECIPE, recipe.dump(plan))
                    _save(done, opened, new)
                del opened, done  # the next step opens a model of its own
            reports.append(read_json(folder / REPORT))
            source = str(folder / "model")
            if number > 1:
                _drop_results(_step_folder(out, number - 1, plan.steps[number - 2].kind))
        _move_results(Path(source).parent, out)
        manifest = {
            "recipe": plan.model_dump(mode="json"),
            "steps": [{k: v for k, v in r.items() if k not in APART} for r in reports],
            "ledger": reports[-1]["ledger"],
            "files": reports[-1]["files"],
            "cost": {"steps": [r["cost"] for r in reports]},
            "surroundings": surroundings(device),
        }
        write_sealed(out / MANIFEST, manifest)
        return manifest


def _check_model(model: str) -> None:
    """Raise BadModel for a model that was quantized before."""
    config = Path(model) / "config.json"
    packed = config.exists() and "quantization_config" in read_json(config, error=BadModel)
    if packed or (Path(model) / codes.FOLDER).exists():
        raise BadModel(
            f"{model} is quantized already, and its codes cannot be pressed again. Give the model "
            "that it was made of, or one recipe with both steps."
        )


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


def _step_folder(out: Path, number: int, kind: str) -> Path:
    return out / "steps" / f"{number:02d}-{kind}"


@contextmanager
def _step(folder: Path) -> Iterator[Path]:
    """A new folder of a step; where the step fails nothing is left of it."""
    try:
        with new_folder(folder) as new:
            yield new
    finally:
        with suppress(OSError):  # not empty: a step was made
            folder.parent.rmdir()


def _save(done: Done, opened: Opened, folder: Path) -> None:
    save_model(opened, folder / "model")
    languages = ",".join(tag for tag, p in done.report["mixture"]["shares"].items() if p > 0)
    save_tensors(folder / RANGES, done.ranges, {"languages": languages})
    write_sealed(folder / REPORT, {**done.report, "files": hashes(folder)})


def _drop_results(folder: Path) -> None:
    """Remove what a step made, but its report."""
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / RANGES).unlink(missing_ok=True)


def _move_results(folder: Path, out: Path) -> None:
    """Bring what the last step made to its place in the run; what is there already may stay."""
    for name in ("model", codes.FOLDER, RANGES):
        if (folder / name).exists():
            shutil.rmtree(out / name, ignore_errors=True)
            (folder / name).rename(out / name)


def _origin(model: str) -> str:
    """The dense model that a MODEL goes back to: of a finished run, the one that it began with."""
    path = Path(model) / MANIFEST
    if path.exists() and (Path(model) / RECIPE).exists():
        return str(read_json(path)["steps"][0]["model"]["name"])
    return model
