"""Perturbations of texts of many scripts: what goes, what stays, and that it hangs on the seed."""

import unicodedata
from random import Random

import pytest

from babelpress.errors import BadSetting
from babelpress.text import scripts
from babelpress.text.perturb import (
    KINDS,
    applies,
    graphemes,
    lower,
    perturbed,
    plain,
    typos,
    upper,
    words_changed,
)

TEXTS = {
    "eng_Latn": "The quick brown fox (it is 12 years old) jumps, then sleeps.",
    "yor_Latn": "Ọjọ́ kan, ọmọdé náà lọ sí ọjà láti ra ẹ̀wà àti iṣu.",
    "hin_Deva": "क्या तुम कल बाज़ार जाओगे, या घर पर रहोगे?",
    "tam_Taml": "அவன் நேற்று பள்ளிக்குச் சென்றான்.",
    "tha_Thai": "วันนี้ฝนตกหนัก เราอยู่บ้าน",
    "amh_Ethi": "ልጁ ዛሬ ወደ ገበያ ሄደ።",
    "arb_Arab": "ذهب الولد إلى السوق اليوم.",
    "zho_Hans": "今天下雨,我们在家看书。",
    "kor_Hang": "오늘은 비가 와서 집에 있다.",
    "rus_Cyrl": "Ёж и кошка пошли домой.",
}
every_text = pytest.mark.parametrize("tag", TEXTS)


def changed(kind, tag, *, name="doc", rate=0.25, seed=3):
    return perturbed(kind, TEXTS[tag], tag, name=name, rate=rate, seed=seed)


# ---- what holds for all --------------------------------------------------------------------


@every_text
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_and_document_give_the_same_and_words_stay_apart(tag, kind):
    found = changed(kind, tag)

    assert changed(kind, tag) == found
    assert len(found.split()) == len(TEXTS[tag].split())
    assert all(found.split())


def test_seed_and_document_and_language_each_draw_other_slips():
    drawn = {
        changed("typos", "eng_Latn"),
        changed("typos", "eng_Latn", seed=4),
        changed("typos", "eng_Latn", name="other"),
        perturbed("typos", TEXTS["eng_Latn"], "deu_Latn", name="doc", rate=0.25, seed=3),
    }

    assert len(drawn) == 4


@pytest.mark.parametrize(
    ("kind", "there"),
    [
        ("typos", set(TEXTS)),
        ("diacritics", {"eng_Latn", "yor_Latn", "hin_Deva", "arb_Arab", "rus_Cyrl"}),
        ("lower", {"eng_Latn", "yor_Latn", "rus_Cyrl"}),
        ("upper", {"eng_Latn", "yor_Latn", "rus_Cyrl"}),
    ],
)
def test_a_kind_applies_where_the_script_has_what_it_changes(kind, there):
    assert {tag for tag in TEXTS if applies(kind, tag)} == there


def test_what_is_no_kind_is_refused_with_those_there_are():
    with pytest.raises(BadSetting, match=r"no perturbation 'noise'.*typos, diacritics, lower"):
        applies("noise", "eng_Latn")


def test_changed_words_are_counted():
    assert words_changed("a b  c d", "a B  c e") == (2, 4)


# ---- typos ---------------------------------------------------------------------------------


@every_text
def test_typos_touch_letters_alone_and_take_others_from_the_same_text(tag):
    text = TEXTS[tag]

    found = typos(text, Random(1), 0.5)

    def others(given):
        return [each for each in graphemes(given) if not each[0].isalpha()]

    letters = {each for each in graphemes(text) if each[0].isalpha()}
    assert found != text
    assert others(found) == others(text)
    assert {each for each in graphemes(found) if each[0].isalpha()} <= letters
    assert set(scripts.counts([found])) <= set(scripts.counts([text]))


def slow_slips(before, after):
    """The kind of a single slip between two words, by trying every one at every place."""
    kinds = set()
    for i, letter in enumerate(before):
        rest = before[i + 1 :]
        if after == before[:i] + rest:
            kinds.add("dropped")
        if after == before[: i + 1] + letter + rest:
            kinds.add("doubled")
        if i + 1 < len(before) and after == before[:i] + rest[0] + letter + rest[1:]:
            kinds.add("swapped")
        if len(after) == len(before) and after[:i] + after[i + 1 :] == before[:i] + rest:
            kinds.add("other")
    return kinds


def test_every_kind_of_slip_comes_as_often_as_the_others():
    word, counts = "abcdefgh", dict.fromkeys(("dropped", "doubled", "swapped", "other"), 0)
    single = 0
    for seed in range(4000):
        found = typos(word, Random(seed), 0.04)
        kinds = slow_slips(word, found) if found != word else set()
        if len(kinds) == 1:
            single += 1
            counts[kinds.pop()] += 1

    assert single > 800
    assert all(abs(count / single - 0.25) < 0.05 for count in counts.values())


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_the_rate_is_the_share_of_letters_at_which_a_slip_happens(rate):
    words = ["abcdefghij"] * 400

    found = typos(" ".join(words), Random(7), rate).split()

    # a slip leaves its word as it was only where another one undoes it
    touched = sum(one != other for one, other in zip(words, found, strict=True)) / len(words)
    assert touched == pytest.approx(1 - (1 - rate) ** 10, abs=0.07)
    assert typos("abc def", Random(7), 0.0) == "abc def"


def test_no_word_loses_its_last_letter():
    text = "I a ab ẹ ok"

    for seed in range(300):
        assert all(typos(text, Random(seed), 0.95).split())
        assert len(typos(text, Random(seed), 0.95).split()) == 5


def test_a_letter_keeps_its_marks_and_its_case():
    text = "कि की कु Ab"
    parts = set(graphemes("किकीकु"))

    for seed in range(60):
        found = typos(text, Random(seed), 0.6)
        first, *_, last = found.split()
        assert set(graphemes(first)) <= parts
        assert not unicodedata.category(first[0]).startswith("M")
        assert set(last) <= set("Ab")


# ---- diacritics ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ọjọ́ ìṣẹ́gun", "Ojo isegun"),  # Yoruba: dots below and tones, some of them combining
        ("Đường phố rất đẹp", "Duong pho rat dep"),  # Vietnamese: strokes and horns
        ("Ɗan ƙasa ɓarawo ƴanci", "Dan kasa barawo yanci"),  # Hausa: hooks
        ("İzmir, ığdır, şçğ", "Izmir, ıgdır, scg"),  # ı has no mark to lose
        ("Zażółć łódź", "Zazolc lodz"),
        ("Straße, cœur, þing, ŋ", "Straße, cœur, þing, ŋ"),  # letters of their own
        ("Καλημέρα ΐ ᾧ", "Καλημερα ι ω"),
        ("Ёлка, перево\u0301д, мой, їжак, ґанок", "Елка, перевод, мой, їжак, ґанок"),
        ("مُحَمَّدٌ أَحْمَد", "محمد أحمد"),
        ("שָׁלוֹם", "שלום"),
        ("ज़मीन फ़िल्म बड़ा हिन्दी", "जमीन फिल्म बड़ा हिन्दी"),
        ("தமிழ் மொழி", "தமிழ் மொழி"),
        ("น้ำ ที่นี่", "น้ำ ที่นี่"),
        ("ភាសាខ្មែរ", "ភាសាខ្មែរ"),
        ("가나다", "가나다"),
        ("日本語のガ", "日本語のガ"),
    ],
)
def test_what_writers_drop_goes_and_what_words_are_made_of_stays(text, expected):
    assert plain(text) == expected
    assert plain(unicodedata.normalize("NFD", text)) in (
        expected,
        unicodedata.normalize("NFD", expected),
    )


def test_plain_text_without_marks_is_the_same():
    for tag in ("eng_Latn", "tam_Taml", "tha_Thai", "zho_Hans", "kor_Hang", "amh_Ethi"):
        assert plain(TEXTS[tag]) == TEXTS[tag]


# ---- case ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "text", "small", "capital"),
    [
        ("eng_Latn", "In It", "in it", "IN IT"),
        ("tur_Latn", "Iğdır İzmir iyi", "ığdır izmir iyi", "IĞDIR İZMİR İYİ"),
        ("azj_Latn", "Isı İl", "ısı il", "ISI İL"),
        ("ell_Grek", "ΟΔΟΣ", "οδος", "ΟΔΟΣ"),
        ("deu_Latn", "Straße", "straße", "STRASSE"),
    ],
)
def test_case_is_that_of_the_language(tag, text, small, capital):
    assert lower(text, tag) == small
    assert upper(text, tag) == capital
