"""Recipes that begin with the same training: it is done once, and they are held against it."""

import shlex

import labelling
import pico
import pytest
import scoring
import torch
from safetensors.torch import load_file

from babelpress import cli, commands
from babelpress.commands.compared import folders
from babelpress.judge import verdicts
from babelpress.judge.evaluate import evaluate
from babelpress.models.weights import weights_hash
from babelpress.report.gather import report_input
from babelpress.runs import manifest, run
from babelpress.runs.open import open_any
from babelpress.steps import _distilling, _finetuning
from babelpress.sweeps import plan, schedule
from babelpress.sweeps.beginnings import Begin, rest
from babelpress.sweeps.found import find
from babelpress.sweeps.jobs import Press, Score, Size
from babelpress.sweeps.looks import Look
from babelpress.sweeps.passing import Pass
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Setup
from babelpress.system.files import write_json

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"sw": {"train": 12, "dev": 3, "test": 6}, "ha": {"train": 12, "dev": 3, "test": 6}}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("begun")
    model = labelling.folder(root / "bare", labelling.loud(pico.model("bert").base_model, 0.12))
    return model, labelling.write_topics(root / "topics", SIZES)


def learn(topics, **more):
    asked = {"task": "topic", "corpus": topics, "epochs": 2, "rate": 0.01, "batch": 4, "length": 32}
    return {"finetune": {**asked, **more}}


def prune(pattern="0.5", method="magnitude", **more):
    return {"prune": {"method": method, "pattern": pattern, **more}}


def asked(places, *steps, **more):
    model, topics = places
    return plan.of(
        {
            "model": model,
            "calibration": {"languages": ["sw", "ha"], "tokens": 120, "length": 30},
            "steps": list(steps),
            "evaluate": {"on": ["classify"], "corpus": topics, "window": 32},
            **more,
        }
    )


def written(entry):
    """The file of a sweep of one recipe."""
    return {**entry.recipe.model_dump(mode="json"), "evaluate": plan.dumped(entry.evaluate)}


def do(sweep, out, **more):
    setup = Setup(out, str(out / "results"), **more)
    return schedule.do(sweep, setup, Here(setup))


def parent(begun, out, entry):
    """The scores by language of what a recipe has begun with."""
    rows = evaluate(open_any(str(begun)), out, *entry.evaluate)
    return {row["language"]: row["value"] for row in rows}


@pytest.fixture
def trainings(monkeypatch):
    """What was trained, a word each."""
    found = []

    def counted(module, name):
        before = getattr(module, name)

        def train(*args):
            found.append(name)
            return before(*args)

        monkeypatch.setattr(module, name, train)

    counted(_finetuning, "finetune")
    counted(_distilling, "distil")
    return found


def test_a_training_is_done_once_and_is_what_its_recipes_are_held_against(
    places, tmp_path, trainings
):
    recipes = [
        {"steps": [learn(places[1]), prune("0.25")]},
        {"steps": [learn(places[1]), prune("0.75")]},
        {"steps": [learn(places[1])], "calibration.tokens": 90},
        {"steps": [prune("0.75"), learn(places[1])]},
    ]
    sweep = asked(places, prune(), recipes=recipes)

    swept = do(sweep, tmp_path / "out", keep_models=True)

    assert not swept.failed
    assert not swept.unscored
    assert trainings == ["finetune", "finetune"]  # the second is of what was pruned before
    (begun,) = (tmp_path / "out" / "begun").iterdir()
    dense = parent(begun, tmp_path / "scores", sweep.entries[0])
    by_recipe = [swept.rows[place : place + 2] for place in range(0, 8, 2)]
    for rows in by_recipe[:2]:
        assert {row["language"]: row["dense"] for row in rows} == dense
    assert {row["language"]: row["value"] for row in by_recipe[2]} == dense
    assert {row["dense"] for rows in by_recipe[2:] for row in rows} == {None}
    run.do(sweep.entries[1].recipe, tmp_path / "alone")
    one, other = (
        load_file(place / "model" / "model.safetensors")
        for place in (tmp_path / "alone", tmp_path / "out" / "runs" / sweep.entries[1].fingerprint)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_seed_is_a_beginning_of_its_own_and_what_is_done_is_not_done_again(
    places, tmp_path, trainings
):
    vary = {"steps.0.finetune.seed": [0, 1], "steps.1.prune.pattern": ["0.25", "0.5"]}
    evaluate = {"on": ["class_ece"], "corpus": places[1], "window": 32}  # no two models have equal
    sweep = asked(places, learn(places[1]), prune(), vary=vary, evaluate=evaluate)

    first = do(sweep, tmp_path / "out")

    parents = {}
    assert len(trainings) == 2
    assert len({row["weights"] for row in first.rows}) == 4
    for number, entry in enumerate(sweep.entries):
        begun = Begin(plan.with_head(entry.recipe)).folder(tmp_path / "out")
        dense = parent(begun, tmp_path / begun.name, entry)
        rows = first.rows[2 * number : 2 * number + 2]
        assert {row["language"]: row["dense"] for row in rows} == dense
        parents.setdefault(begun, dense)
    one, other = parents.values()
    assert one != other
    assert not [*(tmp_path / "out" / "runs").glob("*/model")]
    assert len([*(tmp_path / "out" / "begun").glob("*/model")]) == 2
    again = do(sweep, tmp_path / "out")
    assert again.rows == first.rows
    assert again.skipped == 4
    vary["steps.1.prune.pattern"] = ["0.25", "0.5", "0.75"]
    do(asked(places, learn(places[1]), prune(), vary=vary, evaluate=evaluate), tmp_path / "out")
    alone = do(asked(places, learn(places[1])), tmp_path / "out")
    assert not alone.failed
    assert len(trainings) == 2


def test_the_command_that_makes_a_run_again_goes_on_from_its_training(
    places, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sweep = asked(places, learn(places[1]), prune("0.25"))
    write_json(tmp_path / "sweep.yaml", written(sweep.entries[0]))

    found = commands.sweep(tmp_path / "sweep.yaml", out=tmp_path / "out")

    (line,) = (line for line in found.says if line.startswith("weights were not kept"))
    program, *words = shlex.split(line.partition("One again: ")[2])
    assert program == "babelpress"
    assert cli.main(words) == 0
    first = manifest.read(tmp_path / "out" / "runs" / found.rows[0]["fingerprint"])
    assert manifest.read(tmp_path / "run").recipes == first.recipes
    again = open_any(str(tmp_path / "run"))
    assert weights_hash(again.model) == found.rows[0]["weights"]


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("bits_per_byte", "bert sees the tokens that it should predict"),
        ("ner", "ForSequenceClassification has no head that labels words"),
    ],
)
def test_what_a_head_cannot_be_scored_on_is_said_before_it_is_trained(
    places, tmp_path, trainings, on, said
):
    evaluate = {"on": [on], "corpus": "embedded" if on == "bits_per_byte" else places[1]}
    sweep = asked(places, learn(places[1]), prune(), evaluate=evaluate)

    swept = do(sweep, tmp_path / "out")

    assert said in swept.failed[sweep.entries[0].fingerprint]
    assert not trainings


def test_runs_go_by_what_they_began_with_too(model, places, tmp_path):
    distil = {"distill": {"layers": 1, "objective": ["hidden"], "steps": 2, "batch": 2}}
    vary = {"steps.0.distill.steps": [2, 3], "steps.1.prune.pattern": ["0.25", "0.5"]}
    evaluate = {"documents": 2, "window": 64, "languages": ["sw"]}
    text = {"languages": ["sw", "hi"], "tokens": 60, "length": 30}
    more = {"model": str(model), "calibration": text, "evaluate": evaluate}
    do(asked(places, distil, prune(), vary=vary, **more), tmp_path / "out")

    found = folders(tmp_path / "out", [], "bits_per_byte", "", [])

    assert found.words == [f"steps {many}, pattern {p}" for many in (2, 3) for p in ("0.25", "0.5")]


def test_what_is_only_fine_tuned_stands_in_no_comparison_and_is_named(places, tmp_path):
    recipes = [{"steps": [learn(places[1])]}, {"steps": [learn(places[1]), prune("0.25")]}]
    sweep = asked(places, prune(), recipes=recipes)
    do(sweep, tmp_path / "out")

    found = commands.compare(tmp_path / "out", on="classify")

    tuned, pressed = (each.fingerprint for each in sweep.entries)
    assert {row["run"] for row in found.rows} == {pressed}
    assert any(f"gave them their head: {tuned}" in line for line in found.says)


def test_a_report_names_the_model_that_was_fine_tuned_and_where_it_is(places, tmp_path):
    model, topics = places
    out = tmp_path / "out"
    do(asked(places, learn(topics), prune("0.25")), out)
    swept = find(out, "classify")

    given = report_input(swept.dense, swept.runs, on="classify")

    (begun,) = (out / "begun").iterdir()
    assert verdicts.model_name(swept.dense, "classify") == model
    assert given.model == f"{model}, fine-tuned"
    assert given.title.startswith(f"{model}, fine-tuned: ")
    assert shlex.split(given.again[0])[:3] == ["babelpress", "eval", str(begun)]
    assert open_any(shlex.split(given.again[0])[2])


def test_what_was_fine_tuned_has_the_training_shares_of_what_it_began_as(tmp_path):
    dense = scoring.scored(
        tmp_path / "dense" / "key", dict.fromkeys(scoring.LOSS, 0.0), model="begun/aaaa"
    )
    run = scoring.run(tmp_path / "runs" / "one", scoring.LOSS)
    scoring.run(tmp_path / "begun" / "aaaa", scoring.LOSS)

    given = report_input(dense, [run], on=scoring.ON)

    assert given.shares is not None
    assert set(given.shares) == set(scoring.LOSS)


def test_moments_of_what_was_trained_are_shared_too(places, tmp_path):
    steps = [learn(places[1]), prune(method="wanda", propagate="dense")]
    sweep = asked(places, *steps, vary={"steps.1.prune.pattern": ["0.25", "0.5"]})
    setup = Setup(tmp_path / "out", str(tmp_path / "out" / "results"))

    todo = schedule.missing(sweep, setup, apart=False, sized=True)
    swept = do(sweep, tmp_path / "out")

    kinds = [type(job).__name__ for job in todo if type(job).__name__ != "Size"]
    assert kinds == ["Begin", "Look", "Merge", "Score", "Press", "Press"]
    assert all(job.size for job in todo if isinstance(job, Begin | Look | Score | Press))
    assert not swept.failed
    found = find(tmp_path / "out", "classify")
    assert len(found.runs) == 2
    assert manifest.read(found.runs[0]).recipe["model"].startswith(str(tmp_path / "out" / "begun"))


def test_seeds_of_a_training_share_a_dry_run_and_what_is_copied_has_that_too(places, tmp_path):
    vary = {"steps.0.finetune.seed": [0, 1]}
    recipes = [{"steps": [learn(places[1])]}, {"steps": [learn(places[1]), prune("0.25")]}]
    sweep = asked(places, prune(), recipes=recipes, vary=vary, calibration={"tokens": 90})
    setup = Setup(tmp_path, str(tmp_path / "results"))

    todo = schedule.missing(sweep, setup, apart=False, sized=True)

    sizes = [job for job in todo if isinstance(job, Size)]
    assert [len(size.plan.steps) for size in sizes] == [1, 2]
    presses = [job for job in todo if isinstance(job, Press)]
    assert [job.copies for job in presses] == [True, True, False, False]
    names = [job.size.name for job in todo if isinstance(job, Begin | Press)]
    assert names == [sizes[0].name] * 4 + [sizes[1].name] * 2


def test_a_student_that_is_fine_tuned_and_pruned_has_two_beginnings(places, tmp_path, trainings):
    distil = {"distill": {"layers": 1, "objective": ["hidden"], "steps": 2, "batch": 2}}
    steps = [distil, learn(places[1]), prune()]
    sweep = asked(places, *steps, vary={"steps.1.finetune.seed": [0, 1]})

    swept = do(sweep, tmp_path / "out")

    assert not swept.failed
    assert sorted(trainings) == ["distil", "finetune", "finetune"]
    chain = manifest.read(tmp_path / "out" / "runs" / sweep.entries[0].fingerprint).chain
    assert [each.kind for each in chain] == ["distill", "finetune", "prune"]
    assert all(row["dense"] is not None for row in swept.rows)


def test_what_begins_with_a_training_that_fails_fails_with_its_reason(
    places, tmp_path, monkeypatch
):
    sweep = asked(
        places, learn(places[1]), prune(), vary={"steps.1.prune.pattern": ["0.25", "0.5"]}
    )

    def fail(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr(run, "do", fail)

    swept = do(sweep, tmp_path / "out")

    assert len(swept.failed) == 2
    assert all("which recipes begin with failed: no memory" in e for e in swept.failed.values())
    assert not swept.rows


def test_a_distilled_model_is_held_against_its_teacher(places, tmp_path):
    distil = {"distill": {"layers": 1, "steps": 2, "batch": 2}}
    found = asked(places, distil, prune()).entries[0].recipe
    out = tmp_path / "out"

    assert schedule.dense_of(found, out) == places[0]
    both = asked(places, learn(places[1]), distil, prune()).entries[0].recipe
    head = plan.with_head(both)
    assert head is not None
    first = Begin(head)
    assert schedule.dense_of(both, out) == str(first.folder(out))
    assert rest(both, out).steps == both.steps[2:]


def test_what_is_begun_first_is_pressed_in_one_pass_and_sized_with_its_training(places, tmp_path):
    steps = [
        [learn(places[1]), prune(each, "wanda", propagate="dense")] for each in ("0.25", "0.5")
    ]
    sweep = asked(places, *steps[0], vary={"steps": steps})
    setup = Setup(tmp_path, str(tmp_path / "results"), one_pass=True)

    found = schedule.missing(sweep, setup, apart=True, sized=True)

    assert not schedule.alone(found)  # though the first step of a whole recipe is finetune
    (one,) = [job for job in found if isinstance(job, Pass)]
    assert [name for name, _ in one.plans] == [entry.fingerprint for entry in sweep.entries]
    assert isinstance(one.size, Size)
    assert [step.kind for step in one.size.plan.steps] == ["finetune", "prune"]
    assert one.model_bytes == 0
