"""A sweep: what its file means, every recipe done once, and nothing lost by death or damage."""

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pico
import pytest
import torch
from killing import killed_before
from safetensors.torch import load_file

from babelpress.errors import BabelpressError, BadRun, BadSetting, UnknownName
from babelpress.judge.evaluate import evaluate
from babelpress.models.open import open_model
from babelpress.models.weights import weights_hash
from babelpress.moments.calibrate import calibrate
from babelpress.moments.store import Store
from babelpress.runs import manifest
from babelpress.runs.estimate import Estimate
from babelpress.runs.open import open_any
from babelpress.sweeps import folders, jobs, looks, plan, schedule
from babelpress.sweeps.jobs import Press, Score, Size
from babelpress.sweeps.looks import Look, Merge
from babelpress.sweeps.results import Shelf
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Job, Setup
from babelpress.system.claims import held
from babelpress.system.files import write_json
from babelpress.system.progress import silent
from babelpress.text.settings import CalibrationSettings

LANGUAGES = ["swh_Latn", "amh_Ethi", "hin_Deva"]
TEXT = {"languages": LANGUAGES, "tokens": 200, "length": 50}
SCORED = {"languages": ["swh_Latn", "hin_Deva"], "documents": 2, "window": 64}


pytestmark = pytest.mark.usefixtures("one_thread")  # forked children must not touch OpenMP


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pico.model().save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def data(model, vary=None, **more):
    step = {"method": "magnitude", "pattern": "0.25", "propagate": "dense"}
    return {
        "model": str(model),
        "calibration": TEXT,
        "steps": [{"prune": step}],
        "vary": vary or {},
        "evaluate": SCORED,
        **more,
    }


def asked(model, vary=None, **more):
    return plan.of(data(model, vary, **more))


def setup_in(folder, **more):
    return Setup(folder, str(folder / "results"), **more)


def do(plan, folder, **more):
    setup = setup_in(folder, **more)
    return schedule.do(plan, setup, Here(setup))


def content(folder):
    """What a sweep is for, by path: files of results and weights."""
    wanted = (*folder.glob("results/*"), folder / "results.jsonl", *folder.glob("runs/*/model/*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(wanted)}


def refusal(action, kind: type[BabelpressError] = BadSetting):
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the file ------------------------------------------------------------------------------


def test_every_value_of_a_place_meets_every_value_of_the_others(model):
    vary = {
        "steps.0.prune.method": ["wanda", "ria", "magnitude"],
        "calibration.seed": [4, 7],
        "steps.0.prune.minimax.rounds": [3],
    }
    found = asked(model, vary).entries

    values = [(e.recipe.steps[0].work.method, e.recipe.calibration.seed) for e in found]
    assert values == list(itertools.product(["wanda", "ria", "magnitude"], [4, 7]))
    assert all(e.recipe.steps[0].work.minimax.rounds == 3 for e in found)
    assert found[1].places == {
        "steps.0.prune.method": "wanda",
        "calibration.seed": 7,
        "steps.0.prune.minimax.rounds": 3,
    }


def test_recipes_that_are_written_out_are_taken_with_all_that_varies(model):
    partial = [{"steps.0.prune.pattern": "1of4"}, {"steps.0.prune.mixture": "only:hi"}]

    found = asked(model, {"calibration.seed": [4, 7]}, recipes=partial).entries

    plans = [entry.recipe.model_dump() for entry in found]
    assert [(p["steps"][0]["prune"]["pattern"], p["calibration"]["seed"]) for p in plans] == [
        ("1of4", 4),
        ("1of4", 7),
        ("0.25", 4),
        ("0.25", 7),
    ]
    assert found[3].recipe.steps[0].work.mixture == "only:hi"


def test_a_sweep_without_anything_that_varies_is_one_recipe(model):
    (entry,) = asked(model).entries

    assert entry.label == "as it is"


def test_a_recipe_keeps_its_fingerprint_when_the_sweep_grows_and_gets_another_for_other_scores(
    model,
):
    few = asked(model, {"calibration.seed": [4, 7]}).entries
    many = asked(model, {"calibration.seed": [1, 7, 9, 4]}).entries
    other = asked(model, {"calibration.seed": [4, 7]}, evaluate={**SCORED, "documents": 3}).entries

    assert {e.fingerprint for e in few} <= {e.fingerprint for e in many}
    assert len({e.fingerprint for e in (*many, *other)}) == 6


def test_an_evaluation_in_a_list_of_its_own_is_the_same_recipe(model):
    (one,) = asked(model).entries
    (listed,) = asked(model, evaluate=[SCORED]).entries
    (two,) = asked(model, evaluate=[SCORED, {**SCORED, "on": ["top1"]}]).entries

    assert listed.fingerprint == one.fingerprint != two.fingerprint


@pytest.mark.parametrize(
    ("kind", "head", "on"),
    [
        ("xlm-roberta", "XLMRobertaForMaskedLM", "masked"),
        ("xlm-roberta", "XLMRobertaModel", "bits_per_byte"),  # which is refused with what to do
        ("xlm-roberta", "XLMRobertaForTokenClassification", "bits_per_byte"),
        ("t5", "T5ForConditionalGeneration", "translation_loss"),
        ("llama", "LlamaForCausalLM", "bits_per_byte"),
    ],
)
def test_a_model_is_scored_on_what_its_head_predicts_where_nobody_says(tmp_path, kind, head, on):
    write_json(tmp_path / "config.json", {"model_type": kind, "architectures": [head]})
    (tmp_path / "model.safetensors").touch()

    (entry,) = asked(tmp_path).entries
    (told,) = asked(tmp_path, evaluate={**SCORED, "on": ["top1"]}).entries

    assert [each.on for each in entry.evaluate] == [(on,)]
    assert [each.on for each in told.evaluate] == [("top1",)]
    (other,) = asked(tmp_path, evaluate={**SCORED, "on": [on]}).entries
    assert entry.fingerprint == other.fingerprint
    line = refusal(lambda: asked(tmp_path, evaluate=[SCORED, {**SCORED, "on": [on]}]), BadSetting)
    assert f"evaluate has {on} on embedded twice" in line


def test_what_is_fine_tuned_names_its_task(model):
    learn = {"finetune": {"task": "topic", "corpus": "texts"}}

    line = refusal(lambda: asked(model, steps=[learn]), BadSetting)

    assert "what is fine-tuned is scored on its task. Name it and labelled text" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"varied": {}}, "Known: model, calibration, steps, vary, recipes, evaluate"),
        ({"evaluate": {"langs": []}}, "Known: corpus, on, languages, documents, skip, window"),
        ({"evaluate": {"documents": -1}}, "documents"),
        ({"evaluate": []}, "evaluate is an empty list"),
        ({"evaluate": [SCORED, {"documents": -1}]}, "evaluate.1"),
        ({"evaluate": [SCORED, {"documents": 3}]}, "bits_per_byte on embedded twice"),
        ({"evaluate": [SCORED], "vary": {"evaluate.1.languages": [[]]}}, "evaluate.1.languages"),
        ({"vary": {"calibration.seeds": [1]}}, "calibration.seeds is not a known key"),
        ({"vary": {"steps.1.prune.method": ["wanda"]}}, "no place steps.1.prune.method"),
        ({"vary": {"steps.0.prune.pattern": ["0.5", 2.5]}}, "2.5"),
        ({"vary": {"calibration.seed": []}}, "0 recipes"),
        ({"vary": {"calibration.seed": 3}}, "vary.calibration.seed"),
        ({"vary": {"steps.0.prune.pattern": ["0.5", 0.5]}}, "one recipe twice"),
        ({"vary": {f"calibration.seed{n}": [0, 1] for n in range(14)}}, "16,384 recipes"),
        ({"steps": None}, "steps"),
    ],
)
def test_what_a_sweep_cannot_mean_is_refused_with_the_place(model, change, words):
    assert words in refusal(lambda: plan.of({**data(model), **change}))


def test_an_unknown_evaluation_is_refused_before_anything_is_done(model):
    said = refusal(lambda: asked(model, evaluate={"on": ["bits_per_bite"]}), UnknownName)
    assert "no evaluation is called 'bits_per_bite'" in said and "bits_per_byte" in said


@pytest.mark.parametrize("text", ["- a list", "a: [", "x: &a [1]\ny: *a"])
def test_a_file_that_is_no_sweep_is_named(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)

    assert "s.yaml" in refusal(lambda: plan.load(tmp_path / "s.yaml"))


def test_changes_win_over_the_file_and_over_every_recipe_of_it(model, tmp_path):
    (tmp_path / "s.yaml").write_text(json.dumps(data("other", {"calibration.seed": [0]})))
    changes = [f"model={model}", "evaluate.documents=3", "vary.calibration.seed=[4, 5]"]

    found = plan.load(tmp_path / "s.yaml", changes=changes)

    assert {entry.recipe.model for entry in found.entries} == {str(model)}
    assert {entry.recipe.calibration.seed for entry in found.entries} == {4, 5}
    assert found.entries[0].evaluate[0].documents == 3
    said = refusal(lambda: plan.load(tmp_path / "s.yaml", changes=["steps.7.prune.method=wanda"]))
    assert "--set steps.7.prune.method: there is no such place in the sweep" in said


# ---- moments of one language at a time ------------------------------------------------------


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("gram", [True, False])
def test_merged_moments_are_byte_for_byte_those_of_all_languages_at_once(
    model, tmp_path, apart, gram
):
    text = CalibrationSettings.model_validate(TEXT)
    whole = calibrate(open_model(str(model)), text, tmp_path / "whole", gram=gram)
    groups = [(tag,) for tag in LANGUAGES] if apart else [tuple(LANGUAGES)]
    source = text.model_copy(update={"languages": ()})
    merge = Merge(tuple(Look(str(model), source, tags, True) for tags in groups), text, gram)
    setup = setup_in(tmp_path)

    for job in (*merge.looks, merge):
        assert not job.done(setup)
        job.do(setup, lambda *_: None)
        assert job.done(setup)

    folder = merge.folder(tmp_path)
    blocks = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(blocks) == 2
    for name in blocks:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    merged = Store.open(folder)
    assert merged.manifest["calibration"] == whole.manifest["calibration"]
    differ = {key for key, value in whole.identity.items() if merged.identity[key] != value}
    assert differ == {"text"}


def test_one_language_is_seen_once_for_all_mixtures_methods_and_sets_of_languages(model, tmp_path):
    vary = {
        "steps.0.prune.method": ["wanda", "sparsegpt"],
        "calibration.languages": [LANGUAGES, LANGUAGES[1:]],
    }
    found = schedule.missing(asked(model, vary), setup_in(tmp_path), apart=True)

    looks = [job for job in found if isinstance(job, Look)]
    merges = [job for job in found if isinstance(job, Merge)]
    assert sorted(look.languages[0] for look in looks) == sorted(LANGUAGES)
    assert all(look.gram for look in looks)
    assert sorted((merge.gram, len(merge.looks)) for merge in merges) == [
        (False, 2),
        (False, 3),
        (True, 2),
        (True, 3),
    ]


def test_moments_without_gram_matrices_are_made_of_those_with_and_nothing_is_seen_again(
    model, tmp_path, monkeypatch
):
    def methods(*names):
        return asked(model, {"steps.0.prune.method": list(names)})

    do(methods("wanda"), tmp_path / "alone", keep_models=True)
    do(methods("sparsegpt"), tmp_path / "sweep")
    (richer,) = (tmp_path / "sweep" / "moments").iterdir()
    monkeypatch.setattr(looks, "calibrate", lambda *_, **__: pytest.fail("seen again"))

    for sweep in (methods("wanda"), methods("wanda", "sparsegpt")):  # alone, and beside the other
        for apart in (True, False):
            planned = schedule.missing(sweep, setup_in(tmp_path / "sweep"), apart=apart)
            assert {type(job) for job in planned} == {Merge, Press}
            (merge,) = [job for job in planned if isinstance(job, Merge)]
            assert merge.memory(tmp_path / "sweep") > merge.memory(tmp_path / "nowhere")
    do(methods("wanda", "sparsegpt"), tmp_path / "sweep", keep_models=True)

    (made,) = {*(tmp_path / "sweep" / "moments").iterdir()} - {richer}
    (expected,) = (tmp_path / "alone" / "moments").iterdir()
    assert made.name == expected.name
    for path in expected.glob("*.safetensors"):
        assert (made / path.name).read_bytes() == path.read_bytes()
    one, other = (Store.open(each).manifest for each in (made, expected))
    assert {**one, "cost": 0} == {**other, "cost": 0}
    ours, theirs = content(tmp_path / "sweep"), content(tmp_path / "alone")
    assert theirs.keys() <= ours.keys()
    assert all(ours[name] == theirs[name] for name in theirs if name != "results.jsonl")


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_a_recipe_gives_what_it_gives_alone_whatever_else_is_in_the_sweep(model, tmp_path, method):
    vary = {"steps.0.prune.method": ["wanda", "sparsegpt"], "steps.0.prune.mixture": ["minimax"]}
    both = asked(model, vary)
    alone = next(e for e in both.entries if e.recipe.steps[0].work.method == method)
    do(both, tmp_path / "sweep", keep_models=True)

    jobs.run.do(alone.recipe, tmp_path / "alone")

    folder = tmp_path / "sweep" / "runs" / alone.fingerprint
    one, other = (
        load_file(f / "model" / "model.safetensors") for f in (folder, tmp_path / "alone")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    (mine,), (its,) = (manifest.read(f).steps for f in (folder, tmp_path / "alone"))
    assert mine.damage == its.damage
    assert mine.calibration == its.calibration


def test_a_step_on_pressed_blocks_or_on_named_moments_shares_none(model, tmp_path):
    vary = {"steps.0.prune.propagate": ["compressed", "dense"]}
    found = schedule.missing(asked(model, vary), setup_in(tmp_path), apart=True)

    presses = [job for job in found if isinstance(job, Press)]
    assert [job.moments is None for job in presses] == [True, False]
    named = asked(model, {"steps.0.prune.moments": ["somewhere"]})
    assert not plan.shares_moments(named.entries[0].recipe)


# ---- doing it ------------------------------------------------------------------------------


def test_rows_are_the_scores_of_the_run_beside_those_of_the_dense_model(model, tmp_path):
    plan = asked(model, {"steps.0.prune.pattern": ["0.25", "0.75"]})

    swept = do(plan, tmp_path / "out", keep_models=True)

    assert not swept.failed
    assert not swept.unscored
    assert swept.skipped == 0
    assert len(swept.rows) == 2 * 2
    opened = open_model(str(model))
    dense = evaluate(opened, tmp_path / "dense", *plan.entries[0].evaluate)
    pairs = [swept.rows[:2], swept.rows[2:]]
    for entry, rows in zip(plan.entries, pairs, strict=True):
        folder = tmp_path / "out" / "runs" / entry.fingerprint
        pressed = open_any(str(folder))
        again = tmp_path / entry.fingerprint
        own = evaluate(pressed, again, *entry.evaluate)
        for row, mine, parent in zip(rows, own, dense, strict=True):
            assert row["language"] == mine["language"] == parent["language"]
            assert row["value"] == mine["value"]
            assert row["dense"] == parent["value"]
            assert row["change"] == row["value"] / row["dense"] - 1
            assert row["places"] == entry.places
            assert row["fingerprint"] == entry.fingerprint
            assert row["weights"] == weights_hash(pressed.model)
    written = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == swept.rows


def test_a_sweep_that_is_done_is_not_done_again(model, tmp_path, monkeypatch):
    plan = asked(model, {"calibration.seed": [4, 7]})
    first = do(plan, tmp_path)
    before = content(tmp_path)
    for place in (jobs, looks):
        monkeypatch.setattr(place, "open_any", None)

    again = do(plan, tmp_path)

    assert again.rows == first.rows
    assert again.skipped == 2
    assert content(tmp_path) == before


def test_a_sweep_that_grows_does_only_what_is_new(model, tmp_path):
    do(asked(model, {"calibration.seed": [4, 7]}), tmp_path)
    grown = asked(model, {"calibration.seed": [4, 5, 7]})

    todo = schedule.missing(grown, setup_in(tmp_path), apart=False)

    assert [job.label for job in todo if isinstance(job, Press)] == ["calibration.seed=5"]
    assert not any(isinstance(job, Score) for job in todo)
    assert do(grown, tmp_path).skipped == 2


def test_weights_are_kept_only_if_asked_for_and_made_again_when_asked_for_later(model, tmp_path):
    plan = asked(model)
    (entry,) = plan.entries
    folder = tmp_path / "runs" / entry.fingerprint
    first = do(plan, tmp_path)
    assert not (folder / "model").exists()
    assert (folder / "manifest.json").exists()

    second = do(plan, tmp_path, keep_models=True)

    assert (folder / "model" / "model.safetensors").exists()
    assert second.rows == first.rows


def test_a_chain_and_a_quantization_that_needs_no_shared_moments_are_swept_too(model, tmp_path):
    steps = [
        {"prune": {"method": "wanda", "pattern": "0.25", "propagate": "dense"}},
        {"quantize": {"method": "rtn", "bits": 4, "group": 16}},
    ]
    plan = asked(model, {"steps.1.quantize.bits": [3, 8]}, steps=steps)

    swept = do(plan, tmp_path)

    assert not swept.failed
    changes = {row["places"]["steps.1.quantize.bits"]: row["weights"] for row in swept.rows}
    assert len(set(changes.values())) == 2
    assert not list(tmp_path.glob("runs/*/codes"))


def test_evaluations_that_ask_what_calibration_saw_score_pressed_models_only(model, tmp_path):
    plan = asked(model, evaluate={**SCORED, "on": ["bits_per_byte", "range"]})

    rows = do(plan, tmp_path).rows

    dense = {row["evaluation"]: row["dense"] for row in rows}
    assert dense["bits_per_byte"] is not None
    assert dense["range"] is None
    only = asked(model, evaluate={**SCORED, "on": ["range"]})
    assert not any(
        isinstance(j, Score) for j in schedule.missing(only, setup_in(tmp_path), apart=True)
    )


# ---- what a job takes ------------------------------------------------------------------------


class Asking(Here):
    """Hands that want to know the memory of every job, and note it when they are given one."""

    apart = sized = True

    def __init__(self, setup):
        super().__init__(setup)
        self.seen: list[tuple[Job, int]] = []

    def give(self, job):
        self.seen.append((job, jobs.memory(job, self._setup.out)))
        super().give(job)


def asking(plan, folder):
    setup = setup_in(folder, keep_models=True)
    hands = Asking(setup)
    return schedule.do(plan, setup, hands), hands.seen


def test_every_job_knows_its_memory_when_it_is_given_and_makes_the_same_bytes(model, tmp_path):
    vary = {"steps.0.prune.propagate": ["dense", "compressed"], "calibration.seed": [4, 7]}
    plan = asked(model, vary)

    swept, seen = asking(plan, tmp_path / "sized")

    assert not swept.failed
    assert not swept.unsized
    assert do(plan, tmp_path / "out", keep_models=True).rows == swept.rows
    assert content(tmp_path / "sized") == content(tmp_path / "out")
    assert {type(job) for job, _ in seen} == {Size, Look, Merge, Score, Press}
    for job, memory in seen:
        assert (memory == 0) == isinstance(job, Size)
    sizes = [job.name for job, _ in seen if isinstance(job, Size)]
    assert len(sizes) == len(set(sizes)) == 3  # seeing one language; dense; compressed


def test_memory_is_that_of_the_dry_run_of_the_recipe_on_its_moments(model, tmp_path, monkeypatch):
    tried = []

    def dry_run(plan, *, device):
        step = plan.steps[0].work
        tried.append((step.moments, step.propagate, plan.calibration.languages))
        more = (step.moments is not None) + 2 * (step.propagate == "compressed")
        return [Estimate({}, 1000 + more, 0), Estimate({}, 900, 0)]

    monkeypatch.setattr(jobs, "estimate", dry_run)
    vary = {"steps.0.prune.propagate": ["compressed", "dense"]}

    _, seen = asking(asked(model, vary), tmp_path)

    found = {(type(job), memory) for job, memory in seen if not isinstance(job, Merge)}
    assert found == {(Size, 0), (Look, 1000), (Score, 1000), (Press, 1001), (Press, 1002)}
    (folder,) = (tmp_path / "moments").iterdir()
    tags = tuple(LANGUAGES)
    assert sorted(tried, key=str) == sorted(
        [
            (None, "dense", tags[:1]),
            (None, "compressed", tags),
            (str(folder), "dense", tags[:1]),
        ],
        key=str,
    )


@pytest.mark.parametrize(
    ("vary", "sizes"),
    [
        ({"calibration.seed": [1, 2]}, 2),
        ({"steps.0.prune.mixture": ["uniform", "only:hi"]}, 2),
        ({"steps.0.prune.mixture": ["uniform", "minimax"]}, 3),
        ({"steps.0.prune.method": ["wanda", "sparsegpt"]}, 3),
        ({"calibration.tokens": [200, 400]}, 4),
    ],
)
def test_recipes_of_one_size_are_tried_once(model, tmp_path, vary, sizes):
    found = schedule.missing(asked(model, vary), setup_in(tmp_path), apart=True, sized=True)

    assert sum(isinstance(job, Size) for job in found) == sizes


def test_a_size_that_cannot_be_found_stops_nothing_and_is_told(model, tmp_path, monkeypatch):
    def refuses(_plan, *, device):
        raise RuntimeError("no room to try")

    monkeypatch.setattr(jobs, "estimate", refuses)

    swept, seen = asking(asked(model), tmp_path)

    assert not swept.failed
    assert list(swept.unsized.values()) == ["no room to try"]
    assert all(not memory for job, memory in seen if not isinstance(job, Merge))


def test_a_size_is_found_once_and_again_where_its_file_is_damaged(model, tmp_path):
    plan = asked(model)
    asking(plan, tmp_path)
    for path in tmp_path.glob("results/*"):
        path.unlink()
    one, other = sorted(tmp_path.glob("sizes/*.json"))
    one.write_text('{"half')

    _, seen = asking(plan, tmp_path)

    assert [job.name for job, _ in seen if isinstance(job, Size)] == [f"sizes/{one.stem}"]
    assert json.loads(one.read_text()).keys() == json.loads(other.read_text()).keys()


# ---- what goes wrong -----------------------------------------------------------------------


def test_a_recipe_that_fails_stops_no_other_and_has_no_rows(model, tmp_path):
    mixtures = ["uniform", "only:yo", "only:hi"]  # no Yoruba in this calibration
    plan = asked(model, {"steps.0.prune.mixture": mixtures})

    swept = do(plan, tmp_path)

    bad = plan.entries[1].fingerprint
    assert list(swept.failed) == [bad]
    assert "yor_Latn" in swept.failed[bad]
    assert {row["fingerprint"] for row in swept.rows} == {
        plan.entries[0].fingerprint,
        plan.entries[2].fingerprint,
    }
    assert not (tmp_path / "runs" / bad).exists()
    assert do(plan, tmp_path).skipped == 2


@dataclass(frozen=True, slots=True)
class Toy:
    """A job that is a name."""

    name: str
    needs: tuple[str, ...] = ()
    label: str = ""
    size: "Toy | None" = None

    def done(self, _setup):
        return False

    def do(self, _setup, _progress):
        pass


class Backwards:
    """Hands that do many jobs at once and end the last one first."""

    apart = True

    def __init__(self):
        self.running: list[Toy] = []
        self.ended: list[str] = []

    def give(self, job):
        assert set(job.needs) <= set(self.ended), f"{job.name} was given too early"
        self.running.append(job)

    def take(self):
        job = self.running.pop()
        self.ended.append(job.name)
        return job, "broke" if job.name == "b" else ""


def test_a_job_is_given_when_all_that_it_needs_has_ended_and_never_after_a_failure():
    jobs_of_a_sweep = [
        Toy("e", ("c", "d")),
        Toy("d", ("a",)),
        Toy("c", ("a",)),
        Toy("a"),
        Toy("b"),
        Toy("f", ("b", "a")),
        Toy("g", ("f",)),
        Toy("h"),
    ]
    hands, seen = Backwards(), []

    failed = schedule.work_off(
        cast(Any, jobs_of_a_sweep), cast(Any, hands), lambda *now: seen.append(now)
    )

    assert sorted(hands.ended) == ["a", "b", "c", "d", "e", "h"]
    assert sorted(failed) == ["b", "f", "g"]
    assert all(words.endswith("broke") for words in failed.values())
    assert seen[-1] == ("sweep: job", 8, 8)
    remarks = [what for what, _, total in seen if not total]
    assert remarks[0].startswith("sweep: job 1 of 8, ")
    assert any(" failed: " in line for line in remarks)
    counted = [done for _, done, total in seen if total]
    assert counted == sorted(counted)


def test_what_needs_a_job_that_failed_fails_with_its_reason_and_nothing_else_does(model, tmp_path):
    vary = {"steps.0.prune.propagate": ["dense", "compressed"]}
    plan = asked(model, vary)

    class Clumsy(Here):
        def take(self):
            job, error = super().take()
            return job, "fell over" if isinstance(job, Look) else error

    setup = setup_in(tmp_path)
    swept = schedule.do(plan, setup, Clumsy(setup))

    assert list(swept.failed) == [plan.entries[0].fingerprint]
    assert swept.failed[plan.entries[0].fingerprint].endswith("fell over")
    assert {row["fingerprint"] for row in swept.rows} == {plan.entries[1].fingerprint}
    assert do(plan, tmp_path).rows[:2] == do(plan, tmp_path / "new").rows[:2]


def test_a_dense_model_that_cannot_be_scored_is_told_and_recipes_have_no_change(model, tmp_path):
    plan = asked(model)

    class Clumsy(Here):
        def give(self, job):
            super().give(job)

        def take(self):
            job = self._given.popleft()
            if isinstance(job, Score):
                return job, "no room"
            return job, jobs.attempt(job, self._setup)

    setup = setup_in(tmp_path)
    swept = schedule.do(plan, setup, Clumsy(setup))

    assert swept.unscored == {str(model): "no room"}
    assert [row["change"] for row in swept.rows] == [None, None]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "line", "text", "gone"])
def test_a_results_file_that_is_not_what_was_written_is_made_again(model, tmp_path, damage):
    plan = asked(model, {"calibration.seed": [4, 7]})
    do(plan, tmp_path)
    before = content(tmp_path)
    path = tmp_path / "results" / f"{plan.entries[1].fingerprint}.jsonl"
    whole = path.read_bytes()
    place = whole.index(b'"value": ') + 11
    broken = {
        "cut": whole[: len(whole) // 2],
        "flip": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        "empty": b"",
        "line": whole[: whole.index(b"\n") + 1],
        "text": b"\xff\xfe{}\n",
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(broken[damage])

    assert do(plan, tmp_path).skipped == 1
    assert content(tmp_path) == before


def test_a_run_whose_scores_are_damaged_is_made_again(model, tmp_path):
    plan = asked(model)
    (entry,) = plan.entries
    do(plan, tmp_path)
    before = content(tmp_path)
    (tmp_path / "results" / f"{entry.fingerprint}.jsonl").unlink()
    (tmp_path / "runs" / entry.fingerprint / "results.jsonl").write_text('{"half')

    do(plan, tmp_path)

    assert content(tmp_path) == before


def test_an_attempt_that_comes_second_leaves_what_the_first_one_made(model, tmp_path):
    plan = asked(model)
    setup = setup_in(tmp_path)
    do(plan, tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    aside = folder.rename(tmp_path / "aside")

    def overtaken(new: Path) -> None:
        (new / "mine").write_text("late")
        aside.rename(folder)

    folders.once(folder, overtaken, silent)

    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == kept
    assert not list((tmp_path / "runs").glob(".*"))
    assert not schedule.missing(plan, setup, apart=True)


def test_what_killed_attempts_of_other_machines_left_is_removed(model, tmp_path):
    for place in ("dense", "moments", "runs", "parts/key"):
        (tmp_path / place / ".mark.7@elsewhere.partial" / "model").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".mark.jsonl.ff.partial").write_text("half")

    do(asked(model), tmp_path)

    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_two_sweeps_at_once_on_one_folder_are_refused(model, tmp_path):
    plan = asked(model)
    tmp_path.joinpath("out").mkdir()
    with held(tmp_path / "out"):
        words = refusal(lambda: do(plan, tmp_path / "out"), BadRun)

    assert "in use by process" in words


@pytest.mark.parametrize(
    "number", [2, 24, 52, *(pytest.param(n, marks=pytest.mark.slow) for n in (11, 37))]
)
def test_a_sweep_killed_before_a_write_goes_on_to_the_same_bytes(model, tmp_path, number):
    plan = asked(model, {"calibration.seed": [4, 7]})
    do(plan, tmp_path / "whole", keep_models=True)
    once = tmp_path / "killed"

    assert killed_before(number, lambda: do(plan, once, keep_models=True))
    swept = do(plan, once, keep_models=True)

    assert not swept.failed
    assert content(once) == content(tmp_path / "whole")
    assert not [path for path in once.rglob("*") if path.name.endswith(".partial")]
    assert not (once / "parts").exists()


def test_moments_of_one_language_go_when_all_that_need_them_are_merged(model, tmp_path):
    seen = []

    class Watched(Here):
        def take(self):
            files = [path for path in (tmp_path / "parts").rglob("*") if path.is_file()]
            seen.append((type(self._given[0]), bool(files)))
            return super().take()

    setup = setup_in(tmp_path)
    sweep = asked(model, {"calibration.seed": [4, 7]})
    assert not schedule.do(sweep, setup, Watched(setup)).failed

    assert sum(kind is Merge for kind, _ in seen) == 2
    assert all(there for kind, there in seen if kind is Merge)
    assert not any(there for kind, there in seen if kind is Press)


def test_moments_that_another_merge_needs_stay(tmp_path):
    calibration = CalibrationSettings(languages=["sw", "hi"])
    both = Look("tiny", calibration, ("swh_Latn", "hin_Deva"), gram=False)
    one = Look("tiny", calibration, ("swh_Latn",), gram=False)
    for tag in both.languages:
        both.folder(tmp_path, tag).mkdir(parents=True)

    Merge((both,), calibration, False).free(tmp_path, [Merge((one,), calibration, False)])

    assert one.folder(tmp_path, "swh_Latn").exists()
    assert not both.folder(tmp_path, "hin_Deva").exists()


# ---- the shelf -----------------------------------------------------------------------------


def test_results_can_lie_in_any_store_that_fsspec_knows(model, tmp_path):
    plan = asked(model, {"calibration.seed": [4, 7]})
    there = Setup(tmp_path / "one", "memory://sweeps/first")
    swept = schedule.do(plan, there, Here(there))

    again = Setup(tmp_path / "two", "memory://sweeps/first")
    found = schedule.do(plan, again, Here(again))

    assert found.rows == swept.rows == do(plan, tmp_path / "three").rows
    assert found.skipped == 2
    assert Shelf("memory://sweeps/other").get("none") is None


def test_a_store_whose_package_is_missing_is_named():
    assert "nowhere://" in refusal(lambda: Shelf("nowhere://bucket"))


def test_rows_with_strange_letters_come_back_as_they_were(tmp_path):
    rows = [{"a": "line\u2028end\x85", "b": None}, {"a": 0.1, "b": {"c": [1, "ኣ"]}}]
    shelf = Shelf(str(tmp_path))

    shelf.put("x", rows)

    assert shelf.get("x") == rows


# ---- the command ---------------------------------------------------------------------------


def test_the_command_names_what_failed_and_exits_with_two(model, tmp_path):
    from babelpress.commands.sweeping import sweep as command

    text = json.dumps(data(model, {"steps.0.prune.mixture": ["uniform", "only:yo"]}))
    (tmp_path / "s.yaml").write_text(text)

    planned = command(tmp_path / "s.yaml", out=tmp_path / "out", dry_run=True)
    found = command(tmp_path / "s.yaml", out=tmp_path / "out")

    assert planned.exit_code == 2
    assert [row["value"] for row in planned.rows] == [None, None]
    assert ["yor_Latn" in (row["error"] or "") for row in planned.rows] == [False, True]
    assert {row["fingerprint"] for row in found.rows} == {r["fingerprint"] for r in planned.rows}
    assert found.exit_code == 2
    assert [row["error"] is None for row in found.rows] == [True, True, False]
    assert found.rows[2]["value"] is None
    assert any("only:yo" in line and "yor_Latn" in line for line in found.says)
    assert {frozenset(row) for row in (*found.rows, *planned.rows)} == {frozenset(found.rows[0])}
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on": "slurm"}, "local, ray"),
        ({"address": "auto"}, "--on ray"),
        ({"cpus": 0}, "--cpus"),
        ({"memory_mb": -5}, "--memory-mb"),
        ({"retries": -1}, "--retries"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, options, words):
    from babelpress.commands.sweeping import sweep as command

    with pytest.raises(BabelpressError) as caught:
        command(tmp_path / "s.yaml", out=tmp_path / "out", **options)
    assert words in str(caught.value)
