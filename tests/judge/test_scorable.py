"""What cannot be scored is known from options and texts, in the words of those who would score."""

import json

import labelling
import pico
import pytest
import torch

from babelpress.errors import BabelpressError, BadCorpus, BadModel
from babelpress.judge import scorable
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import Opened
from babelpress.text.corpus import Corpus


@pytest.fixture
def corpus(tmp_path):
    """A corpus in two languages, without English and, in Hausa, without a test split."""
    folder = tmp_path / "text"
    folder.mkdir()
    for name, split in (("sw", "test"), ("ha", "train")):
        row = {"id": "1", "doc": "a", "text": f"Habari {name}", "src": "ours", "split": split}
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def asked(corpus, on="bits_per_byte", **more):
    return EvaluationSettings.model_validate({"corpus": str(corpus), "on": on, **more})


def refused(settings):
    with pytest.raises(BabelpressError) as caught:
        scorable.check(settings)
    return str(caught.value)


def test_a_language_all_of_whose_documents_are_skipped_is_refused_before_and_while_scoring(
    corpus, tmp_path
):
    settings = asked(corpus, languages="sw", skip=1)
    opened = Opened("pico", pico.model(), pico.tokenizer(), torch.float32)

    said = refused(settings)

    assert said == (
        "swh_Latn has 1 test document, and --skip 1 leaves out all of them. Skip fewer."
    )
    with pytest.raises(BadCorpus) as caught:
        evaluate(opened, tmp_path / "out", settings)
    assert str(caught.value) == said


def test_what_can_be_scored_is_passed_over(corpus):
    fine = [asked(corpus, languages="sw"), EvaluationSettings()]

    for each in fine:
        scorable.check(each)
    assert scorable.errors(fine) == ["", ""]


@pytest.mark.parametrize(
    "more",
    [
        {"on": "choice"},
        {"on": "bits_per_byte,choice"},
        {"on": "bits_per_byte", "languages": "sw,fr,yo"},
        {"on": "bits_per_byte,translate", "languages": "sw"},
        {"on": "bits_per_byte,alignment", "languages": "sw"},
        {"on": "translate", "corpus": "embedded", "options": {"metric": "blue"}},
        {"on": "choice,translate", "corpus": "nowhere"},
        {"on": "bits_per_byte", "languages": "sw", "corpus": "{}?src=flores&domain=news"},
        {"on": "bits_per_byte", "languages": "sw", "corpus": "{}?source=ours"},
        {"on": "rankc", "options": {"prompts": "ours"}},
    ],
)
def test_it_is_refused_as_the_evaluation_itself_refuses_it(corpus, tmp_path, more):
    more = {**more, "corpus": more.get("corpus", "{}").format(corpus)}
    settings = EvaluationSettings.model_validate(more)
    opened = Opened("pico", pico.model(), pico.tokenizer(), torch.float32)

    words = refused(settings)

    with pytest.raises(BabelpressError) as caught:
        evaluate(opened, tmp_path / "scores", settings)
    assert words == str(caught.value)


def test_a_language_without_a_test_document_is_named(corpus):
    words = refused(asked(corpus, languages="ha"))

    assert "hau_Latn has no text to score" in words
    with pytest.raises(BadCorpus):
        scorable.check(asked(f"{corpus}?src=flores", languages="sw"))


def test_a_corpus_with_none_but_the_language_that_others_are_held_against_is_refused(tmp_path):
    (tmp_path / "en.jsonl").write_text(json.dumps({"id": "1", "text": "Good day"}) + "\n")

    assert "has no language that alignment scores" in refused(asked(tmp_path, "alignment"))


def test_equal_settings_are_looked_at_once_and_a_corpus_once_for_all_its_evaluations(
    corpus, monkeypatch
):
    read = []
    documents = Corpus.documents

    def counted(self, tag, split):
        read.append(tag)
        return documents(self, tag, split)

    monkeypatch.setattr(Corpus, "documents", counted)
    good, bad = asked(corpus, "bits_per_byte,top1", languages="sw"), asked(corpus, "choice")

    found = scorable.errors([good, bad, good, bad])

    assert found[0] == found[2] == ""
    assert found[1] == found[3] == refused(bad)
    assert read == ["swh_Latn"]


@pytest.mark.parametrize("on", ["bits_per_byte", "masked,top1", "retrieval,translate"])
def test_an_encoder_is_not_scored_on_next_tokens_nor_on_what_stands_beside_them(tmp_path, on):
    settings = EvaluationSettings.model_validate({"on": on, "languages": "sw", "documents": 2})
    pico.model("bert").save_pretrained(tmp_path / "bert")
    made = pico.tokenizer()
    made.mask_token = "<pad>"
    opened = Opened("pico", pico.model("bert"), made, torch.float32)

    (words,) = scorable.errors([settings], [str(tmp_path / "bert")])

    assert words.startswith("bert sees the tokens that it should predict.")
    with pytest.raises(BadModel) as caught:
        evaluate(opened, tmp_path / "scores", settings)
    assert words == str(caught.value)
    assert not (tmp_path / "scores").exists()


def test_labels_are_scored_of_the_head_that_a_step_gives(tmp_path):
    pico.model("bert").save_pretrained(tmp_path / "bert")
    model = str(tmp_path / "bert")
    topics = labelling.write_topics(tmp_path / "topics", {"sw": {"train": 1, "dev": 1, "test": 3}})
    wanted = asked(topics, "classify")

    before, after, other = scorable.errors(
        [wanted] * 3, [model] * 3, ["", "ForSequenceClassification", "ForTokenClassification"]
    )

    assert "has no head that labels whole texts" in before
    assert after == ""
    assert "ForTokenClassification has no head that labels whole texts" in other


def test_what_an_encoder_can_be_scored_on_and_a_decoder_are_passed_over(tmp_path):
    for family in ("bert", "llama"):
        pico.model(family).save_pretrained(tmp_path / family)
    usual = EvaluationSettings(languages=("sw",), documents=1)
    masked = EvaluationSettings(on=("masked", "retrieval"), languages=("sw",), documents=1)
    models = [str(tmp_path / "bert"), str(tmp_path / "llama"), str(tmp_path / "bert"), "babel-mini"]

    found = scorable.errors([masked, usual, usual, usual], models)

    assert [bool(words) for words in found] == [False, False, True, False]


def test_an_encoder_decoder_is_scored_on_its_translations_alone(tmp_path):
    pico.model("t5").save_pretrained(tmp_path / "t5")
    pico.model("llama").save_pretrained(tmp_path / "llama")
    one = EvaluationSettings(on=("translation_loss",), languages=("sw",), documents=1)
    usual = EvaluationSettings(languages=("sw",), documents=1)
    models = [str(tmp_path / name) for name in ("t5", "t5", "llama", "llama")]

    found = scorable.errors([one, usual, one, usual], models)

    assert found[0] == found[3] == ""
    assert found[1] == (
        "t5 is an encoder-decoder, which bits_per_byte cannot score. Give --on translation_loss or "
        "translate or gender."
    )
    assert "llama is no encoder-decoder, and only those are scored by translation_loss" in found[2]
