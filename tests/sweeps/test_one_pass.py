"""Recipes pressed in one pass: the same bytes as from moments of a folder, and nothing stored."""

import json
import os
import signal
from dataclasses import replace

import pico
import pytest
from killing import killed_after

from babelpress.commands.sweeping import sweep as command
from babelpress.errors import BadSetting
from babelpress.moments import calibrate
from babelpress.runs.open import open_any
from babelpress.steps import _looking
from babelpress.steps._kind import Estimate
from babelpress.sweeps import jobs, passing, plan, schedule
from babelpress.sweeps.jobs import Press, Score, Size
from babelpress.sweeps.looks import Look, Merge
from babelpress.sweeps.passing import Pass, why_not
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Setup
from babelpress.system import memory
from babelpress.system.files import read_json, write_json
from babelpress.system.progress import silent
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")  # forked children must not touch OpenMP

PRUNE = {"method": "wanda", "pattern": "0.25", "propagate": "dense"}
SOLVE = {**PRUNE, "method": "sparsegpt"}
CODES = {"method": "gptq", "bits": 4, "group": 16, "propagate": "dense"}
SHARING = [
    [{"prune": PRUNE}],
    [{"prune": {**SOLVE, "mixture": "only:hi"}}],
    [{"quantize": {**CODES, "embeddings": "8bit"}}],
    [{"quantize": {**CODES, "options": {"order": "none"}}}],
]
ALONE = [
    ([{"prune": {**PRUNE, "propagate": "compressed"}}], "propagate dense"),
    ([{"prune": {**PRUNE, "mixture": "minimax"}}], "looks at all blocks"),
    ([{"prune": {**PRUNE, "allocate": "owl"}}], "looks at all blocks"),
    ([{"prune": {**PRUNE, "allocate": "owl", "propagate": "compressed"}}], "looks at all blocks"),
    ([{"prune": {**PRUNE, "moments": "somewhere"}}], "moments are named"),
    ([{"prune": SOLVE}, {"quantize": {**CODES, "keep_zeros": True}}], "steps after its first"),
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


def counted(monkeypatch):
    """The walks over text that begin from now on, each with whether it has Gram matrices."""
    walks = []
    for module in (passing, _looking, calibrate):

        def walking(*given, real=module.gather_dense, **more):
            walks.append(more["gram"])
            return real(*given, **more)

        monkeypatch.setattr(module, "gather_dense", walking)
    return walks


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The sweep without one pass."""
    out = tmp_path_factory.mktemp("whole")
    assert not do(asked(model, SHARING), out).failed
    return out


def test_recipes_of_one_pass_are_byte_for_byte_those_from_stored_moments(
    model, whole, tmp_path, monkeypatch
):
    walks = counted(monkeypatch)
    monkeypatch.setattr(memory._CHOSEN, "at_once", False)

    swept = do(asked(model, SHARING), tmp_path, one_pass=True)

    assert not swept.failed and not swept.alone
    assert walks == [True]
    assert not memory.short()  # which it was in the pass
    assert content(tmp_path) == content(whole)
    # nothing that could be taken for a moments folder, and no run twice
    assert {path.name for path in tmp_path.iterdir()} == {
        *("dense", "passes", "results", "results.jsonl", "runs")
    }
    (cost,) = [read_json(path)["passes"] for path in tmp_path.glob("passes/*.json")]
    assert [len(each["recipes"]) for each in cost] == [len(SHARING)]
    assert all(each["cost"]["seconds"] > 0 for each in cost)
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


def test_a_pass_that_was_killed_at_a_block_goes_on_with_what_it_had_begun(
    model, whole, tmp_path, monkeypatch
):
    sweep, real, taken = asked(model, SHARING), passing.Offered, []

    def killed():
        def offered(*given):
            *rest, take = given

            def dies():
                taken.append(True)
                if len(taken) > len(SHARING) + 1:  # the first recipe has pressed a block
                    os.kill(os.getpid(), signal.SIGKILL)
                return take()

            return real(*rest, dies)

        monkeypatch.setattr(passing, "Offered", offered)
        do(sweep, tmp_path, one_pass=True)

    assert killed_after(300, killed)
    assert [*tmp_path.glob("pressed/.*.partial")]
    assert not [*tmp_path.glob("pressed/[!.]*")]

    assert not do(sweep, tmp_path, one_pass=True).failed

    assert content(tmp_path) == content(whole)


def test_a_recipe_that_fails_stops_no_other_and_is_not_tried_again(model, tmp_path, monkeypatch):
    done, run = [], passing.run.do
    monkeypatch.setattr(
        passing.run, "do", lambda plan, out, **more: (done.append(out), run(plan, out, **more))
    )
    steps = [[{"prune": {**PRUNE, "mixture": each}}] for each in ("only:yo", "uniform")]
    sweep = asked(model, steps)

    swept = do(sweep, tmp_path, one_pass=True)

    bad, good = (entry.fingerprint for entry in sweep.entries)
    assert list(swept.failed) == [bad] and "yor_Latn" in swept.failed[bad]
    assert {row["fingerprint"] for row in swept.rows} == {good}
    assert not [*tmp_path.glob("pressed/*")]
    assert len(done) == 2


def test_what_fails_at_a_block_for_want_of_memory_is_done_again_alone(
    model, whole, tmp_path, monkeypatch
):
    walks, sweep, real, taken = counted(monkeypatch), asked(model, SHARING), passing.run.do, []
    bad = sweep.entries[1].fingerprint

    def short_of_memory(plan, out, **more):
        offered = _looking._OFFERED.get()

        def take():
            block = offered.take()
            taken.append(True)
            if len(taken) == 2:
                raise RuntimeError("not enough memory")
            return block

        fails = bad in out.name and not taken
        with _looking.offering(replace(offered, take=take) if fails else offered):
            return real(plan, out, **more)

    monkeypatch.setattr(passing.run, "do", short_of_memory)

    assert not do(sweep, tmp_path, one_pass=True).failed

    assert len(taken) == 2
    assert walks == [True, True]
    assert content(tmp_path) == content(whole)


def test_more_recipes_than_can_be_held_at_once_walk_in_groups(model, whole, tmp_path, monkeypatch):
    walks = counted(monkeypatch)
    monkeypatch.setattr(passing, "at_once", lambda _: 3)

    assert not do(asked(model, SHARING), tmp_path, one_pass=True).failed

    assert len(walks) == 2
    assert content(tmp_path) == content(whole)


def test_how_many_are_held_at_once_goes_by_the_mapped_files_that_the_system_allows(
    model, tmp_path, monkeypatch
):
    opened = open_any(str(model))
    each = len([*opened.model.parameters()]) + passing.OTHER_MAPS
    monkeypatch.setattr(passing, "MAPS", tmp_path / "max_map_count")
    assert passing.at_once(opened) == 65_530 * 3 // 4 // each

    (tmp_path / "max_map_count").write_text(f"{8 * each}\n")
    assert passing.at_once(opened) == 6
    (tmp_path / "max_map_count").write_text("5\n")
    assert passing.at_once(opened) == 1


def test_an_offer_is_taken_once():
    work = of_method("wanda", "nowhere").recipe.steps[0].work
    offered = _looking.Offered("dense", ("swh_Latn",), {}, True, dict)
    look = CalibrationSettings(), work

    with _looking.offering(offered):
        assert _looking.of_offered("another", *look, gram=True) is None
        assert _looking.of_offered("dense", *look, gram=True) is not None
        assert _looking.of_offered("dense", *look, gram=True) is None


def of_method(method, model, **more):
    (entry,) = asked(model, [[{"prune": {**PRUNE, "method": method, **more}}]]).entries
    return entry


def of_entries(*entries):
    return plan.Sweep(entries)


def kinds(found, *wanted):
    return [job for job in found if isinstance(job, wanted)]


def test_runs_of_a_pass_are_used_whatever_moments_another_recipe_has_stored(model, tmp_path):
    entries = [of_method("wanda", model, mixture="minimax"), of_method("wanda", model)]
    sweep = of_entries(*entries, of_method("sparsegpt", model))
    first = schedule.missing(sweep, setup_in(tmp_path, one_pass=True), apart=False)
    (stored,) = kinds(first, Merge)
    stored.folder(tmp_path).mkdir(parents=True)
    made = passing.folder_of(tmp_path, entries[1].fingerprint)
    (made / "model").mkdir(parents=True)
    (made / "model" / "weights").write_text("pressed")

    for one_pass in (True, False):
        setup = setup_in(tmp_path, one_pass=one_pass)
        found = schedule.missing(sweep, setup, apart=False)
        (job,) = [job for job in kinds(found, Press) if job.name == entries[1].fingerprint]
        assert job.needs == ()
    new = tmp_path / "new"
    new.mkdir()
    job._press(new, setup, progress=silent)
    assert (new / "model" / "weights").read_text() == "pressed"
    assert (new / "model" / "weights").samefile(made / "model" / "weights")


def test_moments_stored_for_a_recipe_that_cannot_share_are_read_and_no_richer_than_it_needs(
    model, tmp_path
):
    minimax, plain = of_method("wanda", model, mixture="minimax"), of_method("wanda", model)
    sweep = of_entries(minimax, plain, of_method("sparsegpt", model))

    found = schedule.missing(sweep, setup_in(tmp_path, one_pass=True), apart=False)

    assert [job.gram for job in kinds(found, Look, Merge)] == [False, False]
    (one,) = kinds(found, Pass)
    assert [name for name, _ in one.plans] == [sweep.entries[2].fingerprint]
    alone = schedule.alone(found)
    assert "looks at all blocks" in alone[minimax.fingerprint]
    assert "stored for a recipe" in alone[plain.fingerprint]
    assert len(alone) == 2


def test_richer_moments_that_stand_need_no_pass(model, tmp_path):
    sweep, setup = of_entries(of_method("wanda", model)), setup_in(tmp_path, one_pass=True)
    without = schedule.missing(sweep, setup_in(tmp_path), apart=False)
    (stored,) = kinds(without, Merge)
    stored.with_gram.folder(tmp_path).mkdir(parents=True)

    found = schedule.missing(sweep, setup, apart=False)

    assert kinds(found, Merge) == [stored]
    assert not kinds(found, Look, Pass)


def test_a_model_that_is_computed_in_another_dtype_is_in_no_pass(tmp_path):
    pico.model().half().save_pretrained(tmp_path / "half")
    pico.tokenizer().save_pretrained(tmp_path / "half")
    sweep = of_entries(of_method("wanda", tmp_path / "half"))

    found = schedule.missing(sweep, setup_in(tmp_path / "out", one_pass=True), apart=False)

    assert not kinds(found, Pass)
    (why,) = schedule.alone(found).values()
    assert "another dtype" in why


def test_a_pass_takes_its_largest_method_and_an_open_model_for_each_that_waits(
    model, tmp_path, monkeypatch
):
    takes = {"wanda": 50, "sparsegpt": 70}
    monkeypatch.setattr(passing, "opened_bytes", lambda *_: 1000)

    def tried(plan, *, device):
        return [Estimate({}, takes.pop(plan.steps[0].work.method), 0)]  # each method once

    monkeypatch.setattr(jobs, "estimate", tried)
    entries = [of_method("sparsegpt", model), of_method("wanda", model)]
    more = of_method("wanda", model, pattern="0.5")
    setup = setup_in(tmp_path, one_pass=True)
    found = schedule.missing(of_entries(*entries, more), setup, apart=True, sized=True)
    (one,) = kinds(found, Pass)

    one.size.do(setup, silent)

    assert jobs.memory(one, tmp_path) == 70 + 2 * 1000


def test_open_models_are_reckoned_by_what_a_second_one_takes(monkeypatch):
    class Holds:
        held = 0

        def __init__(self):
            Holds.held += 300

    monkeypatch.setattr(passing, "open_any", lambda _, **__: Holds())
    monkeypatch.setattr(passing, "used", lambda: Holds.held)

    assert passing.opened_bytes("m", "cpu") == 300


def test_a_recipe_reserves_what_pressing_takes_until_the_pass_has_left_its_run(model, tmp_path):
    sweep = of_entries(of_method("sparsegpt", model))
    found = schedule.missing(sweep, setup_in(tmp_path, one_pass=True), apart=True, sized=True)
    ((one,), (job,)) = kinds(found, Pass), kinds(found, Press)
    assert {one.size.name, job.scored.name} <= {each.name for each in kinds(found, Size)}
    (tmp_path / "sizes").mkdir()
    write_json(tmp_path / f"{one.size.name}.json", {"memory_bytes": 900})
    write_json(tmp_path / f"{job.scored.name}.json", {"memory_bytes": 100})

    assert jobs.memory(job, tmp_path) == 900
    passing.folder_of(tmp_path, job.name).mkdir(parents=True)
    assert jobs.memory(job, tmp_path) == 100


def test_a_pass_is_one_job_that_knows_its_memory_and_recipes_follow_it(model, tmp_path):
    sweep = asked(model, [*SHARING, *(steps for steps, _ in ALONE[:2])])

    found = schedule.missing(sweep, setup_in(tmp_path, one_pass=True), apart=True, sized=True)

    (one,) = [job for job in found if isinstance(job, Pass)]
    presses = {job.name: job for job in found if isinstance(job, Press)}
    in_it = [presses[entry.fingerprint] for entry in sweep.entries[1 : len(SHARING)]]
    assert [name for name, _ in one.plans] == [job.name for job in in_it]
    assert all(job.needs == (one.name,) and job.moments is None for job in in_it)
    read = [presses[sweep.entries[index].fingerprint].moments for index in (0, -1)]
    assert read[0] == read[1] is not None  # what is stored for minimax serves Wanda
    assert isinstance(one.size, Size) and one.size.plan.steps[0].work.needs_gram
    assert len(one.size.others) == len(in_it) - 1
    (scored,) = [job for job in found if isinstance(job, Score)]
    assert all((job.size, job.scored) == (one.size, scored.size) for job in in_it)


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


def model_bytes(model):
    return (model / "model.safetensors").stat().st_size


def test_the_command_says_what_is_not_in_the_pass(model, tmp_path):
    sweep = data(model, [SHARING[0], ALONE[0][0]])

    planned = command(sweep, out=tmp_path / "out", one_pass=True, dry_run=True)
    without = command(sweep, out=tmp_path / "out", dry_run=True)

    (said,) = [line for line in planned.says if "not in the one pass" in line]
    assert "compressed" in said and "propagate dense" in said
    (room,) = [line for line in planned.says if line.startswith("one pass")]
    assert "for 1 recipes" in room and f"{model_bytes(model):,} bytes" in room
    assert not any("one pass" in line for line in without.says)
    with pytest.raises(BadSetting, match=r"--one-pass keeps .* --device is cuda"):
        command(sweep, out=tmp_path / "out", one_pass=True, device="cuda")
