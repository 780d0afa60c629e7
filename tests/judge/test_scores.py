"""Scores are kept by document, belong to one model and one text, and are measured once."""

import json
import math
import re
from functools import wraps
from typing import Any

import pico
import pytest
import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from babelpress.cli import main
from babelpress.errors import BadCorpus, BadRun, BadSetting, UnknownName
from babelpress.evals import bits_per_byte
from babelpress.judge import scores
from babelpress.judge.evaluate import evaluate
from babelpress.judge.predicted import prediction
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened
from babelpress.runs.manifest import Manifest
from babelpress.system.files import SEAL
from babelpress.system.settings import checked
from babelpress.text.corpus import open_corpus

SCHEMA = {
    "model",
    "language",
    "evaluation",
    "corpus",
    "metric",
    "value",
    "numerator",
    "denominator",
    "documents",
    "seed",
    "chance",
    "majority",
    "made_with",
}
LANGUAGES = ["swh_Latn", "amh_Ethi"]


def llama(seed=0, tokenizer=None):
    return Opened("pico", pico.model(seed=seed), tokenizer or pico.tokenizer(), torch.float32)


def swapped():
    """A tokenizer that gives `a` the number of `i` and the other way round."""
    rules = json.loads(pico.tokenizer().backend_tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    vocabulary["a"], vocabulary["i"] = vocabulary["i"], vocabulary["a"]
    backend = Tokenizer.from_str(json.dumps(rules))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def scored(out, opened=None, corpus=None, **options):
    asked = {"on": ["bits_per_byte"], "languages": LANGUAGES, "documents": 3, "window": 64}
    asked |= {"corpus": corpus.name if corpus else "embedded"}
    how = {key: options.pop(key) for key in ("progress", "ranges") if key in options}
    settings = checked(EvaluationSettings, {**asked, **options}, "here")
    return evaluate(opened or llama(), out, settings, **how)


def tally_of(folder, tag="swh_Latn", corpus="embedded"):
    """Where the tally of a language is."""
    row = {"evaluation": "bits_per_byte", "corpus": corpus, "language": tag}
    return scores.tally_path(folder, row)


def text(folder, **languages):
    """A corpus of some test lines for each language, every line a document."""
    folder.mkdir(exist_ok=True)
    for tag, lines in languages.items():
        rows = [{"id": str(n), "split": "test", "text": line} for n, line in enumerate(lines)]
        words = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{tag}.jsonl").write_text(words, encoding="utf-8")
    return open_corpus(str(folder))


@pytest.fixture
def measured(monkeypatch):
    """The languages that were measured, in order."""
    found = []
    real = bits_per_byte.measure

    @wraps(real)
    def measure(model, tokenizer, documents, **options):
        found.extend(documents)
        return real(model, tokenizer, documents, **options)

    monkeypatch.setattr(bits_per_byte, "measure", measure)
    return found


def test_there_is_one_row_a_language_and_a_tally_behind_it(tmp_path):
    rows = scored(tmp_path / "dense")

    lines = (tmp_path / "dense" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    written = [json.loads(line) for line in lines]
    assert all(len(row.pop("seal")) == 64 for row in written)
    assert rows == written == scores.read_results(tmp_path / "dense")
    assert [row["language"] for row in rows] == sorted(LANGUAGES)
    tallies = scores.tallies(tmp_path / "dense", "bits_per_byte")
    for row in rows:
        assert set(row) == SCHEMA
        assert (row["model"], row["evaluation"], row["metric"], row["documents"], row["seed"]) == (
            "pico",
            "bits_per_byte",
            "bits_per_byte",
            3,
            None,
        )
        tally = tallies[row["language"]]
        assert row["value"] == tally.value == row["numerator"] / row["denominator"]
        documents = open_corpus("embedded").documents(row["language"], "test")[:3]
        assert tally.documents == tuple(document.id for document in documents)
        assert row["denominator"] == sum(len(document.text.encode()) for document in documents)


def test_a_random_model_needs_about_as_many_bits_as_a_token_has(tmp_path):
    rows = scored(tmp_path / "dense")

    assert all(abs(row["value"] - math.log2(pico.VOCABULARY)) < 0.5 for row in rows)


def test_what_was_measured_is_not_measured_again(tmp_path, measured):
    first = scored(tmp_path / "dense")
    assert measured == LANGUAGES

    assert scored(tmp_path / "dense") == first
    assert measured == LANGUAGES

    more = scored(tmp_path / "dense", languages=["hin_Deva", "swh_Latn"])
    assert measured == [*LANGUAGES, "hin_Deva"]
    assert [row["language"] for row in more] == ["hin_Deva", "swh_Latn"]
    assert len(scores.read_results(tmp_path / "dense")) == 3


@pytest.mark.parametrize("change", ["model", "tokenizer", "window", "documents"])
def test_another_model_text_or_setting_is_measured_anew_and_stands_in_its_place(
    tmp_path, measured, change
):
    scored(tmp_path / "dense")
    before = scores.tallies(tmp_path / "dense", "bits_per_byte")
    options = {
        "model": {"opened": llama(seed=1)},
        "tokenizer": {"opened": llama(tokenizer=swapped())},
        "window": {"window": 32},
        "documents": {"documents": 2},
    }[change]
    rows = scored(tmp_path / "dense", languages=["swh_Latn"], **options)

    assert measured == [*LANGUAGES, "swh_Latn"]
    assert scores.read_results(tmp_path / "dense") == rows
    assert rows[0]["value"] != before["swh_Latn"].value
    assert [*(tmp_path / "dense" / "tallies").glob("*.parquet")] == [tally_of(tmp_path / "dense")]


@pytest.mark.parametrize("change", [{"window": 32}, {"documents": 2}])
def test_scores_of_other_settings_are_set_aside_and_come_back(tmp_path, measured, change):
    said = []
    first = scored(tmp_path / "dense")
    there = {path.name: path.read_bytes() for path in (tmp_path / "dense" / "tallies").iterdir()}

    other = scored(
        tmp_path / "dense",
        languages=["swh_Latn"],
        progress=lambda what, _done, total: said.append(what) if not total else None,
        **change,
    )

    (line,), (setting,) = said, change
    assert re.search(rf"scores with {setting} \d+ are set aside", line)
    assert scores.read_results(tmp_path / "dense") == other
    again = [row for row in first if row["language"] == "swh_Latn"]
    assert scored(tmp_path / "dense", languages=["swh_Latn"]) == again
    assert scores.read_results(tmp_path / "dense") == first
    again = (tmp_path / "dense" / "tallies").glob("bits*")
    assert {path.name: path.read_bytes() for path in again} == there
    assert scored(tmp_path / "dense", languages=["swh_Latn"], **change) == other
    assert measured == [*LANGUAGES, "swh_Latn"]


@pytest.mark.parametrize(
    ("other", "options", "words"),
    [
        ("alignment", {"metric": "mexico"}, "alignment has no metric 'mexico'"),
        ("translate", {"shots": 99}, "shots is 99"),
        ("confusion", {"tokens": 0}, "tokens is 0"),
        ("rankc", {"normalise": "chars"}, "normalise is 'chars'"),
        ("choice", {"normalise": "chars"}, "normalise is 'chars'"),
        ("choice", {}, "no task with choices is inside the package"),
    ],
)
def test_what_a_later_evaluation_cannot_do_is_told_before_the_first_one_scores(
    tmp_path, measured, other, options, words
):
    """Bits per byte of a large model take hours, and would have been taken for nothing."""
    with pytest.raises((BadSetting, BadCorpus)) as caught:
        scored(tmp_path / "dense", on=["bits_per_byte", other], options=options)

    assert words in str(caught.value)
    assert measured == []
    assert not (tmp_path / "dense").exists()


LINES = ["Habari ya asubuhi", "Karibu sana", "Tutaonana kesho"]


def test_scores_on_another_corpus_stand_beside_and_are_told_apart_by_its_name(tmp_path, measured):
    first = scored(tmp_path / "dense")
    corpus = text(tmp_path / "text", swh_Latn=LINES)

    second = scored(tmp_path / "dense", corpus=corpus, languages=["swh_Latn"])

    assert measured == [*LANGUAGES, "swh_Latn"]
    assert {row["corpus"] for row in first} == {"embedded"}
    assert [row["corpus"] for row in second] == [corpus.name]
    assert scores.corpora(tmp_path / "dense", "bits_per_byte") == sorted(["embedded", corpus.name])
    there = scores.read_results(tmp_path / "dense")
    assert sorted(map(str, there)) == sorted(map(str, [*first, *second]))
    assert scored(tmp_path / "dense") == first
    assert measured == [*LANGUAGES, "swh_Latn"]
    assert scores.values(tmp_path / "dense", "bits_per_byte", corpus.name) == {
        "swh_Latn": second[0]["value"]
    }
    with pytest.raises(BadRun, match=r"several corpora \(.*Name one with --corpus"):
        scores.tallies(tmp_path / "dense", "bits_per_byte")
    with pytest.raises(BadRun, match=r"no bits_per_byte scores on other \(it has"):
        scores.the_corpus([tmp_path / "dense"], "bits_per_byte", "other")


def test_scores_of_another_model_on_another_corpus_go_with_the_model(tmp_path):
    scored(tmp_path / "dense")
    corpus = text(tmp_path / "text", swh_Latn=LINES)

    said = []

    def watch(what, _done, total):
        said.extend([] if total else [what])

    asked = {"corpus": corpus, "languages": ["swh_Latn"], "progress": watch}
    rows = scored(tmp_path / "dense", llama(seed=1), **asked)

    assert said == ["bits_per_byte scores on embedded were of another model, and are dropped"]
    assert scores.read_results(tmp_path / "dense") == rows
    tallies = [*(tmp_path / "dense" / "tallies").glob("*.parquet")]
    assert tallies == [tally_of(tmp_path / "dense", corpus=corpus.name)]


def as_before_corpora_were_told_apart(folder):
    """The scores of a folder as an older version left them: no corpus in rows and names."""
    for path in (folder / "tallies").iterdir():
        name, _, *rest = path.name.split(".")
        path.rename(path.with_name(".".join((name, *rest))))
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k not in ("corpus", SEAL)} for row in rows]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def test_a_folder_of_before_corpora_were_told_apart_is_read_and_gone_on_with(tmp_path, measured):
    folder, corpus = tmp_path / "dense", text(tmp_path / "text", swh_Latn=LINES)
    rows = scored(folder)
    as_before_corpora_were_told_apart(folder)
    measured.clear()

    assert scores.corpora(folder, "bits_per_byte") == ["embedded"]
    assert set(scores.tallies(folder, "bits_per_byte", "embedded")) == set(LANGUAGES)
    assert scored(folder) == rows
    assert measured == []
    scored(folder, corpus=corpus, languages=["swh_Latn"])
    assert scores.corpora(folder, "bits_per_byte") == sorted(["embedded", corpus.name])
    # What is of another model goes, and of one corpus no more than its own.
    scored(folder, llama(seed=1), languages=["swh_Latn"])
    assert scores.corpora(folder, "bits_per_byte") == ["embedded"]
    assert set(scores.tallies(folder, "bits_per_byte")) == {"swh_Latn"}


def test_runs_on_different_corpora_are_not_put_side_by_side(tmp_path):
    dense, runs = tmp_path / "dense", [tmp_path / "one", tmp_path / "two"]
    other = text(tmp_path / "text", swh_Latn=LINES)
    scored(dense, languages=["swh_Latn"])
    scored(dense, corpus=other, languages=["swh_Latn"])
    scored(runs[0], languages=["swh_Latn"])
    scored(runs[1], corpus=other, languages=["swh_Latn"])

    with pytest.raises(BadRun, match="several corpora"):
        scores.common_corpus([dense, *runs], "bits_per_byte")
    assert scores.common_corpus([dense, runs[1]], "bits_per_byte") == other.name


def test_corpora_that_both_have_are_compared_and_else_the_only_ones(tmp_path):
    other = text(tmp_path / "text", swh_Latn=LINES)
    dense, run = tmp_path / "dense", tmp_path / "run"
    scored(dense)
    scored(dense, corpus=other, languages=["swh_Latn"])
    scored(run, corpus=other, languages=["swh_Latn"])

    assert scores.the_corpus([dense, run], "bits_per_byte") == {dense: other.name, run: other.name}
    scored(tmp_path / "new")
    only = scores.the_corpus([run, tmp_path / "new"], "bits_per_byte")
    assert only == {run: other.name, tmp_path / "new": "embedded"}


def test_text_that_changed_under_its_name_is_measured_anew(tmp_path, measured):
    corpus = text(tmp_path / "text", swh_Latn=["Habari", "Jambo"], amh_Ethi=["ሰላም"])
    first = scored(tmp_path / "dense", corpus=corpus)
    changed = text(tmp_path / "text", swh_Latn=["Habari", "Karibu sana"])

    rows = scored(tmp_path / "dense", corpus=changed)

    assert measured == [*LANGUAGES, "swh_Latn"]
    assert rows[0] == first[0]
    assert rows[1]["value"] != first[1]["value"]


def test_an_interrupted_evaluation_keeps_what_it_has_measured(tmp_path, measured):
    whole = scored(tmp_path / "whole")

    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(tmp_path / "dense", progress=stop)
    assert measured == [*LANGUAGES, LANGUAGES[0]]

    assert scored(tmp_path / "dense") == whole
    assert measured == [*LANGUAGES, *LANGUAGES]
    tallies = [tally_of(tmp_path / "dense", tag) for tag in LANGUAGES]
    names = ("results.jsonl", *(f"tallies/{path.name}" for path in tallies))
    for name in names:
        assert (tmp_path / "dense" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_scores_of_two_models_are_never_mixed_by_an_interruption(tmp_path):
    scored(tmp_path / "dense")

    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(tmp_path / "dense", llama(seed=1), progress=stop)

    assert scores.read_results(tmp_path / "dense") == []
    with pytest.raises(BadRun, match="has no bits_per_byte scores"):
        scores.tallies(tmp_path / "dense", "bits_per_byte")


def test_a_failed_measurement_leaves_no_results(tmp_path):
    for kind, options in {
        UnknownName: {"on": ["bleu"]},
        BadSetting: {"window": 1},
    }.items():
        with pytest.raises(kind, match=r"^[^\n]+$"):
            scored(tmp_path / "new", **options)
        assert not list((tmp_path / "new").glob("results.jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"documents": -1}, "documents: .*greater than or equal to 0"),
        ({"on": []}, "names no evaluation"),
        ({"options": {"depth": 3}}, "has an option depth: bits_per_byte has stride=None"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, options, words):
    with pytest.raises(BadSetting, match=words):
        scored(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_language_that_is_not_there_is_an_error_that_names_it(tmp_path):
    corpus = text(tmp_path / "text", swh_Latn=["Habari"])
    with pytest.raises(BadCorpus, match=r"has no text in yor_Latn, amh_Ethi\. It has swh_Latn"):
        scored(tmp_path / "new", corpus=corpus, languages=["yo", "sw", "am"])

    (tmp_path / "text" / "amh_Ethi.jsonl").write_text('{"text": "ሰላም", "split": "train"}\n')
    with pytest.raises(BadCorpus, match="amh_Ethi has no text to score"):
        scored(tmp_path / "new", corpus=open_corpus(str(tmp_path / "text")))
    assert not (tmp_path / "new" / "results.jsonl").exists()


def test_a_broken_line_of_results_is_named(tmp_path):
    scored(tmp_path)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"model": ')

    with pytest.raises(BadRun, match=r"results\.jsonl line 3 is not JSON"):
        scores.read_results(tmp_path)


def test_a_missing_or_broken_tally_is_named_and_measured_again(tmp_path, measured):
    rows = scored(tmp_path)
    path = tally_of(tmp_path)
    path.unlink()
    assert scored(tmp_path) == rows
    assert measured == [*LANGUAGES, "swh_Latn"]

    path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(BadRun, match=r"swh_Latn\.parquet cannot be read as a tally"):
        scores.tallies(tmp_path, "bits_per_byte")
    assert scored(tmp_path) == rows
    assert measured == [*LANGUAGES, "swh_Latn", "swh_Latn"]


def slow_spearman(left, right):
    """Pearson's correlation of ranks, ties sharing the mean of theirs."""

    def ranks(values):
        return [
            sum(other < value for other in values) + (values.count(value) + 1) / 2
            for value in values
        ]

    a, b = ranks(left), ranks(right)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    below_a, below_b = sum((x - mean_a) ** 2 for x in a), sum((y - mean_b) ** 2 for y in b)
    return top / math.sqrt(below_a * below_b)


def of_damage(*steps):
    """The manifest of a chain, by what each step was predicted to do."""
    rows = [{"model": {"name": "x"}, "damage": damage} for damage in steps]
    return Manifest.model_validate({"steps": rows})


def test_the_prediction_is_the_rank_correlation_of_damage_with_change():
    damage = {"a": 0.31, "b": 0.12, "c": 0.25, "d": 0.12, "e": 0.9}
    change = {"b": 0.04, "a": 0.07, "c": 0.01, "d": 0.05, "x": 3.0}

    found = prediction(of_damage(damage), change)

    expected = slow_spearman([0.31, 0.12, 0.25, 0.12], [0.07, 0.04, 0.01, 0.05])
    assert found is not None
    assert found["spearman"] == pytest.approx(expected)
    assert found["languages"] == 4


def test_the_damage_of_a_chain_is_that_of_all_its_steps():
    parts = {"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 0.4, "b": 0.1, "c": 0.1}

    found = prediction(of_damage(*parts), {"a": 3.0, "b": 1.0, "c": 2.0})

    assert found is not None
    assert found["spearman"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("damage", "change"),
    [
        ({"a": 0.1, "b": 0.2}, {"a": 1.0, "b": 2.0}),
        ({"a": 0.1, "b": 0.1, "c": 0.1}, {"a": 1.0, "b": 2.0, "c": 3.0}),
        ({"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 0.0, "b": 0.0, "c": 0.0}),
        ({}, {"a": 0.0, "b": 0.0, "c": 0.0}),
    ],
)
def test_where_nothing_can_be_ranked_there_is_no_prediction(damage, change):
    assert prediction(of_damage(damage), change) is None


def test_compare_notes_the_prediction_in_the_manifest_of_the_run(tmp_path, capsys):
    pico.model().save_pretrained(tmp_path / "pico")
    pico.tokenizer().save_pretrained(tmp_path / "pico")
    tags = "swh_Latn,amh_Ethi,hin_Deva,tha_Thai"
    run, dense = str(tmp_path / "run"), str(tmp_path / "dense")
    few = ["--languages", tags, "--documents", "2", "--window", "64"]
    text = ["--languages", tags, "--tokens", "128", "--length", "64"]
    pruned = ["prune", str(tmp_path / "pico"), "--out", run, "--pattern", "0.7", *text]
    scored = ["eval", str(tmp_path / "pico"), "--out", dense, *few]
    for words in (pruned, scored, ["eval", run, *few], ["compare", dense, run]):
        assert main(words) == 0, capsys.readouterr().err

    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    before, after = (scores.tallies(tmp_path / name, "bits_per_byte") for name in ("dense", "run"))
    loss = {tag: after[tag].value / before[tag].value - 1 for tag in before}
    damage = manifest["steps"][0]["damage"]
    expected: Any = spearmanr([damage[tag] for tag in loss], [*loss.values()])
    assert manifest["prediction"]["bits_per_byte"]["embedded"] == {
        "spearman": pytest.approx(float(expected.statistic)),
        "p": pytest.approx(float(expected.pvalue)),
        "languages": 4,
    }


def test_scores_that_are_not_there_are_named_beside_those_that_are(tmp_path):
    row = {"model": "m", "language": "swh_Latn", "evaluation": "masked", "value": 1.0}
    row |= {"corpus": "embedded"}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")

    with pytest.raises(BadRun, match=r"has no top1 scores, but those of masked, which --on names"):
        scores.in_common([tmp_path], "top1")
    with pytest.raises(BadRun, match=r"no masked scores on flores \(it has embedded\)\. Make them"):
        scores.in_common([tmp_path], "masked", "flores")


def test_documents_that_chose_are_left_out(tmp_path):
    corpus = text(tmp_path / "text", **{tag: list("abcdefg") for tag in LANGUAGES})

    scored(tmp_path / "first", corpus=corpus, documents=2)
    scored(tmp_path / "rest", corpus=corpus, documents=3, skip=2)
    scored(tmp_path / "all", corpus=corpus, documents=0, skip=2)

    def ids(folder):
        return list(scores.tallies(tmp_path / folder, "bits_per_byte")["swh_Latn"].documents)

    every = [each.id for each in corpus.documents("swh_Latn", "test")]
    assert (ids("first"), ids("rest"), ids("all")) == (every[:2], every[2:5], every[2:])


def test_other_documents_are_other_settings(tmp_path, measured):
    corpus = text(tmp_path / "text", **{tag: list("abcd") for tag in LANGUAGES})
    first = scored(tmp_path / "dense", corpus=corpus, documents=2)

    later = scored(tmp_path / "dense", corpus=corpus, documents=2, skip=2)

    assert [row["value"] for row in later] != [row["value"] for row in first]
    assert scored(tmp_path / "dense", corpus=corpus, documents=2) == first
    assert len(measured) == 2 * len(LANGUAGES)  # the first ones came back


def test_nothing_is_written_of_what_is_not_skipped():
    """Sweeps know what they did before there was such a setting by the fingerprint of others."""
    assert "skip" not in EvaluationSettings().model_dump()
    assert EvaluationSettings(skip=3).model_dump()["skip"] == 3
    assert EvaluationSettings.model_validate(EvaluationSettings(skip=3).model_dump()).skip == 3
