"""A fine-tuning step: what was learnt, going on after a stop, chains, what does not fit."""

import inspect
import json

import labelling
import numpy as np
import pico
import pytest
import torch
from killing import killed_before
from running import content, do, refusal, weights
from safetensors.torch import load_file
from stopping import stop_at
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from babelpress.commands import COMMANDS
from babelpress.commands.pressing import press
from babelpress.errors import BabelpressWarning, BadCorpus, BadModel, BadSetting
from babelpress.evals.classify import measure
from babelpress.numerics.tally import Tally
from babelpress.report import card
from babelpress.runs import manifest, recipe, run
from babelpress.runs.open import open_any
from babelpress.steps import _finetuning
from babelpress.steps.finetune import Report, Settings, tell
from babelpress.system.files import read_json
from babelpress.text.labelled import open_labelled

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = {"corpus": "embedded", "languages": ["swh_Latn", "hau_Latn"], "tokens": 128, "length": 32}
LEARNING = {"rate": 0.01, "batch": 4, "length": 64}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "bert"
    return labelling.folder(folder, labelling.loud(pico.model("bert").base_model, 0.12))


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    sizes = {"swa": {"train": 16, "dev": 6}, "ha": {"train": 8, "dev": 3}}
    return labelling.write_topics(tmp_path_factory.mktemp("topics"), sizes)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    sizes = {"swa": {"train": 24, "dev": 9}, "ha": {"train": 12}}
    return labelling.write_sentences(tmp_path_factory.mktemp("names"), sizes)


def plan(model, corpus, *more, task="topic", before=(), **step):
    asked = {"task": task, "corpus": str(corpus), "epochs": 2, **LEARNING, **step}
    steps = [*before, {"finetune": asked}, *more]
    return recipe.of({"model": str(model), "calibration": TEXT, "steps": steps})


def test_topics_are_learnt_in_two_languages(encoder, topics, tmp_path):
    found = do(plan(encoder, topics, epochs=8, patience=0), tmp_path / "run")

    (step,) = found["steps"]
    assert step["kind"] == "finetune"
    assert step["texts"] == {
        "hau_Latn": {"train": 8, "dev": 3},
        "swh_Latn": {"train": 16, "dev": 6},
    }
    assert step["mixture"]["shares"] == {"hau_Latn": 0.5, "swh_Latn": 0.5}
    assert len(step["scores"]) == len(step["losses"]) == 8
    assert step["losses"][-1] < 0.6 * step["losses"][0]
    means = [sum(each.values()) / 2 for each in step["scores"]]
    assert step["best"] == means.index(max(means))
    assert max(means) == 1.0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert list(model.config.id2label.values()) == step["labels"]
    assert model.config.label2id["travel"] == 1
    assert not (tmp_path / "run" / "steps" / "01-finetune" / "training").exists()
    assert {path.name for path in (tmp_path / "run" / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    made, corpus = open_any(str(tmp_path / "run")), open_labelled("topic", topics)
    dev = {tag: corpus.documents(tag, "valid") for tag in corpus.languages("train")}
    again = measure(made.model, made.tokenizer, dev, window=64)
    assert {tag: each.value for tag, each in again.items()} == step["scores"][step["best"]]


def test_names_are_learnt_and_what_stands_in_for_dev_texts_is_said(encoder, names, tmp_path):
    asked = {"task": "ner", "corpus": names, "epochs": 4, "patience": 0, **LEARNING}
    with pytest.warns(BabelpressWarning, match="a tenth of the train texts stands in: hau_Latn"):
        out = COMMANDS["finetune"](encoder, out=tmp_path / "run", **asked)

    (step,) = read_json(tmp_path / "run" / "manifest.json")["steps"]
    assert step["labels"][:3] == ["O", "B-PER", "I-PER"]
    assert step["held_out"] == ["hau_Latn"]
    assert step["texts"]["hau_Latn"] == {"train": 11, "dev": 1}
    assert step["losses"][-1] < 0.5 * step["losses"][0]
    assert [row["dev"] for row in out.rows] == list(step["scores"][step["best"]].values())
    assert out.rows[0]["share"] == 0.5
    assert out.says[0].startswith("ner: 9 labels, ")
    assert out.says[-1].endswith(f"run --on ner --corpus {names}")
    assert AutoModelForTokenClassification.from_pretrained(tmp_path / "run" / "model")


def test_labels_that_are_numbers_without_names_are_said_to_be_those_of_the_published_data(
    encoder, tmp_path
):
    sizes = {"swa": {"train": 9, "dev": 3}, "ha": {"train": 6, "dev": 3}}
    place = labelling.write_numbers(tmp_path / "feelings", sizes)
    asked = {"task": "sentiment", "corpus": place, "epochs": 1, **LEARNING}

    with pytest.warns(BabelpressWarning, match="0 positive, 1 neutral, 2 negative. Where they"):
        COMMANDS["finetune"](encoder, out=tmp_path / "run", **asked)

    (step,) = read_json(tmp_path / "run" / "manifest.json")["steps"]
    assert step["labels"] == ["positive", "neutral", "negative"]
    assert " and 3 files more have numbers for labels and no names of them" in step["said"][0]


def test_the_weights_are_those_of_the_best_epoch(encoder, topics, tmp_path, monkeypatch):
    seen = []

    def score(model, _tokenizer, documents, **_):
        seen.append(model.classifier.weight.detach().clone())
        value = np.array([1.0 if len(seen) == 1 else 0.0])
        return {tag: Tally(("x",), value, np.ones(1)) for tag in documents}

    monkeypatch.setattr(_finetuning.classify, "measure", score)
    (step,) = do(plan(encoder, topics), tmp_path / "run")["steps"]

    assert step["best"] == 0
    assert torch.equal(weights(tmp_path / "run")["classifier.weight"], seen[0])
    assert not torch.equal(seen[0], seen[1])


def test_languages_are_drawn_by_the_texts_that_there_are(encoder, topics, tmp_path):
    found = do(plan(encoder, topics, mixture="proportional", epochs=1), tmp_path / "run")

    (step,) = found["steps"]
    assert step["mixture"]["shares"] == pytest.approx({"hau_Latn": 1 / 3, "swh_Latn": 2 / 3})
    assert step["mixture"]["unit"] == "labelled texts"


@pytest.fixture(scope="module")
def whole(encoder, topics, tmp_path_factory):
    """What a run gives that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    do(plan(encoder, topics), folder)
    return content(folder)


@pytest.mark.parametrize("stop", [9, 12])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    encoder, topics, whole, tmp_path, monkeypatch, stop
):
    """With dropout, within an epoch and after the last; however often checkpoints are made."""
    monkeypatch.setattr(_finetuning, "OFTEN", 4)
    with pytest.raises(KeyboardInterrupt):
        run.do(plan(encoder, topics), tmp_path / "run", progress=stop_at(stop))
    said = []
    again = plan(encoder, topics)
    run.do(again, tmp_path / "run", progress=lambda what, done, _: said.append((what, done)))

    assert content(tmp_path / "run") == whole
    assert any("resuming: training goes on" in what for what, _ in said)


@pytest.mark.parametrize("number", [8, 30])
def test_a_killed_training_goes_on_to_the_same_bytes(encoder, topics, whole, tmp_path, number):
    out = tmp_path / "run"
    asked = plan(encoder, topics)

    assert killed_before(number, lambda: run.do(asked, out))
    run.do(asked, out)

    assert content(out) == whole


def test_another_seed_is_another_training(encoder, topics, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run.do(plan(encoder, topics), tmp_path / "run", progress=stop_at(8))
    run.do(plan(encoder, topics, seed=1), tmp_path / "run")

    assert content(tmp_path / "run")["model/model.safetensors"] != whole["model/model.safetensors"]


def zeros(folder):
    return {
        name: each == 0
        for name, each in weights(folder).items()
        if each.ndim == 2 and "layer." in name
    }


def test_zeros_of_a_pruned_model_stay_zeros_and_all_else_learns(encoder, topics, tmp_path):
    prune = {"prune": {"method": "magnitude", "pattern": "0.5"}}
    do(recipe.of({"model": encoder, "calibration": TEXT, "steps": [prune]}), tmp_path / "pruned")

    found = do(plan(tmp_path / "pruned", topics), tmp_path / "run")

    before, after = zeros(tmp_path / "pruned"), zeros(tmp_path / "run")
    assert len(before) == 12
    for name, each in before.items():
        assert torch.equal(each, after[f"bert.{name}"])
        assert int(each.sum()) == each.numel() // 2
    assert found["steps"][0]["zeros"] == sum(int(each.sum()) for each in before.values())
    moved = weights(tmp_path / "run")["bert.encoder.layer.0.output.dense.weight"]
    assert not torch.equal(
        moved, weights(tmp_path / "pruned")["encoder.layer.0.output.dense.weight"]
    )
    chain = manifest.read(tmp_path / "run").chain
    assert [each.kind for each in chain] == ["prune", "finetune"]


@pytest.mark.parametrize("keep", ["auto", "yes"])
def test_zeros_that_nobody_pruned_learn_unless_they_are_said_to_be_pruned(topics, tmp_path, keep):
    """Public models have some; a tool of others may have pruned one."""
    model = labelling.loud(pico.model("bert").base_model, 0.12)
    with torch.no_grad():
        for each in model.parameters():
            if each.ndim == 2:
                each[:, ::4] = 0
    folder = labelling.folder(tmp_path / "zeros", model)

    (step,) = do(plan(folder, topics, epochs=1, keep_zeros=keep), tmp_path / "run")["steps"]

    after = weights(tmp_path / "run")
    for name in zeros(tmp_path / "run"):
        stays = (after[name][:, ::4] == 0).all()
        assert bool(stays) == (keep == "yes"), name
    assert (after["bert.embeddings.word_embeddings.weight"][:, ::4] != 0).any()
    assert (step["zeros"] > 0) == (keep == "yes")


def test_what_was_pruned_while_it_learnt_stays_so_when_it_goes_on(encoder, topics, tmp_path):
    do(plan(encoder, topics, gradual="0.6", embeddings=True), tmp_path / "once")

    (step,) = do(plan(tmp_path / "once", topics, epochs=1), tmp_path / "run")["steps"]

    before, after = weights(tmp_path / "once"), weights(tmp_path / "run")
    assert step["zeros"] > 0
    for name in (*zeros(tmp_path / "run"), "bert.embeddings.word_embeddings.weight"):
        assert torch.equal(before[name] == 0, after[name] == 0)
        assert int((after[name] == 0).sum()) == int(after[name].numel() * 0.6)


@pytest.mark.parametrize("embeddings", [False, True])
def test_it_is_pruned_while_it_learns(encoder, topics, tmp_path, embeddings):
    asked = plan(encoder, topics, gradual="0.2..0.7", embeddings=embeddings)
    (step,) = do(asked, tmp_path / "run")["steps"]

    found = zeros(tmp_path / "run")
    for each in found.values():
        assert int(each.sum()) == int(each.numel() * 0.7)
    table = weights(tmp_path / "run")["bert.embeddings.word_embeddings.weight"]
    assert int((table == 0).sum()) == (int(table.numel() * 0.7) if embeddings else 0)
    assert step["best"] == 1  # the first was not sparse enough to count
    assert step["zeros"] == sum(int(e.sum()) for e in found.values()) + int((table == 0).sum())
    assert tell(Report.model_validate(step)).done == (
        f"fine-tune topic, gradual magnitude 0.2..0.7{', embeddings too' * embeddings}"
    )


def test_a_few_numbers_learn_with_pst_and_a_stopped_one_goes_on(
    encoder, topics, tmp_path, monkeypatch
):
    monkeypatch.setattr(_finetuning, "OFTEN", 4)
    asked = plan(encoder, topics, adapt="pst", gradual="0.5", rank=2, rate=None)
    (step,) = do(asked, tmp_path / "whole")["steps"]
    with pytest.raises(KeyboardInterrupt):
        run.do(asked, tmp_path / "run", progress=stop_at(9))
    run.do(asked, tmp_path / "run")

    assert content(tmp_path / "run") == content(tmp_path / "whole")
    before, after = load_file(f"{encoder}/model.safetensors"), weights(tmp_path / "run")
    assert not [name for name in after if "parametrizations" in name]
    for name, each in before.items():
        if each.ndim == 2 and ".layer." in name:
            assert int((after[f"bert.{name}"] == 0).sum()) == each.numel() // 2
        elif not name.startswith("pooler"):
            assert torch.equal(after[f"bert.{name}"], each)
    assert step["trained"] < sum(each.numel() for each in after.values()) / 3


def test_a_chain_prunes_and_quantizes_what_was_fine_tuned(encoder, topics, tmp_path):
    after = ({"prune": {"method": "wanda", "pattern": "0.25"}}, {"quantize": {"group": 16}})
    found = do(plan(encoder, topics, *after, epochs=1), tmp_path / "run")

    assert [each["kind"] for each in found["steps"]] == ["finetune", "prune", "quantize"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert model.config.id2label[1] == "travel"
    line = refusal(BadModel, do, plan(tmp_path / "run", topics), tmp_path / "other")
    assert "no step can follow its quantize, for codes cannot be pressed again" in line


def test_a_head_with_the_same_labels_goes_on_learning(encoder, topics, tmp_path):
    do(plan(encoder, topics, epochs=1, rate=0.003), tmp_path / "once")

    (step,) = do(plan(tmp_path / "once", topics, epochs=1, rate=1e-9), tmp_path / "run")["steps"]

    assert step["had_head"]
    (first,) = read_json(tmp_path / "once" / "manifest.json")["steps"]
    assert step["scores"] == first["scores"]


def test_a_plan_says_what_it_will_take_and_makes_nothing(encoder, topics, tmp_path):
    asked = plan(encoder, topics).model_dump(mode="json")
    del asked["model"]

    told = press(encoder, asked, out=tmp_path / "run", dry_run=True)

    assert told.says[0] == f"step 1: fine-tune for topic on {topics}, 2 epochs at most, uniform"
    assert told.says[1].startswith("step 1: about ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"task": "pos"}, "there is no task 'pos'. Choose one of ner, topic, sentiment."),
        ({"corpus": ""}, "no labelled texts are named. Name a folder of topic with --corpus"),
        ({"mixture": "lacking"}, "the mixture lacking is not of fine-tuning. Use uniform"),
        ({"mixture": "minimax"}, "the mixture minimax is not of fine-tuning"),
        ({"epochs": 0}, "epochs"),
        ({"gradual": "0.9..0.5"}, "gradual is 0.9..0.5. It is two shares of zeros"),
        ({"gradual": "half"}, "gradual is half. It is two shares"),
        ({"adapt": "pst"}, "say how sparse with --gradual"),
        ({"adapt": "lora"}, "adapt"),
        ({"rank": 4}, "--rank 4 is of --adapt pst; with full all weights learn"),
        ({"embeddings": True}, "--embeddings are pruned by --gradual"),
        ({"rate": float("nan")}, "rate"),
    ],
)
def test_settings_that_cannot_be_are_one_line(step, words):
    asked = {"task": "topic", "corpus": "x", **step}
    data = {"model": "m", "steps": [{"finetune": asked}]}

    assert words in refusal(BadSetting, recipe.of, data)


def test_what_does_not_fit_is_one_line_before_anything_is_trained(
    encoder, topics, names, model, tmp_path
):
    out = tmp_path / "run"
    odd = labelling.write_topics(tmp_path / "odd", {"swa": {"train": 9, "dev": 3}})
    (tmp_path / "odd" / "swa" / "dev.tsv").write_text(
        "index_id\tcategory\ttext\n1\tcooking\tchakula\n"
    )
    bare = labelling.write_sentences(tmp_path / "bare", {"swa": {"train": 9}})
    (tmp_path / "bare" / "swa" / "dev.txt").write_text("leo O\n")
    long = tmp_path / "long" / "swa"
    long.mkdir(parents=True)
    (long / "train.txt").write_text("a O\nb O extra\n")
    (tmp_path / "yo").mkdir()
    cases = [
        (plan(model, topics), BadModel, "is no encoder (llama)"),
        (plan(encoder, topics, languages=["sw", "fr"]), BadCorpus, "fra_Latn"),
        (plan(encoder, names), BadCorpus, "has the columns text, and topic needs category"),
        (plan(encoder, topics, task="ner"), BadCorpus, "and ner needs tokens and ner_tags"),
        (plan(encoder, odd), BadCorpus, "has the label 'cooking', and no training text has it"),
        (plan(encoder, bare, task="ner"), BadCorpus, "in swh_Latn have no entity"),
        (
            plan(encoder, tmp_path / "long", task="ner"),
            BadCorpus,
            "train.txt, line 2 has 3 columns",
        ),
        (plan(encoder, tmp_path / "none"), BadCorpus, "no labelled text is a folder"),
    ]
    for asked, kind, words in cases:
        assert words in refusal(kind, do, asked, out)
        assert not out.exists()


def test_a_language_without_training_texts_is_named_or_left_out(encoder, tmp_path):
    sizes = {"swa": {"train": 9, "dev": 3}, "yo": {"test": 3}}
    place = labelling.write_topics(tmp_path / "topics", sizes)

    asked = plan(encoder, place, languages=["sw", "yo"])
    line = refusal(BadCorpus, do, asked, tmp_path / "run")
    (step,) = do(plan(encoder, place, epochs=1), tmp_path / "other")["steps"]

    assert "has no train rows of topic in yor_Latn. It has swh_Latn. Leave the others out" in line
    assert step["left_out"] == ["yor_Latn"]


def test_its_command_asks_for_labelled_texts_and_for_no_calibration():
    options = inspect.signature(COMMANDS["finetune"]).parameters

    assert {"task", "corpus", "languages", "epochs", "length", "seed", "patience"} <= set(options)
    assert not {"tokens", "evaluation", "count_special"} & set(options)
    assert Settings(corpus="x").batch == 16
    assert json.loads(Settings(corpus="x").model_dump_json())["languages"] == []


def test_its_card_tells_what_was_learnt_and_that_zeros_make_nothing_faster(
    encoder, topics, tmp_path
):
    prune = {"prune": {"method": "magnitude", "pattern": "0.5"}}
    do(plan(encoder, topics, prune, epochs=1), tmp_path / "run")

    text = card.card(tmp_path / "run")

    assert "base_model_relation: finetune" in text
    assert "Labels: science/technology, travel, politics" in text
    assert "accuracy of labels on dev texts: " in text
    assert "Speed: the zeros lie in an ordinary dense file" in text
    assert "Nothing was added to it" not in text
