"""A sweep that was stopped goes on where it was: what was pressed and scored is not done again."""

import functools
import json
import os
import shutil
import signal
from contextlib import chdir
from pathlib import Path

import pico
import pytest
from folders import content, halves
from killing import killed_after, single_thread

from babelpress.errors import BadRun
from babelpress.evals import bits_per_byte
from babelpress.runs import run
from babelpress.sweeps import folders, found, plan, schedule
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Setup
from babelpress.system.progress import silent

pytestmark = pytest.mark.usefixtures("one_thread")  # forked children must not touch OpenMP

LANGUAGES = ["amh_Ethi", "hin_Deva", "swh_Latn"]
LANGUAGE = "eval bits_per_byte: language"  # what progress says when one was scored
DENSE, PRESSED = 1, 2  # which model a sweep scores first


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pico.model().save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return plan.of(
        {
            "model": str(folder),
            "calibration": {"languages": LANGUAGES[:2], "tokens": 100, "length": 50},
            "steps": [{"prune": {"method": "wanda", "pattern": "0.25", "propagate": "dense"}}],
            "evaluate": {"languages": LANGUAGES, "documents": 1, "window": 64},
        }
    )


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory):
    """The folder of the sweep that nothing stopped, on one thread as the others are.

    It is made before a test sets its threads, and how many there were stands in manifests.
    """
    folder = tmp_path_factory.mktemp("whole") / "out"
    with single_thread():
        do(asked, folder)
    return folder


@pytest.fixture
def out(tmp_path):
    """The folder of the sweep that is stopped."""
    return tmp_path / "out"


@pytest.fixture
def counted(monkeypatch):
    """The languages that are scored, and the steps that are done, in their order."""
    scored, steps = [], []
    measure, step = bits_per_byte.measure, run._do_step

    @functools.wraps(measure)
    def measures(model, tokenizer, documents, **given):
        scored.extend(documents)
        return measure(model, tokenizer, documents, **given)

    def does(recipe, number, *more, **given):
        steps.append(number)
        return step(recipe, number, *more, **given)

    monkeypatch.setattr(bits_per_byte, "measure", measures)
    monkeypatch.setattr(run, "_do_step", does)
    return scored, steps


def do(asked, folder, progress=silent):
    with chdir(folder.parent):  # recipes name the folder of their moments
        setup = Setup(Path(folder.name), str(Path(folder.name, "results")))
        return schedule.do(asked, setup, Here(setup, progress), progress=progress)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt():
    raise KeyboardInterrupt


def stopping(which, language, action):
    """A progress that stops the sweep when a model has been scored in so many languages."""
    models = [0]

    def progress(what, now, _total):
        if what == LANGUAGE:
            models[0] += now == 1
            if (models[0], now) == (which, language):
                action()

    return progress


def stopped(asked, folder, which=PRESSED, language=2):
    assert killed_after(120, lambda: do(asked, folder, stopping(which, language, kill)))


def same(folder, whole):
    """Whether all that the sweep left is, but for its cost, what the whole one left."""
    assert content(folder) == content(whole)
    assert not halves(folder)


@pytest.mark.parametrize(
    ("which", "language"),
    [(DENSE, 1), (PRESSED, 1), pytest.param(PRESSED, 3, marks=pytest.mark.slow)],
)
def test_a_killed_sweep_scores_only_the_languages_that_are_missing(
    asked, whole, out, counted, which, language
):
    stopped(asked, out, which, language)

    swept = do(asked, out)

    rest, every = LANGUAGES[language:], LANGUAGES
    scored, steps = counted
    assert scored == (rest + every if which == DENSE else rest)
    assert steps == ([0] if which == DENSE else [])
    assert not swept.failed
    same(out, whole)


def test_an_interrupted_sweep_goes_on_as_a_killed_one_does(asked, whole, out, counted):
    with pytest.raises(KeyboardInterrupt):
        do(asked, out, stopping(PRESSED, 2, interrupt))
    for each in counted:
        each.clear()

    do(asked, out)

    assert counted == (LANGUAGES[2:], [])
    same(out, whole)


@pytest.mark.slow
def test_a_sweep_can_be_stopped_several_times(asked, whole, out, counted):
    stopped(asked, out, DENSE, 1)
    stopped(asked, out, DENSE + 1, 1)  # the dense model is gone on with, and then pressed
    stopped(asked, out, DENSE, 2)  # now the dense one is done, and the pressed one comes first

    do(asked, out)

    assert counted == (LANGUAGES[2:], [])
    same(out, whole)


def test_what_a_machine_that_is_gone_was_at_is_gone_on_with(asked, whole, out, counted):
    stopped(asked, out)
    (begun,) = (out / "runs").glob(".*.partial")
    name = begun.name.split(".")[1]
    there = begun.rename(begun.with_name(f".{name}.7@node-3.example.org.partial"))
    (there / ".lock").write_text(json.dumps({"pid": 7, "host": "node-3.example.org"}))
    (out / ".lock").unlink()
    behind = there.with_name(f".{name}.8@node-4.partial")  # an attempt that came less far
    behind.mkdir()

    do(asked, out)

    assert counted == (LANGUAGES[2:], [])
    same(out, whole)


def test_halves_of_files_in_what_was_begun_are_gone_before_it_is_gone_on_with(tmp_path):
    begun = tmp_path / ".a.left.partial"
    (begun / "deep" / ".x.7@node.partial" / "y").mkdir(parents=True)
    (begun / "deep" / "whole").write_text("1")
    (begun / ".block_000.safetensors.ff.partial").write_text("half")
    seen = []

    folders.once(tmp_path / "a", lambda new: seen.extend(new.rglob("*")), silent)

    assert {path.name for path in seen} == {"deep", "whole"}
    assert {path.name for path in (tmp_path / "a").rglob("*")} == {"deep", "whole"}


def test_what_a_step_was_stopped_in_is_left_to_the_run(tmp_path):
    """Rounds and tables that losses were measured for lie there; the run takes them, or not."""
    begun = tmp_path / ".a.left.partial" / "steps" / ".01-prune.7@node.partial" / "training"
    begun.mkdir(parents=True)
    (begun / "checkpoint-rounds.json").write_text("{}")
    seen = []

    folders.once(tmp_path / "a", lambda new: seen.extend(new.rglob("*.json")), silent)

    assert [path.name for path in seen] == ["checkpoint-rounds.json"]


def test_an_error_that_is_none_of_what_was_begun_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / ".a.left.partial").mkdir()

    def fails(new):
        (new / "b").write_text("x")
        raise BadRun("it cannot be")

    with pytest.raises(BadRun, match="it cannot be"):
        folders.once(tmp_path / "a", fails, silent)

    assert not list(tmp_path.iterdir())


def spoil_weights(run):
    path = next(run.glob("model/*.safetensors"))
    path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3")


def spoil_manifest(run):
    (run / "manifest.json").write_text('{"half')


def lose_model(run):
    shutil.rmtree(run / "model")


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_weights,
        pytest.param(spoil_manifest, marks=pytest.mark.slow),
        pytest.param(lose_model, marks=pytest.mark.slow),
    ],
)
def test_what_is_no_longer_as_it_was_written_is_made_from_the_beginning(
    asked, whole, out, counted, spoil
):
    stopped(asked, out)
    (begun,) = (out / "runs").glob(".*.partial")
    spoil(begun)
    said = []

    swept = do(asked, out, lambda what, *_: said.append(what))

    assert not swept.failed
    assert counted == (LANGUAGES, [0])
    assert any(what.startswith("going on with runs/") for what in said)
    assert any("is made from the beginning" in what for what in said)
    same(out, whole)


def test_a_spoiled_tally_is_scored_again_and_no_other(asked, whole, out, counted):
    stopped(asked, out)
    (tally,) = (out / "runs").glob(f".*.partial/tallies/*.{LANGUAGES[0]}.parquet")
    tally.write_bytes(tally.read_bytes()[:-9])

    do(asked, out)

    assert counted == ([LANGUAGES[0], LANGUAGES[2]], [])
    same(out, whole)


def test_a_recipe_that_is_no_longer_asked_for_leaves_nothing_begun(asked, out):
    stopped(asked, out)
    (entry,) = asked.entries
    other = plan.of(
        {**entry.recipe.model_dump(mode="json"), "evaluate": {"languages": ["sw"], "documents": 1}}
    )

    do(other, out)

    assert not halves(out)


def test_a_dense_model_that_is_half_scored_is_none_of_a_report(asked, whole, out):
    shutil.copytree(whole, out)
    (dense,) = (out / found.DENSE).iterdir()
    shutil.copytree(dense, dense.with_name(f".{dense.name}.7@node.partial"))

    assert found.find(out, "bits_per_byte").dense == dense
