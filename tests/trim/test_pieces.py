"""Pieces that stay for what they read: digits, punctuation, letters of the languages' scripts."""

from babelpress.trim import _pieces, wordpiece
from babelpress.trim._pieces import BYTES, of_scripts, scripts_of, spelled, staying

PIECES = {
    *("1", "42", "▁2024", "▁123", "१", "२३", "!", "▁(", "…", "₹", "a", "▁b", "é", "न", "▁ि", "字"),
    *("한", "ж", "ab", "▁", "▁▁", "\n", "<0x41>", "\u0301", "the"),
}


def test_scripts_are_those_of_the_languages_and_latin():
    assert scripts_of(["hin_Deva"]) == {"Latn", "Deva"}
    assert scripts_of(["jpn_Jpan"]) == {"Latn", "Hani", "Hira", "Kana"}


def test_digits_punctuation_and_letters_of_the_scripts_stay():
    wanted = scripts_of(["hin_Deva", "kor_Hang"])

    found = staying(PIECES, spelled, wanted, lossless=True)

    assert found == {
        *("1", "42", "▁123", "१", "!", "▁(", "…", "₹", "a", "▁b", "é", "न", "▁ि", "▁", "▁▁"),
        *("\n", "\u0301"),
    }


def test_scripts_of_thousands_of_characters_stay_where_text_would_be_lost():
    wanted = scripts_of(["kor_Hang"])

    kept = staying(PIECES, spelled, wanted, lossless=False)

    assert {"한", "字"} <= kept
    assert "ж" not in kept


def test_all_characters_stay_where_that_is_asked_for():
    kept = staying(PIECES, spelled, {"Latn"}, lossless=True, every=True)

    assert {"ж", "字", "한", "न", "▁ि"} <= kept
    assert not {"ab", "▁2024", "the", "<0x41>"} & kept


def test_pieces_inside_words_are_characters_too():
    pieces = {"a", "##a", "##ab", "##न", "##字", "##1", "##"}

    kept = staying(pieces, wordpiece.spelled, {"Latn", "Deva"}, lossless=False)

    assert kept == {"a", "##a", "##न", "##1"}


def test_pieces_of_the_scripts_keep_their_order_and_none_has_a_letter_of_another():
    pieces = ["▁the", "ज़ी", "ж", "▁नदी", "aж", "字", "▁2024", "<0x41>", "…", "a१", "▁"]

    found = of_scripts(pieces, spelled, scripts_of(["hin_Deva"]))

    assert found == ["▁the", "ज़ी", "▁नदी", "▁2024", "…", "a१", "▁"]


def test_there_is_a_piece_for_every_byte():
    assert (BYTES[0], BYTES[255], len(BYTES)) == ("<0x00>", "<0xFF>", 256)
    assert _pieces.spelled("<0x00>") is None
