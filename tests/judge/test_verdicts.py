"""Verdicts on scored folders that are made by hand, from tallies."""

from dataclasses import replace

import numpy as np
import pytest
from scoring import LOSS, ON, run, scored

from babelpress.errors import BadRun, BadSetting
from babelpress.judge import predicted, scores, verdicts
from babelpress.judge.compare import compare
from babelpress.judge.rows import of_comparison
from babelpress.numerics.tally import Tally
from babelpress.runs import manifest
from babelpress.system.files import read_json, write_json
from babelpress.text import mixtures

TEXT = "embedded"


@pytest.fixture
def dense(tmp_path):
    return scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))


@pytest.fixture
def pressed(tmp_path):
    return run(tmp_path / "run", LOSS)


# ---- against -------------------------------------------------------------------------------


def test_against_is_compare_on_the_saved_tallies(dense, pressed):
    found = verdicts.against(dense, pressed, draws=500, seed=3)

    first, second = scores.tallies(dense, ON), scores.tallies(pressed, ON)
    shares = verdicts.training_shares("babel-mini", LOSS)
    assert found == compare(first, second, shares=shares, draws=500, seed=3)
    assert [c.language for c in found.changes] == list(LOSS)
    assert found.changes[1].change == pytest.approx(0.31, abs=0.02)


def test_languages_narrow_a_comparison_by_name_or_group(dense, pressed):
    latin = verdicts.against(dense, pressed, languages=["latin"])
    one = verdicts.against(dense, pressed, languages=["Swahili", "th"])

    assert [c.language for c in latin.changes] == ["eng_Latn", "swh_Latn"]
    assert [c.language for c in one.changes] == ["swh_Latn", "tha_Thai"]


def test_a_language_that_nobody_scored_is_named_and_not_counted(dense, pressed):
    wanted = ["sw", "th", "yo"]

    found = verdicts.against(dense, pressed, languages=wanted)

    assert found == verdicts.against(dense, pressed, languages=["sw", "th"])
    assert verdicts.left_out(dense, ON, TEXT, wanted, found) == (
        [],
        [f"Yoruba has no {ON} score."],
    )
    assert verdicts.left_out(dense, ON, TEXT, (), found) == ([], [])
    with pytest.raises(BadRun, match=r"Yoruba has no bits_per_byte score\. .*dense has scores in"):
        verdicts.against(dense, pressed, languages=["yo"])


def ranked_folders(tmp_path, options, tags):
    """Two folders with scores of RankC in some languages."""
    folders = [tmp_path / name for name in ("ranks", "ranks-pressed")]
    for folder in folders:
        rows = []
        for tag in tags:
            row = {"model": "m", "language": tag, "evaluation": "rankc", "corpus": TEXT}
            tally = Tally(("a", "b"), np.array([0.9, 0.8]), np.array([1.0, 1.0]))
            tally.save(scores.tally_path(folder, row))
            rows.append({**row, "value": tally.value})
        scores.write_results(folder, rows)
        write_json(scores.facts_path(folder, "rankc", TEXT), {"identity": {"options": options}})
    return folders


@pytest.mark.parametrize(
    ("options", "tags", "name"),
    [({}, ["hin_Deva", "swh_Latn"], "English"), ({"pivot": "sw"}, ["eng_Latn"], "Swahili")],
)
def test_the_language_that_others_are_compared_with_is_told_and_is_no_fault(
    tmp_path, options, tags, name
):
    folders = ranked_folders(tmp_path, options, tags)
    wanted = ["latin", *tags]

    found = verdicts.against(*folders, on="rankc", languages=wanted)

    assert sorted(change.language for change in found.changes) == sorted(tags)
    line = f"{name} is what rankc compares with; it has no score of its own."
    assert verdicts.left_out(folders[0], "rankc", TEXT, wanted, found) == ([line], [])
    with pytest.raises(BadRun, match=line):
        verdicts.against(*folders, on="rankc", languages=[name])


def test_a_language_that_one_side_lacks_is_an_error_that_names_it(dense, tmp_path):
    fewer = run(tmp_path / "fewer", {t: v for t, v in LOSS.items() if t != "tha_Thai"})

    with pytest.raises(BadRun, match=r"pressed model was not evaluated in tha_Thai"):
        verdicts.against(dense, fewer)
    assert len(verdicts.against(dense, fewer, languages=["latin", "hi"]).changes) == 3


@pytest.mark.parametrize(
    ("key", "mine", "theirs", "said"),
    [
        ("options", {"metric": "bleu"}, {}, "metric=bleu, into=english.*metric=chrf, into=english"),
        ("options", {}, {"shots": 0}, "shots=4.*shots=0"),
        ("made_with", {"languages": "one 1"}, {"languages": "one 2"}, "languages=one 1.*=one 2"),
    ],
)
def test_scores_that_were_not_made_alike_are_not_compared(tmp_path, key, mine, theirs, said):
    """A score of BLEU against one of chrF++ would be a loss of a half in every language."""
    corpus = "text?src=flores"
    folders = []
    for name, made in (("dense", mine), ("run", theirs)):
        folder = tmp_path / name
        rows = []
        for tag in LOSS:
            row = {"model": "m", "language": tag, "evaluation": "translate", "corpus": corpus}
            tally = Tally(("a", "b"), np.array([40.0, 30.0]), np.array([1.0, 1.0]))
            tally.save(scores.tally_path(folder, row))
            rows.append({**row, "value": tally.value})
        scores.write_results(folder, rows)
        write_json(scores.facts_path(folder, "translate", corpus), {"identity": {key: made}})
        folders.append(folder)

    with pytest.raises(BadRun, match=f"these translate scores were not made alike .*{said}"):
        verdicts.against(*folders, on="translate")
    path = scores.facts_path(folders[1], "translate", corpus)
    write_json(path, {"identity": {key: mine}})
    assert len(verdicts.against(*folders, on="translate").changes) == len(LOSS)


def test_an_option_that_is_left_out_is_its_default(dense, pressed):
    write_json(scores.facts_path(dense, ON, ""), {"identity": {"options": {"stride": None}}})
    write_json(scores.facts_path(pressed, ON, ""), {"identity": {"model": "m"}})

    assert verdicts.against(dense, pressed).changes


def test_many_languages_get_the_draws_that_holm_needs(dense, pressed, monkeypatch):
    monkeypatch.setattr("babelpress.judge.evidence.DRAWS", 10)

    assert verdicts.against(dense, pressed).draws == 40 * len(LOSS)
    with pytest.raises(BadSetting, match="--draws"):
        verdicts.against(dense, pressed, draws=10)


def test_a_folder_without_scores_is_told_the_command_that_makes_them(dense, tmp_path):
    with pytest.raises(BadRun, match=r"there is no folder .*nothing"):
        verdicts.against(dense, tmp_path / "nothing")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BadRun, match=r"babelpress eval .*nothing --on bits_per_byte"):
        verdicts.against(dense, tmp_path / "nothing")
    with pytest.raises(BadRun, match=r"babelpress eval .*nothing --on bits_per_byte"):
        verdicts.model_name(tmp_path / "nothing", ON)


# ---- training shares -----------------------------------------------------------------------


def test_training_shares_are_of_the_whole_distribution():
    values = mixtures.distribution("babel-mini").values

    shares = verdicts.training_shares("babel-mini", {"swh_Latn": 0, "eng_Latn": 0})

    assert shares is not None
    assert list(shares) == ["swh_Latn", "eng_Latn"]
    assert shares["swh_Latn"] == pytest.approx(values["swh_Latn"] / sum(values.values()))


@pytest.mark.parametrize("model", ["Qwen/Qwen3-0.6B", "never-heard-of"])
def test_shares_that_are_not_disclosed_are_none_and_never_a_prior(model):
    assert verdicts.training_shares(model, LOSS) is None


def test_shares_are_none_where_a_language_is_not_in_the_distribution():
    assert verdicts.training_shares("babel-mini", {"eng_Latn": 0, "mri_Latn": 0}) is None


def test_a_comparison_groups_by_training_share_where_it_is_known(tmp_path):
    loss = {"eng_Latn": 0.0, "rus_Cyrl": 0.0, "yor_Latn": 0.3}
    run_of = {}
    for model in ("babel-mini", "never-heard-of"):
        dense = scored(tmp_path / model / "dense", dict.fromkeys(loss, 0.0), model=model)
        found = verdicts.against(dense, run(tmp_path / model / "run", loss, model=model))
        run_of[model] = {s.name: s.value for s in found.summaries}

    assert run_of["babel-mini"]["low_resource"] == pytest.approx(0.3, abs=0.02)
    assert run_of["babel-mini"]["high_resource"] == pytest.approx(0.0, abs=1e-9)


def test_the_dense_model_of_a_run_is_the_one_that_it_began_with(pressed, dense):
    assert verdicts.model_name(pressed, ON) == "babel-mini"
    assert verdicts.model_name(dense, ON) == "babel-mini"


# ---- rows ----------------------------------------------------------------------------------


def test_rows_are_summaries_then_languages_worst_first_with_the_same_keys(dense, pressed):
    found = verdicts.against(dense, pressed)

    rows = of_comparison("mine", found)

    kinds = [row["kind"] for row in rows]
    assert kinds == ["summary"] * len(found.summaries) + ["language"] * len(LOSS)
    assert [row["language"] for row in rows if row["kind"] == "language"] == sorted(
        LOSS, key=lambda tag: -LOSS[tag]
    )
    assert len({frozenset(row) for row in rows}) == 1
    assert {row["run"] for row in rows} == {"mine"}
    assert [row["name"] for row in rows[:2]] == ["mean", "worst"]
    assert (rows[0]["language"], rows[1]["language"]) == (None, "swh_Latn")
    assert rows[0]["p_holm"] is None


def test_a_row_carries_the_numbers_and_the_verdict_of_its_language(dense, tmp_path):
    same = run(tmp_path / "same", dict.fromkeys(LOSS, 0.0))
    found = verdicts.against(dense, same)

    row = of_comparison("same", found)[-1]

    assert row["verdict"] == "too few documents to tell (6; at least 8)"
    assert (row["documents"], row["needed"], row["significant"]) == (6, 8, False)
    assert (row["change"], row["significant"]) == (0.0, False)
    assert row["dense"] == row["pressed"]


def test_runs_go_by_their_folder_or_by_their_path_where_two_have_one_name(tmp_path):
    a, b, c = (tmp_path / place for place in ("x/run", "y/run", "z/other"))

    assert verdicts.names([a, b, c]) == [str(a), str(b), "other"]
    assert verdicts.names([a, c]) == ["run", "other"]
    with pytest.raises(BadRun, match="is given 2 times"):
        verdicts.names([a, c, tmp_path / "x" / ".." / "x" / "run"])


# ---- prediction ----------------------------------------------------------------------------


def test_a_prediction_is_noted_beside_everything_else_in_the_manifest(dense, pressed):
    before = read_json(pressed / "manifest.json")

    noted = predicted.note_prediction(pressed, ON, TEXT, verdicts.against(dense, pressed))

    after = read_json(pressed / "manifest.json")
    assert noted is not None
    assert noted["spearman"] == pytest.approx(1.0)
    assert after.pop("prediction") == {ON: {TEXT: noted}}
    assert after == before


def test_predictions_on_two_corpora_stand_side_by_side(dense, pressed):
    found = verdicts.against(dense, pressed)
    first = predicted.note_prediction(pressed, ON, TEXT, found)
    turned = replace(found, changes=tuple(replace(c, change=-c.change) for c in found.changes))

    second = predicted.note_prediction(pressed, ON, "other?src=x", turned)

    assert first is not None
    assert second is not None
    assert (first["spearman"], second["spearman"]) == (pytest.approx(1), pytest.approx(-1))
    there = read_json(pressed / "manifest.json")["prediction"]
    assert there == {ON: {TEXT: first, "other?src=x": second}}


def test_what_is_said_of_some_languages_replaces_nothing_of_all(dense, pressed):
    noted = predicted.note_prediction(pressed, ON, TEXT, verdicts.against(dense, pressed))
    some = verdicts.against(dense, pressed, languages=["latin", "hi"])

    shown = predicted.note_prediction(pressed, ON, TEXT, some)

    assert shown is not None
    assert shown["languages"] == 3
    assert read_json(pressed / "manifest.json")["prediction"] == {ON: {TEXT: noted}}


def test_a_prediction_of_before_corpora_were_told_apart_gives_way(dense, pressed):
    old = {"spearman": 0.5, "p": 0.2, "languages": 40}
    write_json(
        pressed / "manifest.json",
        {**read_json(pressed / "manifest.json"), "prediction": {ON: old}},
    )

    noted = predicted.note_prediction(pressed, ON, TEXT, verdicts.against(dense, pressed))

    assert read_json(pressed / "manifest.json")["prediction"] == {ON: {TEXT: noted}}


def test_a_wrong_prediction_has_a_negative_correlation(dense, tmp_path):
    wrong = run(tmp_path / "wrong", LOSS, damage={tag: -loss for tag, loss in LOSS.items()})

    noted = predicted.note_prediction(wrong, ON, TEXT, verdicts.against(dense, wrong))

    assert noted is not None
    assert noted["spearman"] == pytest.approx(-1.0)


def test_what_was_predicted_of_the_loss_is_ranked_beside(dense, pressed):
    known = manifest.read(pressed)
    (step,) = known.steps
    changes = {c.language: c.change for c in verdicts.against(dense, pressed).changes}
    curved = {
        tag: {"curvature": 2 * each, "first_order": -each, "best": each}
        for tag, each in changes.items()
    }
    alone = {
        tag: {"curvature": each, "first_order": None, "best": each} for tag, each in changes.items()
    }

    def of(foretold):
        told = step.model_copy(update={"foretold": foretold})
        return predicted.prediction(known.model_copy(update={"steps": (told,)}), changes)

    both, one, none = of(curved), of(alone), of({})
    assert both is not None and one is not None and none is not None
    assert both["of_loss"] == {
        "curvature": pytest.approx(1),
        "first_order": pytest.approx(-1),
        "best": pytest.approx(1),
    }
    assert one["of_loss"] == {"curvature": pytest.approx(1)}
    assert "of_loss" not in none and none["spearman"] == both["spearman"]


def test_noting_the_same_again_writes_nothing(dense, pressed):
    found = verdicts.against(dense, pressed)
    predicted.note_prediction(pressed, ON, TEXT, found)
    written = (pressed / "manifest.json").stat().st_mtime_ns

    predicted.note_prediction(pressed, ON, TEXT, found)

    assert (pressed / "manifest.json").stat().st_mtime_ns == written


def test_a_model_from_elsewhere_has_no_prediction(dense, tmp_path):
    other = scored(tmp_path / "other", LOSS)

    assert predicted.note_prediction(other, ON, TEXT, verdicts.against(dense, other)) is None
    assert not (other / "manifest.json").exists()


@pytest.mark.parametrize(
    ("spearman", "said"), [(0.93, "says well"), (0.61, "says roughly"), (-0.2, "does not say")]
)
def test_a_rank_correlation_is_said_in_words(spearman, said):
    assert said in predicted.ranked(spearman)
