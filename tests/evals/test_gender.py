"""Gendered translations: choices against one pass a sentence, and the table that they are from."""

import csv
import io
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pico
import pytest
import torch
import translating

from babelpress import commands, evals
from babelpress.errors import BabelpressWarning, BadCorpus, BadModel, BadSetting
from babelpress.evals import gender
from babelpress.evals.gender import COLUMNS, FEMININE, GENDERS, MASCULINE, measure, texts
from babelpress.evals.translate import prompt_of
from babelpress.models.open import open_model
from babelpress.numerics.tally import Tally
from babelpress.system.files import DATA
from babelpress.text import languages, scripts

SWAHILI = "swh_Latn"
TABLE = [
    ("cook", "feminine", "en", "she cooks", "he cooks"),
    ("cook", "feminine", "sw", "yeye mama", "yeye baba huyo"),
    ("smith", "masculine", "en", "she works", "he works"),
    ("smith", "masculine", "sw", "mama kazi", "baba fundi kazi"),
    ("friend", "example", "en", "she is here", "he is here"),
    ("friend", "example", "sw", "mama hapa", "baba hapa"),
    ("guest", "example", "en", "she is there", "he is there"),
    ("guest", "example", "sw", "mama pale", "baba pale"),
]


def written(path, rows, columns=COLUMNS):
    lines = io.StringIO()
    csv.writer(lines).writerows([columns, *rows])
    path.write_text(lines.getvalue(), encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path):
    return written(tmp_path / "mine.csv", TABLE)


@pytest.fixture(scope="module")
def mini():
    return open_model("babel-mini", dtype="float32")


def sentences(place):
    return {SWAHILI: texts(str(place)).documents(SWAHILI, "test")}


@torch.no_grad()
def slow_pair(model, source, target):
    """The log-likelihood of the text of one target, by a pass with labels."""
    tokenizer = translating.tokenizer()
    tokenizer.src_lang, tokenizer.tgt_lang = "eng_Latn", SWAHILI
    both = tokenizer(source, text_target=target, return_tensors="pt")
    logits_TV = model(both["input_ids"], labels=both["labels"]).logits[0].double()
    return logits_TV.log_softmax(1).gather(1, both["labels"].T)[1:-1, 0].sum().item()


@torch.no_grad()
def slow_text(opened, before, after):
    """The log-likelihood of what follows, one pass over the whole."""
    plain: dict[str, Any] = {"add_special_tokens": False}
    start = len(opened.tokenizer(before, **plain)["input_ids"])
    ids = opened.tokenizer(before + after, **plain)["input_ids"]
    assert opened.tokenizer(before, **plain)["input_ids"] == ids[:start]
    whole = torch.tensor([[opened.tokenizer.bos_token_id, *ids]])
    logits_TV = opened.model(whole).logits[0].double().log_softmax(1)
    return sum(logits_TV[place, ids[place]].item() for place in range(start, len(ids)))


# ---- scores --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_an_encoder_decoder_chooses_as_pass_by_pass(table, seed):
    model = translating.model(seed)

    found = measure(model, translating.tokenizer(), sentences(table), window=100)[SWAHILI]

    expected = [
        float(slow_pair(model, each.source, each.right) > slow_pair(model, each.source, each.wrong))
        for each in sentences(table)[SWAHILI]
    ]
    assert found.numerator_D.tolist() == expected
    assert found.denominator_D.tolist() == [1.0] * 4
    assert found.documents == (
        "cook/feminine",
        "cook/masculine",
        "smith/feminine",
        "smith/masculine",
    )


def test_models_choose_differently():
    """Else the test before could not fail."""
    own = {"spa_Latn": texts("embedded").documents("spa_Latn", "test")}
    rename = {SWAHILI: own["spa_Latn"]}

    hits = [
        measure(translating.model(seed), translating.tokenizer(), rename, window=200)[
            SWAHILI
        ].numerator_D
        for seed in (0, 1)
    ]

    first, second = hits
    assert not np.array_equal(first, second)
    assert all(0 < each.mean() < 1 for each in hits)


class Notes:
    """What a model said, kept for a look."""

    def __init__(self):
        self.likelihoods = []

    def get(self, key: str) -> None:  # noqa: ARG002 - nothing is kept
        return None

    def put(self, key: str, value: Any) -> None:  # noqa: ARG002
        self.likelihoods += value["likelihoods"]


@pytest.mark.parametrize("shots", [0, 1, 2])
def test_a_decoder_is_asked_after_examples_and_chooses_as_text_by_text(mini, shots):
    some = texts("embedded").documents("spa_Latn", "test")[:4]
    notes = Notes()

    found = measure(
        mini.model, mini.tokenizer, {"spa_Latn": some}, window=256, shots=shots, kept=notes
    )

    expected = []
    for each in some:
        before = prompt_of("eng_Latn", "spa_Latn", each.examples[:shots], each.source)
        assert before.count("Spanish:") == shots + 1
        both = (each.right, each.wrong)
        expected.append([slow_text(mini, before, f" {text}") for text in both])
    np.testing.assert_allclose(notes.likelihoods, expected, rtol=1e-4)
    hits = [float(right > wrong) for right, wrong in expected]
    assert found["spa_Latn"].numerator_D.tolist() == hits


def test_who_always_chooses_one_gender_has_half(table):
    """A model that knows nothing finds the shorter translation likelier, whatever the source."""
    model = translating.model()
    for parameter in model.parameters():
        parameter.data.zero_()
    told: dict[str, Any] = {}

    found = measure(
        model, translating.tokenizer(), sentences(table), window=99, detail=told.__setitem__
    )

    assert found[SWAHILI].value == 0.5
    assert told[SWAHILI] == {"feminine": 1.0, "masculine": 0.0, "usual": 0.5, "unusual": 0.5}


def test_equally_likely_is_not_right(tmp_path):
    rows = [("a", "feminine", "en", "she", "he"), ("a", "feminine", "sw", "mama", "baba")]
    model = translating.model()
    for parameter in model.parameters():
        parameter.data.zero_()

    found = measure(
        model, translating.tokenizer(), sentences(written(tmp_path / "t.csv", rows)), window=99
    )

    assert found[SWAHILI].value == 0.0


def test_parts_are_the_shares_of_each_kind(table):
    some = sentences(table)[SWAHILI]

    parts = gender._parts(some, np.array([1.0, 0.0, 0.0, 0.0]))

    assert [each.kinds for each in some] == [
        ("feminine", "usual"),
        ("masculine", "unusual"),
        ("feminine", "unusual"),
        ("masculine", "usual"),
    ]
    assert parts == {"feminine": 0.5, "masculine": 0.0, "usual": 0.5, "unusual": 0.0}
    assert gender._parts(some[:1], np.ones(1)) == {"feminine": 1.0, "usual": 1.0}
    assert gender.baselines(some) == {"chance": 0.5}


def test_both_genders_have_the_same_two_translations(table):
    some = sentences(table)[SWAHILI]

    for woman, man in zip(some[::2], some[1::2], strict=True):
        assert (woman.right, woman.wrong) == (man.wrong, man.right)
        assert woman.source != man.source
    assert [(each.text, each.english) for each in some[0].examples] == [
        ("mama hapa", "she is here"),
        ("baba pale", "he is there"),
    ]
    assert "mama hapa" in some[0].text


@pytest.mark.parametrize("shots", [-1, 3, "two"])
def test_examples_that_are_not_there_are_refused(shots, table):
    with pytest.raises(BadSetting, match=f"shots is {shots}. It must be .* from 0 to 2"):
        evals.check("gender", {"shots": shots})


def test_an_encoder_writes_nothing(tmp_path):
    pico.model("xlm_roberta").save_pretrained(tmp_path / "model")
    pico.tokenizer().save_pretrained(tmp_path / "model")

    with pytest.raises(BadModel, match="sees the tokens that it should predict"):
        commands.evaluate(str(tmp_path / "model"), out=tmp_path / "out", on="gender")


# ---- tables --------------------------------------------------------------------------------


def changed(number, column, value):
    rows = [list(row) for row in TABLE]
    rows[number][COLUMNS.index(column)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (changed(1, "usual", "neutral"), "line 3: usual is neutral. It is feminine, masculine, or"),
        (changed(1, "masculine", "yeye mama"), "line 3: both genders have the same sentence"),
        (changed(1, "masculine", ""), "line 3 has an empty cell"),
        (changed(1, "language", "klingonese"), "line 3: no language is called 'klingonese'"),
        (changed(3, "frame", "cook"), "line 5: cook is there twice in swh_Latn"),
        (changed(3, "frame", "baker"), "has no eng_Latn row of baker"),
        (TABLE[4:], "has no sentence in swh_Latn but examples"),
        ([*TABLE, ("a",)], "line 10 has an empty cell"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(rows, said, tmp_path):
    with pytest.raises(BadCorpus, match=said):
        sentences(written(tmp_path / "t.csv", rows))


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(BadCorpus, match=r"there is no table none\.csv\. Name a CSV file"):
        texts("none.csv")
    with pytest.raises(BadCorpus, match="must have the columns frame, usual, language, feminine"):
        sentences(written(tmp_path / "t.csv", TABLE, COLUMNS[:4]))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCorpus, match="cannot be read"):
        sentences(tmp_path / "b.csv")


def test_a_language_that_is_not_there_is_named(table):
    with pytest.raises(BadCorpus, match=r"has no translations in yor_Latn. It has swh_Latn"):
        texts(str(table)).require(["yor_Latn"])


def test_languages_of_our_own_are_those_of_the_issue():
    found = texts("embedded").languages()

    assert found == [
        languages.find(name).tag for name in ["ar", "de", "fr", "hi", "it", "pt", "ru", "es"]
    ]


@pytest.mark.parametrize("tag", texts("embedded").languages())
def test_our_sentences_are_balanced_and_of_their_script(tag):
    some = texts("embedded").documents(tag, "test")
    script = languages.find(tag).script

    assert Counter(each.gender for each in some) == dict.fromkeys(GENDERS, 14)
    assert Counter(each.usual for each in some) == {FEMININE: 14, MASCULINE: 14}
    assert len(some[0].examples) == 2
    for each in some:
        for text in (each.source, each.right, each.wrong):
            assert unicodedata.is_normalized("NFC", text)
            assert text == " ".join(text.split())
            assert text[-1] in ".।"
        assert scripts.share(script, scripts.counts([each.right])) == 1.0


def test_the_table_has_every_frame_in_every_language():
    with (DATA / "gendered.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    frames = {row["frame"] for row in rows}

    assert len(frames) == 16
    for tag in {row["language"] for row in rows}:
        assert {row["frame"] for row in rows if row["language"] == tag} == frames
    assert all(
        len({row["usual"] for row in rows if row["frame"] == frame}) == 1 for frame in frames
    )


# ---- commands ------------------------------------------------------------------------------


def test_english_is_set_aside_and_parts_are_shown_on_the_command_line(tmp_path, table):
    opened = translating.opened()
    opened.model.save_pretrained(tmp_path / "model")
    opened.tokenizer.save_pretrained(tmp_path / "model")
    model = str(tmp_path / "model")
    asked: dict[str, Any] = {"on": "gender", "corpus": str(table), "languages": "en,sw"}

    with pytest.warns(BabelpressWarning, match="English is what gender compares with"):
        told = commands.evaluate(model, out=tmp_path / "out", **asked)

    (row,) = told.rows
    assert (row["language"], row["documents"], row["chance"]) == (SWAHILI, 4, 0.5)
    assert row["metric"] == "gender_accuracy"
    assert row["parts"].keys() == {"feminine", "masculine", "usual", "unusual"}
    tally = next((tmp_path / "out" / "tallies").glob("gender.*.parquet"))
    assert Tally.load(tally).value == row["value"]
    with pytest.raises(BadSetting, match="no token for spa_Latn"):
        commands.evaluate(model, out=tmp_path / "two", on="gender", languages="es")
