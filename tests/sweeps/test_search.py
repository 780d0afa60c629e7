"""Languages and a size in, a model and its proof out: on a small model and the embedded text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fitting
import pico
import pytest
import trimming
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from babelpress.errors import BadLayer, BadModel, BadRun, BadSetting
from babelpress.judge import scores, verdicts
from babelpress.judge.compare import Summary
from babelpress.runs import manifest
from babelpress.runs.open import open_any
from babelpress.sweeps import candidates, jobs, schedule, search
from babelpress.text.corpus import open_corpus
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")

ON = "bits_per_byte"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fitting.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def fitted(model, tmp_path_factory):
    """A whole search: its folder, what was asked, the plan, what came of it."""
    out = tmp_path_factory.mktemp("searches") / "out"
    wanted = fitting.asked(model, minutes=100.0)
    plan = candidates.prepare(wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "REPAIRING", 2e-4)  # seconds each
        yield out, wanted, plan, fitting.search(wanted, out, plan).do()


def weight(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- what is tried -------------------------------------------------------------------------


def test_choosing_and_proving_are_on_other_documents(fitted):
    out, _, plan, found = fitted
    for tag in fitting.TEXT.languages:
        first, later = (
            [d.id for d in open_corpus("embedded").documents(tag, "test")][part]
            for part in (slice(0, 2), slice(2, 6))
        )

        chose = scores.tallies(found.dense, ON)[tag].documents
        proved = scores.tallies(out / "proof", ON)[tag].documents

        assert (list(chose), list(proved)) == (first, later)
        for each in found.candidates:
            assert list(scores.tallies(each.folder, ON)[tag].documents) == first
        assert list(scores.tallies(out / "best", ON)[tag].documents) == later
    assert (plan.chooses.documents, plan.proves.documents) == (2, 4)


def test_every_candidate_is_an_ordinary_run_of_its_chain(fitted):
    out, wanted, plan, found = fitted

    plain = [each for each in found.candidates if not each.repaired]
    assert [each.way for each in plain] == list(plan.ways)
    for each in plain:
        made = manifest.read(each.folder)
        kinds = [step.kind for step in made.chain]
        chain = each.way.chain
        assert each.folder.parent == out / "runs"
        assert ("trim" in kinds, "shrink" in kinds, "quantize" in kinds) == (
            chain.tokens is not None,
            chain.ffn < 1,
            chain.bits < 16,
        )
        assert made.origin.name == wanted.model
        mixture = "english" if each.way.usual else "uniform"
        assert chain.mixture == mixture


def test_what_candidates_lose_is_what_a_comparison_says(fitted):
    _, _, _, found = fitted

    for each in found.candidates:
        summaries = verdicts.against(found.dense, each.folder, on=ON).summaries
        known = {summary.name: summary for summary in summaries}
        assert each.worst == known["worst"]
        assert each.mean == known["mean"]


def test_sizes_are_foretold_as_they_come_out(fitted):
    out, _, _, found = fitted

    weighed = 0
    for each in found.candidates:
        path = out / "weighed" / f"{each.folder.name}-transformers.json"
        if path.exists() and not each.repaired:
            weighed += 1
            real = json.loads(path.read_text())["bytes"]
            assert abs(real - each.way.foretold) < 8_000
    assert weighed >= search.FINALISTS


# ---- what comes out ------------------------------------------------------------------------


def test_the_best_that_fits_is_proved_and_exported(fitted):
    out, _, plan, found = fitted

    own = [each for each in found.candidates if not each.way.usual]
    assert found.best in own
    assert found.best.worst.value <= min(each.worst.value for each in own if each.repaired)
    assert found.bytes == weight(out / "exported") <= plan.size
    assert found.proof == verdicts.against(out / "proof", out / "best", on=ON)
    assert found.failed == ()
    assert open_any(str(out / "best")).model.config.hidden_size == 64
    assert found.serve.startswith("in Python: from transformers import")


def test_finalists_are_repaired_against_the_dense_model(fitted):
    out, _, _, found = fitted

    repaired = [each for each in found.candidates if each.repaired]
    assert len(repaired) == search.FINALISTS
    for each in repaired:
        made = manifest.read(each.folder)
        kinds = [step.kind for step in made.chain]
        recovered = made.chain[kinds.index("recover")]
        assert recovered.step["mixture"] == "lacking"
        assert each.folder.parent == out / "repaired"
        coded = each.way.chain.bits < 16
        before = coded and each.way.chain.ffn < 1
        assert kinds.index("recover") == len(kinds) - (2 if before else 1)
        assert (kinds[-1] == "quantize") == before


def test_what_lost_neurons_is_repaired_before_it_is_quantized(model, tmp_path):
    plan = candidates.prepare(fitting.asked(model))
    way = next(way for way in plan.ways if way.chain.ffn < 1 and way.chain.bits < 16)
    nothing = Summary("worst", 0.1, 0.1, 0.1, "swh_Latn")
    shrunk = search.Candidate(way, tmp_path / "run", 1, nothing, nothing)
    whole = replace(way, chain=replace(way.chain, ffn=1.0))

    found = fitting.search(fitting.asked(model), tmp_path / "out", plan)
    plans = [
        found._repair(each, {"recover": {"repair": "logits"}}).plan
        for each in (shrunk, replace(shrunk, way=whole))
    ]

    assert [[step.kind for step in each.steps] for each in plans] == [
        ["trim", "shrink", "recover", "quantize"],
        ["recover"],
    ]
    assert [each.model for each in plans] == [str(model), str(tmp_path / "run")]


def test_the_same_call_does_nothing_again(fitted):
    out, wanted, plan, found = fitted

    def stamps():
        heavy = [
            *(out / "runs").rglob("*"),
            *(out / "repaired").rglob("*"),
            *(out / "best").rglob("*"),
        ]
        return {path: path.stat().st_mtime_ns for path in heavy if path.suffix == ".safetensors"}

    before = stamps()
    again = fitting.search(wanted, out, plan).do()

    assert stamps() == before
    assert (again.best, again.proof, again.candidates) == (
        found.best,
        found.proof,
        found.candidates,
    )


def test_another_best_takes_the_place_of_the_one_before(fitted, tmp_path):
    out, wanted, plan, found = fitted
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    (copy / "fit.json").write_text(json.dumps({"run": "another"}))
    (copy / "best" / "manifest.json").unlink()

    again = fitting.search(wanted, copy, plan).do()

    assert again.proof.changes == found.proof.changes
    assert manifest.is_finished(copy / "best")
    assert json.loads((copy / "fit.json").read_text())["run"] == found.best.folder.name


def test_other_documents_and_languages_in_the_same_folder_are_another_search(
    fitted, model, tmp_path
):
    """Each is held against the dense model on its own text, and proved in its own languages."""
    copy = tmp_path / "out"
    shutil.copytree(fitted[0], copy)
    one = CalibrationSettings(**{**fitting.TEXT.model_dump(), "languages": ("hin_Deva",)})
    more = fitting.asked(model, documents=9, minutes=1e-6)

    for wanted in (more, replace(more, calibration=one)):
        found = fitting.search(wanted, copy).do()

        tags = set(wanted.calibration.languages)
        assert {change.language for change in found.proof.changes} == tags
        for each in found.candidates:
            dense, own = (scores.tallies(f, ON) for f in (found.dense, each.folder))
            assert set(dense) == set(own) == tags
            assert all(len(dense[tag].documents) == 3 for tag in tags)


def test_what_no_search_made_is_not_removed(model, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "mine").write_text("mine")

    with pytest.raises(BadRun, match="of no search"):
        fitting.search(fitting.asked(model), tmp_path).do()

    assert [path.name for path in tmp_path.rglob("*")] == ["best", "mine"]


def test_a_best_that_was_half_made_or_half_removed_is_made_again(fitted, tmp_path):
    """Nothing is said of it until it is whole."""
    out, wanted, plan, found = fitted
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    (copy / "fit.json").write_text("{}")
    (copy / "best" / "manifest.json").unlink()
    (copy / "weighed" / ".some.partial").mkdir()

    again = fitting.search(wanted, copy, plan).do()

    assert again.proof.changes == found.proof.changes
    assert not (copy / "weighed" / ".some.partial").exists()


def test_what_the_program_does_not_load_is_passed_over_or_said(fitted, tmp_path, monkeypatch):
    out, wanted, plan, found = fitted
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    shutil.rmtree(copy / "weighed")
    write = search._write.write
    own = [each for each in found.candidates if not (each.way.usual or each.repaired)]
    refused = {each.folder.name for each in own}

    def writes(model, *given, **more):
        if Path(model).name in refused:
            raise BadLayer("it has no place")
        return write(model, *given, **more)

    monkeypatch.setattr(search._write, "write", writes)
    monkeypatch.setattr(search.Search, "_repaired", lambda *_: [])
    with pytest.raises(BadRun, match=r"^transformers loads none of the candidates.*has no place$"):
        fitting.search(wanted, copy, plan).do()

    first = min(own, key=lambda each: each.worst.value)
    refused &= {first.folder.name}
    again = fitting.search(wanted, copy, plan).do()

    assert again.best.label == sorted(own, key=lambda each: each.worst.value)[1].label
    assert f"{first.label} is not what transformers loads: it has no place" in again.notes


def test_what_cannot_be_made_is_tried_once_and_told_once(model, tmp_path, monkeypatch):
    wanted = fitting.asked(model)
    plan = candidates.prepare(wanted)
    ways = (plan.ways[0], plan.ways[-1], *plan.ways[1:3])
    plan = replace(plan, ways=ways)
    broken, tried = ways[1].chain, []
    attempt = schedule.attempt

    def attempted(job, *given):
        if isinstance(job, jobs.Press) and job.entry.places["steps"] == broken.steps(64):
            tried.append(job)
            return "it broke"
        return attempt(job, *given)

    monkeypatch.setattr(schedule, "attempt", attempted)
    monkeypatch.setattr(search.Search, "_repaired", lambda *_: [])
    found = fitting.search(wanted, tmp_path / "out", plan).do()

    assert len(tried) == 1
    assert [note for note in found.notes if "it broke" in note] == [
        f"{broken.label} could not be made: it broke"
    ]
    rows = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len({json.loads(row)["fingerprint"] for row in rows}) == len(ways) - 1


def test_a_broken_promise_is_told_with_the_nearest_that_keep_it(model, tmp_path, monkeypatch):
    """Where all have to gain, and much, nobody keeps the promise: what is larger is tried."""
    monkeypatch.setattr(search, "REPAIRING", 2e-4)
    wanted = fitting.asked(model, size="40%", max_loss=-0.99, minutes=100.0)
    plan = candidates.prepare(wanted)
    plan = replace(plan, ways=plan.ways[:1])

    found = fitting.search(wanted, tmp_path / "out", plan).do()

    assert {each.language for each in found.failed} == set(fitting.TEXT.languages)
    larger = [each for each in found.candidates if each.way.foretold > plan.size]
    assert larger
    assert found.nearest == ()


def test_the_nearest_that_keep_a_promise_are_the_smallest_first(fitted):
    out, wanted, plan, found = fitted
    losses = sorted(each.worst.value for each in found.candidates)
    proved = max(change.change for change in found.proof.changes)
    bound = min(losses[len(losses) // 2], proved - 1e-6)

    again = fitting.search(replace(wanted, max_loss=bound), out, plan).do()

    assert again.failed
    keep = [
        each
        for each in again.candidates
        if each.worst.value <= bound and each.stored > again.best.stored
    ]
    assert keep
    assert [*again.nearest] == sorted(keep, key=lambda each: each.stored)


def test_what_broke_the_promise_on_the_proof_is_not_among_those_that_keep_it(fitted, monkeypatch):
    """It kept it where it was chosen: larger ones are looked for nevertheless."""
    out, wanted, plan, found = fitted
    bound = found.best.worst.value + 1e-9
    change = found.proof.changes[0]
    monkeypatch.setattr(search, "gate", lambda *_: [change])
    usual = [each for each in found.candidates if each.way.usual]
    asked_for = []
    monkeypatch.setattr(search.chains, "within", lambda *given: asked_for.append(given[2]) or [])

    again = fitting.search(replace(wanted, max_loss=bound), out, plan).do()

    assert again.best not in again.nearest
    assert {*again.nearest} <= {*usual}
    assert asked_for == [round(1.25 * plan.size), round(1.6 * plan.size)]


def test_time_that_is_gone_leaves_chains_out_and_says_so(model, tmp_path):
    wanted = fitting.asked(model, minutes=1e-6)
    plan = candidates.prepare(wanted)

    found = fitting.search(wanted, tmp_path / "out", plan).do()

    assert len(found.candidates) == plan.least < len(plan.ways)
    left = [way.chain.label for way in plan.ways[plan.least :]]
    assert any(all(label in note for label in left) for note in found.notes)
    assert any("nothing was repaired" in note for note in found.notes)


# ---- what cannot be ------------------------------------------------------------------------


def test_a_size_that_the_model_has_already_is_refused(model):
    with pytest.raises(BadSetting, match="as it is"):
        candidates.prepare(fitting.asked(model, size="100%"))


def test_too_few_documents_to_choose_and_prove_are_refused(model):
    with pytest.raises(BadSetting, match="2 test documents in each language are too few"):
        candidates.prepare(fitting.asked(model, documents=2))


def test_what_is_pressed_already_is_refused(fitted):
    _, wanted, _, found = fitted
    quantized = next(each for each in found.candidates if each.way.chain.bits < 16)

    with pytest.raises(BadModel, match="pressed already"):
        candidates.prepare(replace(wanted, model=str(quantized.folder)))


def test_a_tokenizer_that_cannot_be_trimmed_leaves_the_other_chains(tmp_path):
    words = {word for text in trimming.texts("swh_Latn") for word in text.split()}
    named = {word: number for number, word in enumerate([*trimming.MARKS, *sorted(words)])}
    backend = Tokenizer(WordLevel(named, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    marks = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **marks)
    folder = fitting.save(tmp_path / "model", tokenizer=tokenizer)
    text = CalibrationSettings(languages=("swh_Latn",), tokens=60, length=20)

    plan = candidates.prepare(replace(fitting.asked(folder, size="80%"), calibration=text))

    assert any("no chain trims" in note and "WordLevel" in note for note in plan.notes)
    assert {way.chain.tokens for way in plan.ways} == {None}


def saved(family, folder):
    pico.model(family).save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def test_a_model_that_a_program_cannot_load_is_refused_before_anything_is_pressed(tmp_path):
    model = saved("bloom", tmp_path / "model")

    with pytest.raises(BadModel, match="bloom cannot be written"):
        candidates.prepare(fitting.asked(model, engine="llama.cpp"))


def test_what_can_be_loaded_dense_alone_is_not_quantized(tmp_path):
    model = saved("gpt2", tmp_path / "model")

    plan = candidates.prepare(fitting.asked(model, size="99%"))

    assert plan.ways
    assert {way.chain.bits for way in plan.ways} == {16}
    assert any("no chain quantizes" in note and "Conv1D" in note for note in plan.notes)
