"""Which language a text is in, and the languages that a model goes on in."""

import json
from typing import Any

import pico
import pytest

from babelpress import evals
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import _spoken, confusion
from babelpress.evals._spoken import instead
from babelpress.evals.confusion import measure
from babelpress.judge import scores
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.open import open_model
from babelpress.text.corpus import Document
from babelpress.text.languages import find

TOLD = {
    "swh_Latn": "Watoto wanacheza nje kwa sababu mvua imekwisha kunyesha leo asubuhi.",
    "hau_Latn": "Yara suna wasa a waje domin ruwan sama ya daina sauka yau da safe.",
    "eng_Latn": "The children are playing outside because the rain has stopped this morning.",
    "fra_Latn": "Les enfants jouent dehors parce que la pluie s'est arrêtée ce matin.",
    "rus_Cyrl": "Дети играют на улице, потому что утром закончился дождь.",
    "tha_Thai": "เด็ก ๆ เล่นอยู่ข้างนอกเพราะฝนหยุดตกเมื่อเช้านี้",
    "jpn_Jpan": "今朝は雨がやんだので、子どもたちは外で遊んでいます。",
}


@pytest.fixture
def script_alone(monkeypatch):
    """As where the package that identifies languages is not installed."""
    monkeypatch.setattr(_spoken, "by", lambda: "script alone")
    _spoken._identifier.cache_clear()
    yield
    _spoken._identifier.cache_clear()


@pytest.fixture(scope="module")
def identifier():
    pytest.importorskip("py3langid", reason="py3langid is not installed (the extra audit)")


# ---- which language a text is in -----------------------------------------------------------


@pytest.mark.parametrize("tag", list(TOLD))
def test_a_sentence_is_in_its_own_language_and_in_no_other(identifier, tag):
    for other, text in TOLD.items():
        wrong = instead(tag, text)
        if other == tag:
            assert wrong == ""
        elif find(other).script == find(tag).script:
            assert wrong == other[:3]
        else:
            assert wrong not in ("", "nothing")


def test_without_a_letter_a_text_is_in_no_language():
    assert [instead("swh_Latn", text) for text in ("", "  \n", "12, 13!", "…")] == ["nothing"] * 4


def test_the_script_is_that_of_most_characters(script_alone):
    assert instead("rus_Cyrl", "Дети play") == ""
    assert instead("rus_Cyrl", "Он playing") == "Latn"
    assert instead("jpn_Jpan", "雨がやんだ") == ""
    assert instead("zho_Hans", "雨がやんだあ") == "Hira"


def test_by_the_script_alone_languages_of_one_script_are_one(script_alone):
    assert instead("swh_Latn", TOLD["eng_Latn"]) == ""
    assert instead("swh_Latn", TOLD["tha_Thai"]) == "Thai"


def test_languages_written_alike_are_taken_for_one(identifier):
    text = "Anak-anak bermain di luar karena hujan sudah berhenti pagi ini."

    assert instead("ind_Latn", text) == instead("zsm_Latn", text) == ""
    assert instead("swh_Latn", text) in ("ind", "zsm")
    members = [code for group in _spoken.ALIKE for code in group]
    assert len(members) == len(set(members))


def test_a_language_that_the_identifier_does_not_know_is_told_by_script_and_from_english(
    identifier, monkeypatch
):
    monkeypatch.setattr(_spoken, "_known", lambda: frozenset({"eng", "fra"}))

    assert instead("hau_Latn", TOLD["hau_Latn"]) == ""
    assert instead("hau_Latn", TOLD["fra_Latn"]) == ""  # cannot be told
    assert instead("hau_Latn", TOLD["eng_Latn"]) == "eng"
    assert instead("hau_Latn", TOLD["rus_Cyrl"]) == "Cyrl"


def test_it_says_who_tells_languages(identifier):
    assert _spoken.by().startswith("py3langid ")


def test_it_says_that_the_script_alone_tells_them(monkeypatch):
    def missing(_name):
        raise _spoken.PackageNotFoundError

    monkeypatch.setattr(_spoken, "version", missing)

    assert _spoken.by() == "script alone"
    assert evals.made_with("confusion", {}) == {"languages": "script alone"}


# ---- the evaluation ------------------------------------------------------------------------


def documents(tag, *texts):
    return {tag: [Document(f"d{at}", tag, "", "test", text) for at, text in enumerate(texts)]}


def heard_of(monkeypatch, said, some, **options):
    """What is measured where a model says this."""
    asked: list[Any] = []
    heard: dict[str, Any] = {}

    def write(_model, _tokenizer, prompts, **_):
        asked.extend(prompts)
        return said

    monkeypatch.setattr(confusion, "write", write)
    found = measure(
        pico.model(),
        pico.tokenizer(),
        some,
        window=128,
        detail=lambda tag, parts: heard.update({tag: parts}),
        **options,
    )
    return found, heard, asked


def test_continuations_in_the_language_of_the_prompt_are_counted(monkeypatch, script_alone):
    some = documents("tha_Thai", "น้ำคือชีวิต", "ม", "ฝนตก", "เด็กวิ่ง")

    found, heard, asked = heard_of(monkeypatch, ["ฝนตกหนัก", "it rains", "42"], some)

    assert found["tha_Thai"].numerator_D.tolist() == [1, 0, 0, 0]
    assert found["tha_Thai"].denominator_D.tolist() == [1, 0, 1, 1]
    assert found["tha_Thai"].documents == ("d0", "d1", "d2", "d3")
    assert heard == {"tha_Thai": {"in Latn": 1 / 3, "in nothing": 1 / 3}}
    assert [each.name for each in asked] == [f"document 'd{at}' of tha_Thai" for at in (0, 2, 3)]


def test_a_prompt_is_the_beginning_of_a_document_after_bos(monkeypatch, script_alone):
    text = "one two three four five six seven eight nine ten eleven twelve " * 3
    tokenizer = pico.tokenizer()

    _, _, asked = heard_of(monkeypatch, ["a", "b"], documents("eng_Latn", text, "abcdef"), tokens=9)

    texts = [tokenizer.decode(each.ids[1:]) for each in asked]
    assert texts == [text[:80].rsplit(" ", 1)[0], "abc"]
    assert [(each.ids[0], each.most) for each in asked] == [(tokenizer.bos_token_id, 9)] * 2


@pytest.mark.parametrize(
    ("texts", "options", "error", "said"),
    [
        (["abcd"], {"tokens": 0}, BadSetting, "tokens is 0. It must be a whole number from 1"),
        (["abcd"], {"tokens": 200}, BadSetting, r"window of 128. Give --option tokens=125 or"),
        (["a"], {}, BadCorpus, "eng_Latn has no test document that a model could go on with"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(monkeypatch, texts, options, error, said):
    with pytest.raises(error, match=said):
        heard_of(monkeypatch, ["x"], documents("eng_Latn", *texts), **options)


def test_a_model_of_two_halves_is_refused(monkeypatch):
    model = pico.model()
    monkeypatch.setattr(type(model), "can_generate", lambda _: False)

    with pytest.raises(BadModel, match="llama is no decoder that writes text"):
        measure(model, pico.tokenizer(), documents("eng_Latn", "abcd"), window=64)


def test_the_embedded_model_stays_in_thai_and_wrong_languages_are_kept_beside(tmp_path):
    """Its text is decided by its script, so the score needs no identifier."""
    opened = open_model("babel-mini")
    asked = EvaluationSettings(
        on=("confusion",), languages=("th",), documents=3, options={"tokens": 12}
    )

    (row,) = evaluate(opened, tmp_path, asked)

    assert (row["metric"], row["value"], row["denominator"]) == ("own_language", 1.0, 3.0)
    assert scores.sites(tmp_path, "confusion") == {"tha_Thai": {}}
    kept = scores.identity_of(tmp_path, "confusion", "embedded")
    assert kept["made_with"] == {"languages": _spoken.by()}
    assert json.dumps(kept["options"]) == '{"tokens": 12}'


def test_what_it_declares():
    said = "share of continuations in the prompt's language"

    assert evals.facts("confusion") == ("own_language", said, False, False)
    assert evals.options("confusion") == {"tokens": 48}
