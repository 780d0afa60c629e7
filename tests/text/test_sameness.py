"""Two texts are the same that look the same, and no others."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelpress.text.sameness import UNSEEN, key, keys

BASE = unicodedata.normalize("NFC", "Ọmọ náà ń kà ìwé ní ọjọ́ 7.")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: text.replace(" ", "\u2009", 2),
        lambda text: text.replace(" ", "\u3000"),
        lambda text: text.replace(" ", "  \t "),
        lambda text: text.replace(" ", " \u200b", 1),
        lambda text: text.replace("à", "a\u200d\u0300"),
        lambda text: f"\ufeff{text}",
        lambda text: text[:3] + "\u00ad" + text[3:],
        lambda text: f"\u202b{text}\u202c",
        lambda text: f"\u2067{text}\u2069\r",
        lambda text: f"{text[:5]}\ufe0f{text[5:]}\U000e0101",
        lambda text: f" {text}\u2028",
    ],
)
def test_what_looks_the_same_has_one_key(change):
    assert change(BASE) != BASE
    assert key(change(BASE)) == key(BASE) == BASE


@pytest.mark.parametrize(
    ("one", "other"),
    [("a b", "ab"), ("Maji", "maji"), ("o", "ọ"), ("ﬁ", "fi"), ("Ａ", "A"), ("a.", "a")],
)
def test_what_looks_different_is_different(one, other):
    assert key(one) != key(other)


def test_joiners_of_persian_and_malayalam_do_not_count():
    assert key("می\u200cخواهم") == key("میخواهم")
    assert key("ന\u0d4d\u200d") == key("ന\u0d4d")


LETTERS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("ab \u00a0\u3000\t\n\r\u200b\u200d\u0301\u0323e\u00e9\u1eb9\ufeff\u0378"),
    )
)


@given(LETTERS)
def test_a_key_is_its_own_key_and_comes_line_by_line(text):
    # Slow and plain: one character at a time.
    unseen = {chr(code) for first, last in UNSEEN for code in range(first, last + 1)}
    plain = unicodedata.normalize("NFC", "".join(c for c in text if c not in unseen))
    expected = [" ".join(line.split()) for line in plain.split("\n")]

    assert keys(text) == expected
    assert keys("\n".join(expected)) == expected
    assert len(expected) == text.count("\n") + 1
    assert key(text) == " ".join(plain.split())
