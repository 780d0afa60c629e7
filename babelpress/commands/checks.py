"""What can be known of a call before torch and transformers are imported: cheap checks come first.

A wrong model, corpus, language, mixture or folder is told in a second. All of it is checked again
where it is used, by those whose words these are.

Tested in tests/commands/test_checks.py.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelpress.errors import BabelpressError, BadCorpus, BadMoments, BadRun, BadSetting
from babelpress.system.progress import Progress

if TYPE_CHECKING:
    from babelpress.judge.settings import EvaluationSettings
    from babelpress.runs.recipe import Recipe
    from babelpress.sweeps.plan import Entry
    from babelpress.text.settings import CalibrationSettings

HEAVY = "loading torch and transformers"
MANIFEST = "manifest.json"  # of moments


def load(progress: Progress) -> None:
    """Import what opens models, and say so meanwhile: it takes seconds."""
    if "babelpress.models.open" in sys.modules:
        return
    progress(HEAVY, 0, 1)
    importlib.import_module("babelpress.models.open")
    progress(HEAVY, 1, 1)


def model(name: str, *, quantized: bool = False) -> None:
    """Raise BadModel or BadRun for a MODEL that is not there, or that is refused by its config.

    Of a hub id nothing is asked here; `quantized` says whether a quantized model will do.
    """
    from babelpress.models import accepted
    from babelpress.runs.places import place_of

    accepted.peek(place_of(name), name, quantized=quantized)


def format(model: str, form: str) -> None:
    """Raise BadModel for a model that a format of export cannot hold, by its config.

    Of a hub id nothing is asked here.
    """
    from babelpress.export import FORMATS
    from babelpress.models import accepted
    from babelpress.runs.places import place_of

    if FORMATS.facts(form).get("ENCODERS_ONLY") and (
        config := accepted.local_config(place_of(model))
    ):
        accepted.check_encodes(model, config, form)


def gguf(options: Mapping[str, Any], *, moments: bool) -> None:
    """Raise what a GGUF file's kind, quantizer and imatrix raise: they need no model."""
    from babelpress.export import FORMATS, _llamacpp
    from babelpress.models import gguf_package

    gguf_package.package()
    given = {**FORMATS.options("gguf"), **options}
    known = FORMATS.facts("gguf")["KINDS"]
    _llamacpp.check(given["kind"], known, given["imatrix"], moments=moments)


def weighed(model: str, moments: Path | None, policy: str) -> None:
    """Raise for moments that are none, or shares of languages that nobody gives or that they lack.

    Of a run without a mixture of its own, and of a plain model, shares have to be given.
    """
    from babelpress.export import _shares
    from babelpress.runs import manifest
    from babelpress.runs.places import run_of

    there = of_moments(moments) if moments else []
    run = run_of(model)
    if policy:
        _shares.given(policy, moments, there, model)
    elif moments and not (run and manifest.is_finished(run) and manifest.read(run).shares):
        raise BadSetting(
            "--moments needs shares of languages, and the model has none of its own: give "
            "--mixture, as in --mixture uniform."
        )


def text(corpus: str, languages: Sequence[str] = ()) -> list[str]:
    """The languages that are meant; none where only a hub could tell which there are.

    Raises BadCorpus where there is no such folder, it lacks one of them, or it is demonstrations,
    UnknownName for a language that is none.
    """
    from babelpress.text.corpus import refuse_shots

    refuse_shots(corpus)
    return _drawn(corpus, languages)


def _drawn(corpus: str, languages: Sequence[str], *, ways: bool = False) -> list[str]:
    """The same for what is calibrated on, which may be demonstrations, or `ways` of translation."""
    from babelpress.text.corpus import open_source, require_english
    from babelpress.text.languages import both_ways, select, sides
    from babelpress.text.shots import shots_of

    shots = shots_of(corpus)
    if (shots.src if shots else corpus).startswith("hub:"):
        return select(languages) if languages else []
    found = open_source(corpus)
    there = both_ways(found.languages()) if ways else found.languages()
    tags = select(languages, among=there) if languages else there
    found.require(tag for each in tags for tag in sides(each))
    if shots:
        require_english(found)
    return tags


def looking(name: str, corpus: str, languages: Sequence[str], progress: Progress) -> None:
    """All that is asked of a model and a text that are only looked at."""
    model(name, quantized=True)
    text(corpus, languages)
    load(progress)


def calibration(asked: "CalibrationSettings") -> list[str]:
    """The same for the text of a calibration, and for what is kept apart from it."""
    asked.check_apart()
    if asked.evaluation:
        text(asked.evaluation)
    return _drawn(asked.corpus, asked.languages)


def search(
    name: str, asked: "CalibrationSettings", out: Path, **least: float
) -> "CalibrationSettings":
    """Raise for a search whose model, text or folder is none, that names no languages, or has a
    number under zero (`least`, by name of option); the text with the tags of its languages.
    """
    for option, value in least.items():
        if value < 0:
            raise BadSetting(f"--{option.replace('_', '-')} is {value:g}. It must be 0 or more.")
    if not asked.languages:
        raise BadSetting("--languages must name those that the model shall serve, as in sw,hi,th.")
    model(name)
    tags = calibration(asked)
    folder(out)
    return asked.model_copy(update={"languages": tuple(tags or asked.languages)})


def weighed_by_loss(name: str, asked: "CalibrationSettings", *, offload: bool) -> None:
    """Raise BadModel or BadSetting where the loss cannot say what tokens count; nothing is opened.

    Of a hub id nothing is asked here.
    """
    from babelpress.models.accepted import decodes, local_config
    from babelpress.runs.places import place_of
    from babelpress.text.settings import LOSS, check_loss

    config = local_config(place_of(name)) if asked.weigh == LOSS else None
    if asked.weigh == LOSS:
        check_loss(name, decodes=config is None or decodes(config), offload=offload)


def evaluation(asked: "EvaluationSettings") -> None:
    """The same for what is scored, where that is the test split of a corpus.

    Of an evaluation with texts of its own only the names of languages are looked at.
    """
    from babelpress import evals
    from babelpress.text.languages import select

    if asked.languages:
        select(asked.languages)
    if any(not evals.EVALUATIONS.defines(name, "texts") for name in asked.on):
        text(asked.corpus, asked.languages)


def scores(folder: Path, *, on: str = "") -> None:
    """Raise BadRun for a folder that is none, or has no such scores; those that a card tells."""
    from babelpress.judge.scores import in_common
    from babelpress.report.losses import judged_in

    in_common([folder], on or judged_in(folder))


def plan(asked: "Recipe", out: Path, *, offload: bool = False) -> None:
    """Raise for a recipe whose model, text, mixtures or moments are none, or whose folder is.

    A finished run is read and not done again, and asks for none of them.
    """
    from babelpress.runs import manifest

    run_folder(out)
    if not manifest.is_finished(out):
        recipe(asked, offload=offload)


def sweep(asked: "Sequence[Entry]", out: Path, results: str) -> None:
    """The same for the recipes of a sweep and how they are scored, where not one can be done.

    Of results that lie elsewhere than in a folder it is not known whether there are any.
    """
    folder(out)
    if "://" in results or Path(results).exists():
        return  # what is done is not asked for again
    wrong: list[BabelpressError] = []
    for each in asked:
        try:
            recipe(each.recipe)
            for asked_of in each.evaluate:
                evaluation(asked_of)
        except BabelpressError as error:
            wrong.append(error)
    if len(wrong) == len(asked):
        raise wrong[0]


def recipe(asked: "Recipe", *, offload: bool = False) -> None:
    """The same for one recipe, wherever it is to be done."""
    from babelpress.runs.places import check_pressable, origin_of
    from babelpress.steps import KINDS
    from babelpress.steps._pressing import check_against
    from babelpress.text.labelled import trained_on
    from babelpress.text.languages import select
    from babelpress.text.mixtures import check_there, mixture

    check_pressable(asked.model, asked.steps[0].kind)
    model(asked.model)
    reads_text = False
    for each in asked.steps:
        work, facts = each.work, KINDS.facts(each.kind)
        if facts.get("OWN_TEXT"):
            continue
        policy = getattr(work, "mixture", None)
        against = getattr(work, "against", None)
        if against and facts.get("DENSE"):  # a model that it is held against, no moments
            model(against)
            against = None
        second = of_moments(Path(against)) if against else []
        if moments := getattr(work, "moments", None):
            there = of_moments(Path(moments))
            tags = select(asked.calibration.languages, among=there) or there
        elif task := getattr(work, "task", None):
            there = tags = trained_on(task, asked.calibration.corpus, asked.calibration.languages)
        elif policy:
            reads_text = True
            text_of, wanted = asked.calibration.corpus, asked.calibration.languages
            there = tags = _drawn(text_of, wanted, ways=_translates(asked.model, policy, *wanted))
        else:
            continue
        if (needs := getattr(work, "holds_out", None)) is not None:
            held_out(needs.who, moments, asked.calibration.corpus, tags)
        if policy and tags:
            mixed = mixture(policy, tags, model=origin_of(asked.model))
            check_there(mixed, there)
            if against:
                check_against(against, second, mixed.shares)
    if reads_text:
        calibration(asked.calibration)
        weighed_by_loss(asked.model, asked.calibration, offload=offload)


def held_out(who: str, moments: str | None, corpus: str, tags: Sequence[str]) -> None:
    """Raise BadSetting or BadCorpus where no text can be held out of a corpus to measure on.

    Of moments it is the one that they were made of.
    """
    from babelpress.steps._pressing import check_held_out
    from babelpress.system.files import read_json

    if moments:
        found = read_json(Path(moments) / MANIFEST, error=BadMoments)
        read = found.get("calibration")
        corpus = str(read.get("corpus", "")) if isinstance(read, dict) else ""
    check_held_out(who, corpus, moments)
    if moments and corpus:
        try:
            _drawn(corpus, tags)
        except BadCorpus as error:
            raise BadCorpus(
                f"{who} needs more of the text that {moments} was made of: {error}"
            ) from error


def _translates(name: str, *asked: str) -> bool:
    """Whether a model reads directions of translation; of a hub id as far as the words tell."""
    from babelpress.models.accepted import local_config, translates
    from babelpress.runs.places import place_of
    from babelpress.text.languages import INTO

    config = local_config(place_of(name))
    if config is None:
        return any(INTO in each for each in asked)
    return translates(config)


def of_moments(moments: Path) -> list[str]:
    """The languages of a moments folder. Raises BadMoments."""
    from babelpress.system.files import read_json

    if not (moments / MANIFEST).exists():
        raise BadMoments(f"{moments} has no {MANIFEST}: it is no moments folder.")
    found = read_json(moments / MANIFEST, error=BadMoments)
    identity = found.get("identity") if isinstance(found, dict) else None
    there = identity.get("languages") if isinstance(identity, dict) else None
    if not isinstance(there, list) or not all(isinstance(tag, str) for tag in there):
        raise BadMoments(f"{moments / MANIFEST} names no languages: it is no manifest of moments.")
    return there


# ---- where results go ----------------------------------------------------------------------


def folder(out: Path) -> None:
    """Raise BadRun where there is a file in place of a folder, or nothing can be written."""
    if out.exists() and not out.is_dir():
        raise BadRun(f"{out} is a file, and results go into a folder. Choose another --out.")
    _check_writable(out)


def file(out: Path) -> None:
    """Raise BadRun where there is a folder in place of a file, or nothing can be written."""
    if out.is_dir():
        raise BadRun(f"{out} is a folder. Give the file with --out, as in {out / 'report.html'}.")
    _check_writable(out.absolute().parent)


def new_folder(out: Path) -> None:
    """Raise BadRun where there is anything already."""
    folder(out)
    if out.exists() and any(out.iterdir()):
        raise BadRun(f"{out} exists already. Choose another --out, or remove it.")


def run_folder(out: Path) -> None:
    """Raise BadRun where a folder holds something, and no run."""
    from babelpress.runs import manifest
    from babelpress.system.claims import occupied

    folder(out)
    if out.exists() and not manifest.is_run(out) and occupied(out):
        raise BadRun(f"{out} is not empty and holds no run. Choose another --out.")


def moments_folder(out: Path) -> None:
    """Raise BadMoments where a folder holds something, and no moments."""
    from babelpress.system.claims import occupied

    folder(out)
    if out.exists() and not (out / MANIFEST).exists() and occupied(out):
        raise BadMoments(f"{out} is not empty and no moments folder. Choose another --out.")


def _check_writable(place: Path) -> None:
    there = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
    if not there.is_dir():
        raise BadRun(f"cannot write {place}: {there} is a file. Choose another --out.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadRun(f"cannot write {place}: {there} may not be written. Choose another --out.")
