"""How recipes are scored: looked at before anything is pressed, in languages of their own."""

import json
from pathlib import Path

import labelling
import pico
import pytest

from babelpress.commands.comparing import compare, report
from babelpress.commands.sweeping import sweep as command
from babelpress.errors import BabelpressError, BabelpressWarning, BadRun, BadSetting
from babelpress.sweeps import found, plan, schedule
from babelpress.sweeps.jobs import Score
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.setup import Setup

pytestmark = pytest.mark.usefixtures("one_thread")

LANGUAGES = "evaluate.languages"
MIXTURE = "steps.0.prune.mixture"
ON = "bits_per_byte"
OWN = [
    {MIXTURE: "only:sw", LANGUAGES: ["sw"]},
    {MIXTURE: "only:hi", LANGUAGES: ["hi"]},
    {MIXTURE: "uniform", LANGUAGES: ["hi", "sw", "am"]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pico.model().save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def data(model, **more):
    return {
        "model": str(model),
        "calibration": {"languages": ["sw", "hi"], "tokens": 60, "length": 30},
        "steps": [{"prune": {"method": "wanda", "pattern": "0.5", "propagate": "dense"}}],
        "evaluate": {"documents": 2, "window": 64, "languages": ["sw", "hi"]},
        **more,
    }


def do(asked, folder):
    setup = Setup(folder, str(folder / "results"))
    return schedule.do(asked, setup, Here(setup))


def of_dense(asked, model):
    """How the dense model of a sweep is scored."""
    (job,) = schedule._scores(asked, Path("out")).values()
    assert job.model == str(model)
    return job.evaluate


@pytest.fixture(scope="module")
def swept(model, tmp_path_factory):
    """A finished sweep of recipes with languages of their own: its folder and its results."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    return folder, do(plan.of(data(model, recipes=OWN)), folder)


# ---- before anything is pressed ------------------------------------------------------------


def file_of(folder, model, evaluate, **more):
    path = folder / "s.yaml"
    path.write_text(json.dumps(data(model, evaluate=evaluate, **more)))
    return path


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("evaluate", "words"),
    [
        ({"on": ["choice"], "corpus": "text?src=flores"}, "is a folder text?src=flores"),
        ({"on": [ON, "translate"], "options": {"metric": "blue"}}, "no metric 'blue'"),
        ({"on": [ON], "languages": ["sw"], "corpus": "{}?source=x"}, "'source' to filter by"),
    ],
)
def test_an_evaluation_that_does_not_fit_its_corpus_is_told_before_anything_is_pressed(
    model, tmp_path, evaluate, words, dry_run
):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "sw.jsonl").write_text('{"text": "Habari", "split": "test"}\n')
    corpus = evaluate.get("corpus", "embedded").format(tmp_path / "text")
    path = file_of(tmp_path, model, {**evaluate, "corpus": corpus})
    out = tmp_path / "out"

    told = command(path, out=out, dry_run=dry_run)

    assert told.exit_code == 2
    assert words in told.rows[0]["error"]
    assert any(words in line for line in told.says)
    assert not any((out / name).exists() for name in ("runs", "dense", "parts", "moments"))


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [
        ({"corpus": "nowhere"}, "there is no folder nowhere"),
        ({"languages": ["sw", "fr"], "corpus": "{}"}, "no text in fra_Latn"),
    ],
)
def test_a_corpus_that_is_none_or_lacks_a_language_is_told_at_once(
    model, tmp_path, evaluate, words
):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "sw.jsonl").write_text('{"text": "Habari", "split": "test"}\n')
    corpus = evaluate["corpus"].format(tmp_path / "text")

    with pytest.raises(BabelpressError, match=words):
        command(file_of(tmp_path, model, {**evaluate, "corpus": corpus}), out=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_only_recipes_that_cannot_be_scored_fail_and_are_not_pressed(model, tmp_path):
    asked = plan.of(data(model, recipes=[OWN[0], {MIXTURE: "only:hi", LANGUAGES: ["hi", "kon"]}]))

    swept = do(asked, tmp_path)

    good, bad = asked.entries
    assert list(swept.failed) == [bad.fingerprint]
    assert "kon_Latn" in swept.failed[bad.fingerprint]
    assert [row["fingerprint"] for row in swept.rows] == [good.fingerprint]
    assert swept.rows[0]["dense"] is not None
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [good.fingerprint]


def test_of_recipes_that_are_done_no_text_is_asked_for(model, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "sw.jsonl").write_text('{"text": "Habari za leo", "split": "test"}\n')
    evaluate = {"languages": ["sw"], "corpus": str(tmp_path / "text"), "window": 64}
    asked = plan.of(data(model, evaluate=evaluate))
    rows = do(asked, tmp_path / "out").rows
    (tmp_path / "text" / "sw.jsonl").unlink()

    again = do(asked, tmp_path / "out")

    assert again.rows == rows
    assert again.skipped == 1


def test_the_language_that_others_are_compared_with_is_set_aside_and_told(model, tmp_path):
    (tmp_path / "text").mkdir()
    for tag, text in (("en", "Good day"), ("sw", "Habari za leo")):
        rows = [{"id": str(n), "text": f"{text} {n}", "split": "test"} for n in range(3)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "text" / f"{tag}.jsonl").write_text(lines)
    evaluate = {"on": [ON, "alignment"], "languages": ["en", "sw"]}
    path = file_of(tmp_path, model, {**evaluate, "corpus": str(tmp_path / "text")})
    said = "English is what alignment compares with; it has no score of its own"

    with pytest.warns(BabelpressWarning, match=said):
        planned = command(path, out=tmp_path / "out", dry_run=True)
    with pytest.warns(BabelpressWarning, match=said):
        told = command(path, out=tmp_path / "out")

    assert planned.exit_code == told.exit_code == 0
    rows = [(row["evaluation"], row["language"]) for row in told.rows]
    assert rows == [("alignment", "swh_Latn"), (ON, "eng_Latn"), (ON, "swh_Latn")]


# ---- languages of their own ----------------------------------------------------------------


def test_every_recipe_is_scored_in_its_languages_and_the_dense_model_once_in_all(model, swept):
    folder, results = swept
    asked = plan.of(data(model, recipes=OWN))

    scored = {
        entry.recipe.steps[0].work.mixture: [
            row["language"] for row in results.rows if row["fingerprint"] == entry.fingerprint
        ]
        for entry in asked.entries
    }

    assert not results.failed
    assert scored == {
        "only:sw": ["swh_Latn"],
        "only:hi": ["hin_Deva"],
        "uniform": ["amh_Ethi", "hin_Deva", "swh_Latn"],
    }
    assert len(list((folder / "dense").iterdir())) == 1
    for row in results.rows:
        assert row["change"] == row["value"] / row["dense"] - 1


def test_a_recipe_gives_what_it_gives_in_a_sweep_that_scores_all_alike(model, swept, tmp_path):
    _, results = swept
    recipe = {key: value for key, value in OWN[0].items() if key != LANGUAGES}
    evaluate = {**data(model)["evaluate"], "languages": ["sw"]}

    (alone,) = do(plan.of(data(model, recipes=[recipe], evaluate=evaluate)), tmp_path).rows

    names = {"places"}
    assert {k: v for k, v in alone.items() if k not in names} == {
        k: v for k, v in results.rows[0].items() if k not in names
    }


def test_a_sweep_in_which_all_have_the_same_languages_scores_the_dense_model_as_before(model):
    same = [{**each, LANGUAGES: ["sw", "hi"]} for each in OWN]

    asked, other = plan.of(data(model, recipes=same)), plan.of(data(model))

    assert of_dense(asked, model) == of_dense(other, model) == other.entries[0].evaluate


def test_one_recipe_that_names_no_language_is_of_all_and_so_is_the_dense_model(model):
    asked = plan.of(data(model, recipes=[OWN[0], {LANGUAGES: []}]))

    assert [each.languages for each in of_dense(asked, model)] == [()]


@pytest.mark.parametrize("place", ["evaluate.documents", "evaluate.corpus", "evaluate.language"])
def test_nothing_else_of_an_evaluation_may_vary(model, place):
    with pytest.raises(BadSetting) as caught:
        plan.of(data(model, vary={place: [1, 2]}))

    assert f"{place} may not vary" in str(caught.value)
    assert LANGUAGES in str(caught.value)


def test_a_sweep_that_gets_a_language_scores_the_dense_model_in_it_and_presses_nothing_again(
    model, tmp_path
):
    do(plan.of(data(model, recipes=OWN[:1])), tmp_path)
    grown = plan.of(data(model, recipes=OWN[:2]))

    jobs = schedule.missing(grown, Setup(tmp_path, str(tmp_path / "results")), apart=False)
    do(grown, tmp_path)

    scores = [job for job in jobs if isinstance(job, Score)]
    assert [each.languages for job in scores for each in job.evaluate] == [("sw", "hi")]
    assert [e.fingerprint in {job.name for job in jobs} for e in grown.entries] == [False, True]
    assert len(list((tmp_path / "dense").iterdir())) == 2
    assert len(found.find(tmp_path, ON, ["sw"]).runs) == 1  # and the dense scores of both


# ---- on several corpora --------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_two(model, tmp_path_factory):
    """A sweep that is scored on two corpora, on the second in languages that vary."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "text").mkdir()
    for tag, text in {"sw": "Habari za leo asubuhi", "yo": "Bawo ni o se wa loni"}.items():
        lines = [json.dumps({"text": f"{text} {n}", "split": "test"}) for n in range(3)]
        (folder / "text" / f"{tag}.jsonl").write_text("\n".join(lines) + "\n")
    corpus = str(folder / "text")
    evaluate = [
        {"documents": 2, "window": 64, "languages": ["sw", "hi"]},
        {"corpus": corpus, "on": [ON, "top1"], "window": 64},
    ]
    recipes = [
        {MIXTURE: "uniform", "evaluate.1.languages": tags} for tags in (["sw"], ["sw", "yo"])
    ]
    asked = plan.of(data(model, evaluate=evaluate, recipes=recipes))
    return folder / "out", corpus, asked, do(asked, folder / "out")


def test_a_run_is_scored_on_every_corpus_beside_dense_scores_on_the_same(on_two):
    _, corpus, asked, swept = on_two
    first, second = (entry.fingerprint for entry in asked.entries)

    there = {
        (row["fingerprint"], row["evaluation"], row["corpus"], row["language"])
        for row in swept.rows
    }

    both = [(mark, ON, "embedded", tag) for mark in (first, second) for tag in ("swh", "hin")]
    sw = [(mark, on, corpus, "swh") for mark in (first, second) for on in (ON, "top1")]
    yo = [(second, on, corpus, "yor") for on in (ON, "top1")]
    assert {(*head, tag.split("_")[0]) for *head, tag in there} == {*both, *sw, *yo}
    assert len(there) == len(swept.rows) == 10
    dense = {
        (row["evaluation"], row["corpus"], row["language"]): row["dense"] for row in swept.rows
    }
    assert len(dense) == len({(*what, value) for what, value in dense.items()}) == 6
    assert dense[ON, "embedded", "swh_Latn"] != dense[ON, corpus, "swh_Latn"]
    assert None not in dense.values()


def test_what_a_run_was_scored_on_is_named_where_a_sweep_is_read(on_two, tmp_path):
    out, corpus, asked, _ = on_two
    first, second = (entry.fingerprint for entry in asked.entries)

    with pytest.raises(BadRun, match="--corpus"):
        compare(out)
    here, there = (
        compare(out, corpus="embedded"),
        report(out, out=tmp_path / "r.html", corpus=corpus, languages="yo"),
    )

    assert {row["language"] for row in here.rows} - {None} == {"hin_Deva", "swh_Latn"}
    assert [run.name for run in found.find(out, ON, ["yo"], corpus).runs] == [second]
    assert any(first in line for line in there.says)
    with pytest.raises(BadRun, match="scores on elsewhere"):
        compare(out, corpus="elsewhere")


def test_an_evaluation_of_a_list_that_cannot_be_done_is_told_before_anything_is_pressed(
    model, tmp_path
):
    wrong = {"on": ["choice"], "corpus": "text?src=flores"}
    path = file_of(tmp_path, model, [{"languages": ["sw"]}, wrong])

    told = command(path, out=tmp_path / "out", dry_run=True)

    assert told.exit_code == 2
    assert "is a folder text?src=flores" in told.rows[0]["error"]


# ---- where they are read -------------------------------------------------------------------


def test_a_report_is_in_the_languages_asked_for_of_the_runs_that_have_them(model, swept, tmp_path):
    folder, _ = swept
    only_sw, only_hi, uniform = plan.of(data(model, recipes=OWN)).entries

    it = found.find(folder, ON, ["sw"])
    told = report(folder, out=tmp_path / "r.html", languages="sw")

    assert [run.name for run in it.runs] == [only_sw.fingerprint, uniform.fingerprint]
    assert [run.name for run in it.others] == [only_hi.fingerprint]
    assert it.languages == ("swh_Latn",)
    page = (tmp_path / "r.html").read_text()
    assert "Swahili" in page
    assert "Amharic" not in page
    assert any(only_hi.fingerprint in line for line in told.says)


def test_a_report_without_a_language_is_in_those_that_all_runs_have(model, tmp_path):
    recipes = [OWN[0], {MIXTURE: "uniform", LANGUAGES: ["hi", "sw"]}]
    do(plan.of(data(model, recipes=recipes)), tmp_path / "out")

    told = report(tmp_path / "out", out=tmp_path / "r.html")

    assert any("Here are those in swh_Latn only" in line for line in told.says)
    assert len(found.find(tmp_path / "out", ON).runs) == 2


def test_a_language_that_no_run_has_is_passed_over_beside_others(swept):
    folder, _ = swept

    assert len(found.find(folder, ON, ["sw", "hi", "am", "yo"]).runs) == 1


@pytest.mark.parametrize("languages", [[], ["yo"]])
def test_runs_without_a_language_in_common_are_refused_with_those_that_there_are(swept, languages):
    folder, _ = swept

    with pytest.raises(BadRun) as caught:
        found.find(folder, ON, languages)

    assert "amh_Ethi, hin_Deva, swh_Latn with --languages" in str(caught.value)


def test_a_run_is_compared_in_the_languages_that_it_has(swept):
    folder, _ = swept
    it = found.find(folder, ON, ["sw"])

    told = compare(it.dense, [it.runs[0]], languages="sw")

    assert {row["language"] for row in told.rows} - {None} == {"swh_Latn"}
    with pytest.raises(BadRun, match="--languages"):
        compare(it.dense, [it.runs[0]])


def test_an_encoder_is_not_pressed_where_its_recipes_are_scored_on_next_tokens(tmp_path):
    pico.model("bert").save_pretrained(tmp_path / "bert")
    pico.tokenizer().save_pretrained(tmp_path / "bert")
    scored = {"on": ["bits_per_byte"], "languages": ["sw"]}
    asked = plan.of({**data(tmp_path / "bert"), "evaluate": scored})
    (tmp_path / "out").mkdir()

    came = do(asked, tmp_path / "out")

    (words,) = came.failed.values()
    assert "is scored with --on masked" in words
    assert not (tmp_path / "out" / "runs").exists()
    assert not (tmp_path / "out" / "dense").exists()


def test_a_model_that_gets_its_head_by_a_recipe_is_scored_once_it_has_it(tmp_path):
    """Of itself it has no scores on a task, and none are asked for."""
    topics = labelling.write_topics(tmp_path / "topics", {"sw": {"train": 9, "dev": 3, "test": 3}})
    bare = labelling.folder(tmp_path / "bare", pico.model("bert").base_model)
    learn = {"finetune": {"task": "topic", "corpus": topics, "epochs": 1, "length": 32}}
    asked = {
        "model": bare,
        "steps": [learn, {"prune": {"method": "magnitude", "pattern": "0.5"}}],
        "vary": {"steps.1.prune.pattern": ["0.25", "0.75"]},
        "calibration": {"languages": ["sw"], "tokens": 60, "length": 30},
        "evaluate": {"on": ["classify"], "corpus": topics},
    }
    sized = plan.of(asked)
    setup = Setup(tmp_path / "out", str(tmp_path / "out" / "results"))

    jobs = schedule.missing(sized, setup, apart=True, sized=True)
    swept = do(sized, tmp_path / "out")

    (score,) = [job for job in jobs if isinstance(job, Score)]
    assert score.model != bare
    assert not swept.failed
    assert {row["evaluation"] for row in swept.rows} == {"classify"}
    assert all(row["dense"] is not None for row in swept.rows)
    assert len(swept.rows) == 2
