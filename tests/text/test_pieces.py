"""Pieces of labelled texts: every word in exactly one, none cut but one that is too long itself."""

import pico
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import tokenizer as merging

from babelpress.errors import BadSetting
from babelpress.models.tokenizers import encode
from babelpress.text.labelled import Labelled
from babelpress.text.pieces import padded, pieces_of

words = st.lists(st.text("abcj ü", min_size=1, max_size=9), min_size=1, max_size=12)


def document(some, name="x"):
    return Labelled(name, tuple(some), ("O",) * len(some))


def pieces(some, size, tokenizer=None):
    return pieces_of(tokenizer or pico.tokenizer(), [document(some)], size, by_word=True)


@given(some=words, size=st.integers(3, 40))
@settings(max_examples=60, deadline=None)
def test_every_word_is_labelled_once_at_its_first_token(some, size):
    room = size - 2
    read = [word if n == 0 else f" {word}" for n, word in enumerate(some)]
    tokens = encode(pico.tokenizer(), read)["input_ids"]

    found = pieces(some, size)

    assert [w for p in found for w in range(p.first, p.first + len(p.places_W))] == list(
        range(len(some))
    )
    for piece in found:
        assert len(piece.ids_T) <= size
        assert (piece.ids_T[0], piece.ids_T[-1]) == (0, 1)  # BOS and EOS around
        own = tokens[piece.first : piece.first + len(piece.places_W)]
        assert piece.ids_T[1:-1].tolist() == [token for each in own for token in each[:room]]
        starts = [int(piece.ids_T[place]) for place in piece.places_W]
        assert starts == [each[0] for each in own]
        assert piece.cut == sum(max(0, len(each) - room) for each in own)


def test_a_long_sentence_is_split_evenly():
    found = pieces(["abc"] * 10, 32)  # 3 tokens, then 4 each: 39 in a room of 30

    assert [len(each.places_W) for each in found] == [5, 5]
    assert [len(each.places_W) for each in pieces(["abc"] * 7, 32)] == [7]


def test_words_are_the_tokens_that_the_whole_text_has():
    some = ["juu", "ya", "juu,", "jua"]

    (piece,) = pieces(some, 100, merging())

    assert piece.ids_T[1:-1].tolist() == encode(merging(), [" ".join(some)])["input_ids"][0]


def test_a_word_of_no_token_is_an_unknown_one():
    (piece,) = pieces(["a", "", "b"], 100)

    assert len(piece.places_W) == 3  # a space is a token here
    (first,) = pieces([""], 100)
    assert first.ids_T.tolist() == [0, 2, 1]  # no unknown token: that of padding


def test_a_text_with_one_label_is_one_piece_whose_end_is_cut():
    short, long = pieces_of(
        pico.tokenizer(),
        [Labelled("a", ("abc",), ("x",)), Labelled("b", ("abcdefgh",), ("x",))],
        7,
        by_word=False,
    )

    assert (len(short.ids_T), short.cut, short.places_W) == (5, 0, ())
    assert (len(long.ids_T), long.cut, long.document) == (7, 3, 1)


def test_a_window_without_room_is_one_line():
    with pytest.raises(BadSetting, match=r"a window of 2 tokens has no room .* Give at least 3"):
        pieces(["a"], 2)


def test_padding_is_on_the_right():
    ids_BT, mask_BT = padded([[5, 6, 7], [8]], 3)

    assert ids_BT.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert mask_BT.tolist() == [[1, 1, 1], [1, 0, 0]]
