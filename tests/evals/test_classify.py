"""Labels of texts: accuracy against a loop in three families; what evaluations of labels refuse."""

import labelling
import numpy as np
import pico
import pytest
import torch
from running import refusal

from babelpress import evals
from babelpress.errors import BadModel, BadSetting
from babelpress.evals import class_ece, classify, macro_f1
from babelpress.judge import scorable
from babelpress.judge.compare import compare
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.numerics.tally import Tally
from babelpress.text.labelled import Labelled


def scored(evaluation, model, documents, window=64, **options):
    given = {"swh_Latn": documents}
    return evaluation.measure(model, pico.tokenizer(), given, window=window, **options)["swh_Latn"]


@pytest.mark.parametrize("family", labelling.OF_TEXTS)
@pytest.mark.parametrize("window", [24, 64])
def test_accuracy_is_what_a_loop_over_texts_finds(family, window):
    documents = labelling.topics(20)
    model = labelling.undecided(family, documents)
    expected = labelling.slow_classes(model, pico.tokenizer(), documents, window)
    assert len({label for label, _, _ in expected}) > 1

    tally = scored(classify, model, documents, window)

    assert tally.numerator_D.tolist() == [float(right) for _, _, right in expected]


def test_macro_f1_is_told_beside_it():
    documents = labelling.topics(20)
    model = labelling.undecided("bert", documents)
    told = {}

    scored(classify, model, documents, detail=lambda _tag, parts: told.update(parts))

    assert told["macro F1"] == pytest.approx(scored(macro_f1, model, documents).value)
    assert set(told) <= {*labelling.TOPICS, "macro F1"}


def test_it_is_held_against_guessing_and_the_label_that_is_there_most_often():
    documents = labelling.topics(5)  # of three labels 2, 2 and 1

    assert classify.baselines(documents) == {"chance": 1 / 3, "majority": 2 / 5}


def test_what_cannot_be_scored_is_one_line():
    model = labelling.head(labelling.OF_TEXTS, "bert", labelling.TOPICS)
    documents = labelling.topics(3)

    other = [Labelled("topic/x", ("ofisi",), ("politics",))]
    line = refusal(BadModel, scored, classify, model, other)
    assert line.startswith(
        "topic/x has the label 'politics', and the head of the model has travel, health, sports."
    )
    words = labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES)
    for each in (classify, macro_f1, class_ece):
        line = refusal(BadModel, scored, each, words, documents)
        assert "BertForTokenClassification has no head that labels whole texts" in line
        assert "finetune MODEL --task topic" in line


def test_a_folder_is_scored_and_kept_by_text(tmp_path):
    place = labelling.write_topics(tmp_path / "topics", {"swa": {"test": 9}, "ha": {"test": 6}})
    made = labelling.opened(labelling.head(labelling.OF_TEXTS, "bert", labelling.TOPICS))
    asked = EvaluationSettings(on=("classify", "macro_f1", "class_ece"), corpus=place)

    rows = evaluate(made, tmp_path / "out", asked)

    assert [(row["evaluation"], row["language"]) for row in rows] == [
        (name, tag) for name in asked.on for tag in ("hau_Latn", "swh_Latn")
    ]
    assert {row["chance"] for row in rows if row["evaluation"] == "classify"} == {1 / 3}


def test_numbers_that_nothing_names_are_told_when_they_were_read(tmp_path):
    place = labelling.write_numbers(tmp_path / "feelings", {"swa": {"test": 6}})
    feelings = ("positive", "neutral", "negative")
    made = labelling.opened(labelling.head(labelling.OF_TEXTS, "bert", feelings))
    asked = EvaluationSettings(on=("classify",), corpus=place)
    said = []

    evaluate(made, tmp_path / "out", asked, progress=lambda what, *_: said.append(what))

    assert [line for line in said if "has numbers for labels and no names of them" in line]


def test_a_model_without_the_head_is_refused_before_it_is_opened(tmp_path):
    place = labelling.write_topics(tmp_path / "topics", {"swa": {"test": 3}})
    asked = EvaluationSettings(on=("classify",), corpus=place)
    bare = labelling.folder(tmp_path / "bare", labelling.bare())
    made = labelling.head(labelling.OF_TEXTS, "bert", labelling.TOPICS)
    headed = labelling.folder(tmp_path / "headed", made)

    line = refusal(BadModel, scorable.check, asked, bare)

    assert line.startswith("BertModel has no head that labels whole texts")
    scorable.check(asked, headed)


def test_two_models_are_compared_by_mcnemar_where_a_text_is_right_or_wrong():
    assert evals.is_binary("classify")
    assert not evals.is_binary("macro_f1")
    names = tuple(map(str, range(30)))
    right, wrong = np.ones(30), np.r_[np.zeros(12), np.ones(18)]
    dense, pressed = (Tally(names, hit_D, np.ones(30)) for hit_D in (right, wrong))

    (change,) = compare(
        {"swh_Latn": dense}, {"swh_Latn": pressed}, lower_is_better=False, binary=True
    ).changes

    assert change.p == pytest.approx(2 * 0.5**12)


def test_a_task_that_is_none_of_whole_texts_is_one_line(tmp_path):
    place = labelling.write_sentences(tmp_path, {"swa": {"test": 3}})

    with pytest.raises(BadSetting, match="classify is of topic or sentiment, not of ner"):
        classify.texts(place, task="ner")


def test_a_text_is_run_once_for_all_evaluations_of_one_model(tmp_path):
    """And once more where it is changed; without that every score is the same."""
    corpus = labelling.write_topics(tmp_path / "topics", {"sw": {"train": 3, "dev": 3, "test": 9}})
    documents = labelling.topics(9, "test")
    model = labelling.undecided("bert", documents)
    asked = EvaluationSettings.model_validate(
        {
            "corpus": corpus,
            "on": ["classify", "macro_f1", "class_ece", "perturb"],
            "options": {"of": "classify", "rate": 0.5},
            "window": 64,
        }
    )
    rows = []
    model.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))

    found = evaluate(labelling.opened(model), tmp_path / "scores", asked)

    assert sum(rows) == 2 * 9
    values = {row["evaluation"]: row["value"] for row in found}
    for name in ("classify", "macro_f1", "class_ece"):
        alone = asked.model_copy(update={"on": (name,), "options": {}})
        (row,) = evaluate(labelling.opened(model), tmp_path / name, alone)
        assert row["value"] == values[name]
    assert sum(rows) == 5 * 9
    with torch.no_grad():
        model.classifier.weight.neg_()  # another model: nothing is remembered of before
    alone = asked.model_copy(update={"on": ("macro_f1",), "options": {}})
    (row,) = evaluate(labelling.opened(model), tmp_path / "other", alone)
    assert row["value"] != values["macro_f1"]
