"""Distilling on a task: labels of words and of texts, languages, and what does not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from labelling import (
    NAMES,
    OF_TEXTS,
    OF_WORDS,
    TOPICS,
    folder,
    head,
    write_numbers,
    write_sentences,
    write_topics,
)
from running import do, refusal
from transformers import AutoModelForSequenceClassification

import babelpress as bp
from babelpress.commands import checks
from babelpress.commands.pressing import press
from babelpress.errors import BadCorpus, BadModel, BadSetting, UnknownName
from babelpress.models.open import open_model
from babelpress.models.student import fewer_blocks
from babelpress.runs import recipe
from babelpress.steps._learnt import of_task
from babelpress.text.settings import CalibrationSettings
from babelpress.train.distilling import Distillation, Objective, Pupil
from babelpress.train.reading import Reader

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"sw": {"train": 18, "dev": 6}, "yo": {"train": 9}}


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    return write_topics(tmp_path_factory.mktemp("topics"), SIZES)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "topics"
    return folder(place, head(OF_TEXTS, "xlm_roberta", TOPICS))


def plan(model, corpus, **step):
    asked = {"layers": 1, "steps": 12, "evaluate": 6, "batch": 6, "rate": 0.01, **step}
    text = {"corpus": corpus, "length": 64}
    return recipe.of({"model": model, "calibration": text, "steps": [{"distill": asked}]})


def test_a_student_learns_the_topics_that_its_teacher_says(teacher, topics, tmp_path):
    manifest = do(plan(teacher, topics, task="topic", options={"alpha": 0.0}), tmp_path / "run")

    (step,) = manifest["steps"]
    first, last = step["distances"][0], step["distances"][-1]
    assert step["unit"] == "nats a label"
    assert all(last[tag] < first[tag] for tag in ("swh_Latn", "yor_Latn"))
    assert step["calibration"]["task"] == "topic"
    assert step["calibration"]["languages"]["swh_Latn"]["documents"] == 18
    assert step["apart"]["of_train"] == ["yor_Latn"]
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert found.config.num_hidden_layers == 1
    assert tuple(found.config.id2label.values()) == TOPICS


@pytest.mark.parametrize("objective", ["mixkd", "hinton,hidden"])
def test_a_student_learns_the_names_that_its_teacher_says(tmp_path, objective):
    words = write_sentences(tmp_path / "words", {"sw": {"train": 12, "dev": 4}})
    model = folder(tmp_path / "model", head(OF_WORDS, "bert", NAMES))

    asked = plan(model, words, task="ner", objective=objective, steps=12)
    (step,) = do(asked, tmp_path / "run")["steps"]

    assert step["losses"][-1] < step["losses"][0]
    assert set(step["distances"][-1]) == {"swh_Latn"}


def test_pieces_have_the_labels_of_their_words(tmp_path):
    """Sentences are split, so every label is looked for in the piece that has its word."""
    words = write_sentences(tmp_path / "words", {"sw": {"train": 5, "dev": 2}})
    model = folder(tmp_path / "model", head(OF_WORDS, "bert", NAMES))
    opened = open_model(model)
    asked = CalibrationSettings(corpus=words, length=16)
    learnt = of_task(opened, asked, "ner")

    rows = learnt.learnt.rows["swh_Latn"]  # type: ignore[union-attr]
    assert len(rows) > 5
    said = []
    for each in rows:
        assert len(each.tokens) <= 16
        for place, label in zip(each.places_W, each.labels_W, strict=True):
            begin = str(opened.tokenizer.decode([each.tokens[place]]))
            said.append((begin.strip() or begin, NAMES[label]))
    assert len(said) == learnt.manifest["languages"]["swh_Latn"]["words"]
    # a name of a person begins with a large letter, and what is no name with a small one or a digit
    assert all(first.isupper() for first, label in said if label == "B-PER" and first != " ")
    assert not any(first.isupper() for first, label in said if label == "O")


def test_a_store_is_learnt_from_beside_the_corpus(teacher, topics, tmp_path):
    store = write_topics(tmp_path / "store", {"sw": {"train": 30}})

    asked = plan(teacher, topics, task="topic", store=store, steps=1)
    (step,) = do(asked, tmp_path / "run")["steps"]

    rows = step["calibration"]["languages"]
    assert (rows["swh_Latn"]["documents"], rows["swh_Latn"]["written"]) == (18, 27)
    assert rows["yor_Latn"]["written"] == 0


def test_a_plan_of_a_task_says_what_it_will_take(teacher, topics, tmp_path):
    asked = plan(teacher, topics, task="topic").model_dump(mode="json")
    del asked["model"]

    told = press(teacher, asked, out=tmp_path / "run", dry_run=True)

    assert told.says[0].startswith("step 1: distil a student of 1 layers (stride) of topic in 12")
    assert told.says[1].startswith("step 1: about ")
    assert {row["language"] for row in told.rows} == {"swh_Latn", "yor_Latn"}


def test_what_does_not_fit_a_task_is_one_line(teacher, topics, model, tmp_path):
    words = folder(tmp_path / "words", head(OF_WORDS, "bert", NAMES))
    turned = folder(tmp_path / "turned", head(OF_TEXTS, "bert", TOPICS[::-1]))
    other = {"task": "topic", "layers": None, "student": turned}
    fewer = folder(tmp_path / "fewer", head(OF_TEXTS, "bert", TOPICS[:2]))
    cases = [
        (plan(teacher, topics), BadModel, "Name the task with --task"),
        (plan(words, topics, task="topic"), BadModel, "has no head that labels whole texts"),
        (plan(fewer, topics, task="topic"), BadModel, "has the label 'sports', and the head"),
        (plan(teacher, topics, **other), BadModel, "would learn them under other names"),
        (plan(str(model), topics, task="topic"), BadModel, "has no head that labels whole texts"),
    ]
    for asked, kind, said in cases:
        assert said in refusal(kind, do, asked, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    assert "no task is called 'topics'" in refusal(
        UnknownName, plan, teacher, topics, task="topics"
    )
    assert "is of a task: name it" in refusal(BadSetting, plan, teacher, topics, store="x")


def test_numbers_that_nothing_names_are_told(tmp_path):
    place = write_numbers(tmp_path / "feelings", {"sw": {"train": 6, "dev": 3}})
    feelings = ("positive", "neutral", "negative")
    made = open_model(folder(tmp_path / "model", head(OF_TEXTS, "bert", feelings)))

    found = of_task(made, CalibrationSettings(corpus=place, length=64), "sentiment")

    assert "numbers for labels and no names of them" in found.told["notes"][-1]


@pytest.mark.parametrize(
    "given", [{"tokens": 64}, {"evaluation": "embedded"}, {"count_special": True}]
)
def test_what_says_how_much_text_is_read_is_not_of_rows(teacher, topics, tmp_path, given):
    (name,) = given
    flag = name.replace("_", "-")

    asked = {"task": "topic", "layers": 1, "corpus": topics, "out": tmp_path / "run", **given}
    line = refusal(BadSetting, bp.distill, teacher, **asked)

    assert line == f"distill: --{flag} has no effect with --task. Leave one of them out."
    assert not (tmp_path / "run").exists()


def test_a_calibration_that_steps_share_is_told_where_it_has_no_effect(teacher, topics):
    asked = CalibrationSettings(corpus=topics, length=64, tokens=64)

    notes = of_task(open_model(teacher), asked, "topic").told["notes"]

    assert notes[-1] == "tokens of the calibration had no effect: all train rows were read."
    plain = of_task(open_model(teacher), asked.model_copy(update={"tokens": 16384}), "topic")
    assert len(plain.told["notes"]) == len(notes) - 1


def test_a_language_without_rows_is_one_line_before_the_model_is_opened(teacher, topics):
    asked = plan(teacher, topics, task="topic")
    lacking = asked.model_copy(
        update={"calibration": asked.calibration.model_copy(update={"languages": ("sw", "ha")})}
    )

    assert "has no train rows of topic in hau_Latn" in refusal(BadCorpus, checks.recipe, lacking)
    checks.recipe(asked)


def test_the_distance_of_labels_is_that_of_what_both_say(teacher, topics):
    opened = open_model(teacher)
    learnt = of_task(opened, CalibrationSettings(corpus=topics, length=64), "topic")
    student = fewer_blocks(opened.model, [1])
    found = Distillation(
        Reader.of(opened.model), Reader.of(student), Pupil(student, []), (Objective("hinton", {}),),
        learnt.learnt, learnt.apart, 4, base={"swh_Latn": 1.0}, seed=0, place=Path(),
    ).measured()  # fmt: skip

    apart = []
    with torch.no_grad():
        for each in learnt.apart.rows["swh_Latn"]:  # type: ignore[union-attr]
            ids_1T = torch.tensor([each.tokens])
            mine, its = (m(ids_1T).logits[0].log_softmax(0) for m in (student, opened.model))
            apart.append((its.exp() * (its - mine)).sum().item())
    assert len(apart) == 6
    assert found.distances["swh_Latn"] == pytest.approx(np.mean(apart), rel=1e-4)
    assert found.losses == found.distances
