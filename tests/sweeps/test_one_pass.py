"""Recipes pressed in one pass: the same bytes as from moments of a folder, and nothing stored."""

import json
import os
import signal

import pytest
from killing import killed_after

from babelpress.commands.sweeping import sweep as command
from babelpress.errors import BadSetting
from babelpress.sweeps import passing, plan, schedule
from babelpress.sweeps.jobs import Press, Score, Size
from babelpress.sweeps.passing import Pass, why_not
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Setup
from babelpress.system.files import read_json

pytestmark = pytest.mark.usefixtures("one_thread")  # forked children must not touch OpenMP

PRUNE = {"method": "wanda", "pattern": "0.25", "propagate": "dense"}
SOLVE = {**PRUNE, "method": "sparsegpt"}
CODES = {"method": "gptq", "bits": 4, "group": 16, "propagate": "dense"}
SHARING = [
    [{"prune": PRUNE}],
    [{"prune": {**SOLVE, "mixture": "only:hi"}}],
    [{"quantize": {**CODES, "embeddings": "8bit"}}],
    # the second step looks at the model that the first one made
    [{"prune": SOLVE}, {"quantize": {**CODES, "keep_zeros": True}}],
]
ALONE = [
    ([{"prune": {**PRUNE, "propagate": "compressed"}}], "propagate dense"),
    ([{"prune": {**PRUNE, "mixture": "minimax"}}], "looks at all blocks"),
    ([{"prune": {**PRUNE, "allocate": "owl"}}], "looks at all blocks"),
    ([{"prune": {**PRUNE, "moments": "somewhere"}}], "moments are named"),
    ([{"shrink": {"ffn": "0.5", "propagate": "dense"}}], "first step is shrink"),
]


def asked(model, steps, **more):
    return plan.of(data(model, steps, **more))


def data(model, steps, **more):
    return {
        "model": str(model),
        "calibration": {"languages": ["sw", "hi"], "tokens": 200, "length": 50, **more},
        "steps": steps[0],
        "vary": {"steps": steps},
        "evaluate": {"languages": ["sw"], "documents": 2, "window": 64},
    }


def setup_in(folder, **more):
    return Setup(folder, str(folder / "results"), keep_models=True, **more)


def do(sweep, folder, **more):
    setup = setup_in(folder, **more)
    return schedule.do(sweep, setup, Here(setup))


def content(folder):
    """Results, weights and codes of all runs, and their manifests but for what may differ."""
    wanted = (*folder.glob("results/*"), folder / "results.jsonl")
    made = [*wanted, *folder.glob("runs/*/model/*"), *folder.glob("runs/*/codes/*")]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in made}
    for path in folder.glob("runs/*/manifest.json"):
        known = read_json(path)
        for step in known["steps"]:
            step["step"].pop("moments")
        for step in (each for part in known["recipe"]["steps"] for each in part.values()):
            step.pop("moments")
        known.pop("cost")
        known.pop("surroundings")
        found[str(path.relative_to(folder))] = json.dumps(without_cost(known), sort_keys=True)
    return found


def without_cost(value):
    if isinstance(value, dict):
        return {key: without_cost(each) for key, each in value.items() if key != "cost"}
    return [without_cost(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The sweep without one pass."""
    out = tmp_path_factory.mktemp("whole")
    assert not do(asked(model, SHARING), out).failed
    return out


def test_recipes_of_one_pass_are_byte_for_byte_those_from_stored_moments(
    model, whole, tmp_path, monkeypatch
):
    walks, real = [], passing.gather_dense

    def walking(*given, **more):
        walks.append(more["gram"])
        return real(*given, **more)

    monkeypatch.setattr(passing, "gather_dense", walking)

    swept = do(asked(model, SHARING), tmp_path, one_pass=True)

    assert not swept.failed
    assert walks == [True]
    assert content(tmp_path) == content(whole)
    # nothing that could be taken for a moments folder, and no run twice
    assert {path.name for path in tmp_path.iterdir()} == {
        *("dense", "results", "results.jsonl", "runs")
    }
    assert len([*(whole / "moments").iterdir()]) == 2
    recipes = [read_json(path)["recipe"] for path in tmp_path.glob("runs/*/manifest.json")]
    assert {step["moments"] for each in recipes for s in each["steps"] for step in s.values()} == {
        None
    }


def test_a_killed_pass_keeps_the_runs_that_it_has_made(model, whole, tmp_path, monkeypatch):
    sweep = asked(model, SHARING)
    real = passing.once

    def killed():
        def dies(*given):
            real(*given)
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(passing, "once", dies)
        do(sweep, tmp_path, one_pass=True)

    assert killed_after(300, killed)
    (there,) = (tmp_path / "pressed").glob("[!.]*")
    done, run = [], passing.run.do
    monkeypatch.setattr(
        passing.run, "do", lambda plan, out, **more: (done.append(out), run(plan, out, **more))
    )

    assert not do(sweep, tmp_path, one_pass=True).failed

    assert len(done) == len(SHARING) - 1
    assert not any(there.name in out.name for out in done)
    assert content(tmp_path) == content(whole)


def test_a_recipe_that_fails_stops_no_other_of_the_pass(model, tmp_path):
    steps = [[{"prune": {**PRUNE, "mixture": each}}] for each in ("only:yo", "uniform")]
    sweep = asked(model, steps)

    swept = do(sweep, tmp_path, one_pass=True)

    bad, good = (entry.fingerprint for entry in sweep.entries)
    assert list(swept.failed) == [bad] and "yor_Latn" in swept.failed[bad]
    assert {row["fingerprint"] for row in swept.rows} == {good}
    assert not [*tmp_path.glob("pressed/*")]


def test_a_pass_is_one_job_that_knows_its_memory_and_recipes_follow_it(model, tmp_path):
    sweep = asked(model, [*SHARING, *(steps for steps, _ in ALONE[:2])])

    found = schedule.missing(sweep, setup_in(tmp_path, one_pass=True), apart=True, sized=True)

    (one,) = [job for job in found if isinstance(job, Pass)]
    presses = {job.name: job for job in found if isinstance(job, Press)}
    in_it = [presses[entry.fingerprint] for entry in sweep.entries[: len(SHARING)]]
    assert [name for name, _ in one.plans] == [job.name for job in in_it]
    assert all(job.needs == (one.name,) and job.moments is None for job in in_it)
    assert presses[sweep.entries[-1].fingerprint].moments is not None  # minimax
    assert isinstance(one.size, Size) and one.size.plan.steps[0].work.needs_gram
    (scored,) = [job for job in found if isinstance(job, Score)]
    assert all(job.size == scored.size for job in in_it)


def test_other_text_is_another_pass_and_moments_that_are_there_are_read(model, whole):
    other = [asked(model, SHARING, seed=seed).entries for seed in (0, 3)]
    steps = [[{"prune": {**PRUNE, "pattern": each}}] for each in ("0.5", "0.75")]
    more = plan.Sweep((*asked(model, steps).entries, *other[1]))

    found = schedule.missing(more, setup_in(whole, one_pass=True), apart=False)

    (one,) = [job for job in found if isinstance(job, Pass)]
    assert {each.calibration.seed for _, each in one.plans} == {3}
    presses = [job for job in found if isinstance(job, Press)]
    assert [job.passed is None for job in presses] == [True, True, False, False, False, False]


@pytest.mark.parametrize(("steps", "words"), ALONE)
def test_what_cannot_share_says_why(model, steps, words):
    (entry,) = asked(model, [steps]).entries

    assert words in why_not(entry.recipe)
    assert Pass.of(entry.recipe, None) is None


def test_text_that_the_model_writes_is_not_shared(model):
    (entry,) = asked(model, SHARING[:1], corpus="self").entries

    assert "writes its text itself" in why_not(entry.recipe)


def test_the_command_says_what_is_not_in_the_pass(model, tmp_path):
    sweep = data(model, [SHARING[0], ALONE[0][0]])

    planned = command(sweep, out=tmp_path / "out", one_pass=True, dry_run=True)
    without = command(sweep, out=tmp_path / "out", dry_run=True)

    (said,) = [line for line in planned.says if "not in the one pass" in line]
    assert "compressed" in said and "propagate dense" in said
    assert not any("one pass" in line for line in without.says)
    with pytest.raises(BadSetting, match=r"--one-pass keeps .* --device is cuda"):
        command(sweep, out=tmp_path / "out", one_pass=True, device="cuda")
