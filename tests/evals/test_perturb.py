"""Scores on changed texts against the same evaluation done by hand on texts changed by hand."""

from dataclasses import dataclass
from random import Random
from typing import Any

import labelling
import numpy as np
import pico
import pytest
from running import refusal
from small import documents, opened

from babelpress import evals
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import perturb
from babelpress.evals.bits_per_byte import measure as bits
from babelpress.evals.perturb import SHOWN, Both, Perturbed, measure, ratio
from babelpress.judge import scorable
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.numerics.tally import Tally
from babelpress.text.perturb import perturbed

TEXTS = {
    "eng_Latn": ["hello, world", "the rain in Spain stays in the plain", "aa bb cc dd ee"],
    "yor_Latn": ["\u1ecdj\u1ecd\u0301 kan \u1ecdm\u1ecdd\u00e9 n\u00e0\u00e1"],
    "tha_Thai": ["\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"],
}


class Source:
    """Texts of our own, by language, with the training ones apart."""

    name = "mine"

    def __init__(self, given, train=None):
        self._given, self._train = given, train or {}

    def languages(self):
        return sorted(self._given)

    def documents(self, tag, split):
        return (self._train if split == "train" else self._given)[tag]

    def require(self, tags):
        if lost := [tag for tag in tags if tag not in self._given]:
            raise BadCorpus(f"no {lost}")


def given(kind="typos", tags=TEXTS, rate=0.3, seed=4):
    source = Perturbed(Source(documents(TEXTS)), kind, rate, seed)
    return {tag: source.documents(tag, "test") for tag in tags}


@pytest.mark.parametrize("kind", ["typos", "upper"])
def test_the_score_is_that_of_changed_texts_over_that_of_clean_ones(kind):
    small, told = opened(), {}
    changed = {
        "eng_Latn": [
            perturbed(kind, text, "eng_Latn", name=f"src/{i}", rate=0.3, seed=4)
            for i, text in enumerate(TEXTS["eng_Latn"])
        ]
    }

    found = measure(
        small.model,
        small.tokenizer,
        given(kind, ["eng_Latn"]),
        window=64,
        detail=lambda tag, parts: told.update({tag: parts}),
    )

    clean, other = (
        bits(small.model, small.tokenizer, documents(each), window=64)["eng_Latn"]
        for each in ({"eng_Latn": TEXTS["eng_Latn"]}, changed)
    )
    tally, parts = found["eng_Latn"], told["eng_Latn"]
    assert clean.value != other.value
    assert tally.value == pytest.approx(other.value / clean.value)
    assert tally.documents == clean.documents
    assert tuple(parts) == SHOWN
    assert (parts["clean"], parts["changed"]) == pytest.approx((clean.value, other.value))
    assert parts["low"] <= parts["times worse"] == tally.value <= parts["high"]
    words = [
        (a, b)
        for one, two in zip(TEXTS["eng_Latn"], changed["eng_Latn"], strict=True)
        for a, b in zip(one.split(), two.split(), strict=True)
    ]
    assert parts["words changed"] == pytest.approx(sum(a != b for a, b in words) / len(words))


def test_a_change_of_two_models_does_not_hang_on_how_many_bytes_changed():
    """The constant that makes the ratio exact is the same for both models."""
    first, second = (
        measure(opened(one).model, opened(one).tokenizer, given(tags=["eng_Latn"]), window=64)
        for one in ("llama", "qwen3")
    )

    def slow(family, which):
        texts = {
            "eng_Latn": [getattr(each, which) for each in given(tags=["eng_Latn"])["eng_Latn"]]
        }
        small = opened(family)
        return bits(small.model, small.tokenizer, texts, window=64)["eng_Latn"].numerator_D.sum()

    expected = (slow("qwen3", "changed") / slow("qwen3", "clean")) / (
        slow("llama", "changed") / slow("llama", "clean")
    )
    assert second["eng_Latn"].value / first["eng_Latn"].value == pytest.approx(expected)


def test_where_higher_is_better_clean_stands_above():
    clean = Tally(("a", "b"), np.array([3.0, 4.0]), np.array([5.0, 5.0]))
    changed = Tally(("a", "b"), np.array([2.0, 1.0]), np.array([4.0, 2.0]))

    up, down = (ratio(clean, changed, lower=lower) for lower in (False, True))

    assert up.value == pytest.approx(0.7 / 0.5)
    assert down.value == pytest.approx(0.5 / 0.7)
    assert up.numerator_D == pytest.approx([3.0 * 6 / 10, 4.0 * 6 / 10])
    assert list(up.denominator_D) == [2.0, 1.0]


def test_an_encoder_is_scored_on_hidden_tokens():
    model, tokenizer = pico.model("bert"), pico.tokenizer()
    tokenizer.mask_token = "<pad>"
    told = {}

    measure(
        model,
        tokenizer,
        given(tags=["eng_Latn"]),
        window=32,
        detail=lambda _tag, parts: told.update(parts),
    )

    expected = evals.EVALUATIONS.get("masked")(
        model, tokenizer, documents({"eng_Latn": TEXTS["eng_Latn"]}), window=32
    )
    assert told["clean"] == expected["eng_Latn"].value


# ---- texts ---------------------------------------------------------------------------------


def test_languages_in_which_nothing_changes_are_left_out_and_named():
    source = Perturbed(Source(documents(TEXTS)), "diacritics", 0.1, 0)

    assert source.languages() == ["eng_Latn", "yor_Latn"]
    assert source.says() == ("diacritics change nothing in the script of tha_Thai: left out.",)
    with pytest.raises(BadCorpus, match=r"in the script of tha_Thai\. Leave it out"):
        source.require(["eng_Latn", "tha_Thai"])
    with pytest.raises(BadCorpus, match="xho_Latn"):
        source.require(["xho_Latn"])


def test_what_is_scored_hangs_on_the_changed_text_too():
    (one,), (two,) = (given("typos", ["tha_Thai"], seed=s)["tha_Thai"] for s in (4, 5))

    assert one.id == two.id == "src/0"
    assert one.clean.text == two.clean.text
    assert one.text != two.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "noise"}, r"no perturbation 'noise'\. Choose one of typos, .*, entities"),
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": 1.5}, "rate is 1.5"),
        ({"of": "ece"}, r"of is 'ece'\. What can be scored on changed text: masked, bits_per_byte"),
        ({"kind": "entities"}, "names are told by labels alone: add --option of=ner"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(BadSetting, match=message):
        evals.check("perturb", options)


def test_a_score_of_zero_has_no_ratio(monkeypatch):
    def nothing(_model, _tokenizer, some, *, window):
        names = tuple(each.id for each in some["eng_Latn"])
        return {"eng_Latn": Tally(names, np.zeros(len(names)), np.ones(len(names)))}

    monkeypatch.setattr(perturb.evals, "accepts", lambda _name, key: key == "window")
    monkeypatch.setattr(type(evals.EVALUATIONS), "get", lambda _self, _name: nothing)
    small = opened()

    with pytest.raises(BadCorpus, match="eng_Latn has a top1 score of zero"):
        measure(small.model, small.tokenizer, given(tags=["eng_Latn"]), window=64, of="top1")


def test_a_model_without_the_head_of_what_scores_is_refused_before_it_reads(tmp_path, monkeypatch):
    place = labelling.write_sentences(tmp_path / "words", {"swa": {"test": 3, "train": 3}})
    made = labelling.opened(labelling.bare())
    monkeypatch.setattr(made.model, "forward", None)  # nobody may call it
    bare = labelling.folder(tmp_path / "bare", labelling.bare())

    for on in (("perturb",), ("masked", "perturb")):
        asked = EvaluationSettings(on=on, corpus=place, options={"of": "ner"})
        for refuse in (
            lambda asked=asked: evaluate(made, tmp_path / "out", asked),
            lambda asked=asked: scorable.check(asked, bare),
        ):
            line = refusal(BadModel, refuse)
            assert "has no head that labels words (…ForTokenClassification)" in line
    assert evals.through(["perturb"], {}) == ["perturb"]
    assert not (tmp_path / "out").exists()


def test_a_decoders_score_on_changed_text_is_not_for_encoders(tmp_path):
    asked = EvaluationSettings(on=("perturb",), options={"of": "bits_per_byte"})

    line = refusal(BadModel, evaluate, labelling.opened(labelling.bare()), tmp_path / "out", asked)

    assert "bert sees the tokens that it should predict" in line


# ---- names and words -----------------------------------------------------------------------


@dataclass(frozen=True)
class Sentence:
    """A labelled sentence, as a task has them."""

    id: str
    words: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def text(self):
        return " ".join(self.words)


def sentence(name, marked):
    """`Ada/B-PER sings/O` as a sentence."""
    pairs = [each.rsplit("/", 1) for each in marked.split()]
    return Sentence(name, tuple(w for w, _ in pairs), tuple(label for _, label in pairs))


def spans(labels):
    """Entities, by a loop over labels of which every one begins with B-."""
    found = []
    for place, label in enumerate(labels):
        if label[0] == "B":
            end = place + 1
            while end < len(labels) and labels[end] == f"I-{label[2:]}":
                end += 1
            found.append((label[2:], place, end))
    return found


NER = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
TRAIN = [
    sentence("t/0", "Musa/B-PER Bello/I-PER yana/O Kano/B-LOC"),
    sentence("t/1", "Amina/B-PER Lagos/B-LOC"),
]
TEST = [
    sentence("s/0", "Jan/O Ada/B-PER Obi/I-PER a/O Abuja/B-LOC da/O NNPC/B-ORG"),
    sentence("s/1", "ba/O kowa/O"),
]


@pytest.fixture
def swapped():
    source = Perturbed(Source({"hau_Latn": TEST}, {"hau_Latn": TRAIN}), "entities", 0.1, 0)
    return source.documents("hau_Latn", "test")


def test_names_are_taken_for_others_of_their_type_from_the_training_texts(swapped):
    first, second = swapped
    changed: Any = first.changed

    assert changed.words[0] == "Jan"
    names = {kind: changed.words[start:end] for kind, start, end in spans(changed.labels)}
    assert names["PER"] in {("Musa", "Bello"), ("Amina",)}
    assert names["LOC"] in {("Kano",), ("Lagos",)}
    assert names["ORG"] == ("NNPC",)  # of a type without a name to take
    assert [w for w, label in zip(changed.words, changed.labels, strict=True) if label == "O"] == [
        "Jan",
        "a",
        "da",
    ]
    assert first.words == (3, 7)
    assert second.changed == second.clean
    assert second.words == (0, 2)


def test_no_name_is_taken_for_itself_where_there_is_another():
    drawn = {perturb._other([("a",), ("b",)], ("a",), Random(seed)) for seed in range(50)}

    assert drawn == {("b",)}
    assert perturb._other([("a",)], ("a",), Random(0)) == ("a",)
    assert perturb._other([], ("a",), Random(0)) == ("a",)


def test_training_texts_without_a_name_are_refused():
    train = {"hau_Latn": [sentence("t/0", "ba/O kowa/O")]}

    with pytest.raises(BadCorpus, match="hau_Latn has no name in its training texts"):
        Perturbed(Source({"hau_Latn": TEST}, train), "entities", 0.1, 0).documents(
            "hau_Latn", "test"
        )


def test_words_keep_their_labels_and_slips_are_drawn_from_the_whole_sentence():
    source = Perturbed(Source({"hau_Latn": TEST}), "typos", 0.9, 1)

    first, _ = source.documents("hau_Latn", "test")

    assert isinstance(first, Both)
    changed: Any = first.changed
    assert changed.labels == TEST[0].labels
    assert len(changed.words) == len(TEST[0].words)
    assert all(changed.words)
    after = perturbed("typos", "\n".join(TEST[0].words), "hau_Latn", name="s/0", rate=0.9, seed=1)
    assert changed.words == tuple(after.split("\n"))


def test_a_text_with_one_label_may_have_lines():
    one = Sentence("x", ("two\nlines here",), ("sports",))

    (found,) = Perturbed(Source({"eng_Latn": [one]}), "upper", 0.1, 0).documents("eng_Latn", "test")

    changed: Any = found.changed
    assert changed.words == ("TWO\nLINES HERE",)


def test_f1_of_names_is_that_of_the_evaluation_of_names_on_both(swapped):
    model = labelling.head(labelling.OF_WORDS, "xlm_roberta", NER)
    told: dict[str, float] = {}
    some = swapped

    measure(
        model,
        pico.tokenizer(),
        {"hau_Latn": some},
        window=32,
        of="ner",
        detail=lambda _tag, parts: told.update(parts),
    )

    for which, value in (("clean", told["clean"]), ("changed", told["changed"])):
        alone = [each.clean if which == "clean" else each.changed for each in some]
        found = evals.EVALUATIONS.get("ner")(
            model, pico.tokenizer(), {"hau_Latn": alone}, window=32
        )
        assert value == found["hau_Latn"].value > 0
    assert told["words changed"] == pytest.approx(3 / 9)
