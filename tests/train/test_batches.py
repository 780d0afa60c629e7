"""Batches: what is hidden, what is scored, and what becomes of both where texts are mixed."""

import numpy as np
import pytest
import torch

from babelpress.distill._seen import Pairing
from babelpress.text.token_blocks import TokenBlocks
from babelpress.train.batches import HIDDEN, Blocks, Example, Examples, Marks, Mixed, hide

PAD, CLS, SEP, MASK = 0, 1, 2, 3
SPECIAL = frozenset({PAD, CLS, SEP, MASK})
MARKS = Marks(PAD, SPECIAL, MASK, 100)


def blocks(scores, *, mask: int | None = MASK, rows=6, length=20):
    ids_BT = torch.arange(4, 4 + rows * length).view(rows, length) % 96 + 4
    ids_BT[:, 0], ids_BT[:, -1] = CLS, SEP
    ids_BT[1, 12:] = PAD
    counted_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    both = {
        "swh_Latn": TokenBlocks("swh_Latn", ids_BT[:2], counted_BT[:2]),
        "yor_Latn": TokenBlocks("yor_Latn", ids_BT[2:], counted_BT[2:]),
        "amh_Ethi": TokenBlocks("amh_Ethi", ids_BT[:0], counted_BT[:0]),
    }
    return Blocks(both, Marks(PAD, SPECIAL, mask, 100), scores)


def test_a_share_of_the_text_is_hidden_and_no_mark():
    ids_BT = torch.randint(4, 100, (400, 40), generator=torch.Generator().manual_seed(0))
    text_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    text_BT[:, :4] = False

    shown_BT, chosen_BT = hide(ids_BT, text_BT, MARKS, np.random.default_rng(0))

    assert chosen_BT.sum(1).tolist() == [round(HIDDEN * 36)] * 400
    assert not chosen_BT[:, :4].any()
    assert torch.equal(shown_BT[~chosen_BT], ids_BT[~chosen_BT])
    masked = (shown_BT == MASK).sum() / chosen_BT.sum()
    stay = (shown_BT == ids_BT)[chosen_BT].float().mean()
    assert masked.item() == pytest.approx(0.8, abs=0.02)
    assert stay.item() == pytest.approx(0.1, abs=0.02)


def test_text_of_one_token_is_hidden_whole_and_text_of_none_is_not():
    text_BT = torch.tensor([[False, True, False], [False, False, False]])

    _, chosen_BT = hide(torch.full((2, 3), 7), text_BT, MARKS, np.random.default_rng(0))

    assert torch.equal(chosen_BT, text_BT)


def test_of_an_encoder_hidden_tokens_are_scored_and_padding_is_not_read():
    found = blocks("hidden").some("swh_Latn", 0, 5, np.random.default_rng(0))

    assert found.languages_B == ("swh_Latn", "swh_Latn")
    assert found.read_BT.sum(1).tolist() == [20, 12]
    assert found.text_BT.sum(1).tolist() == [18, 11]
    assert found.scored_BT.sum(1).tolist() == [3, 2]
    assert torch.equal(found.ids_BT[~found.scored_BT], found.target_BT[~found.scored_BT])


def test_of_a_decoder_every_next_token_that_is_there_is_scored():
    found = blocks("next").some("swh_Latn", 0, 2, np.random.default_rng(0))

    assert found.scored_BT.sum(1).tolist() == [19, 11]
    for row, place in found.scored_BT.nonzero().tolist():
        assert found.target_BT[row, place] == found.ids_BT[row, place + 1]


def test_of_a_model_without_a_head_nothing_is_scored_and_nothing_hidden():
    text = blocks("nothing")
    found = text.draw(["yor_Latn", "swh_Latn", "yor_Latn"], np.random.default_rng(1))

    assert found.languages_B == ("yor_Latn", "swh_Latn", "yor_Latn")
    assert not found.scored_BT.any()
    assert not (found.ids_BT == MASK).any()
    assert text.languages() == ["swh_Latn", "yor_Latn"]
    assert text.number("yor_Latn") == 4


def test_the_same_number_draws_the_same_batch():
    text = blocks("hidden")
    one, two, other = (
        text.draw(["yor_Latn"] * 3, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )

    assert torch.equal(one.ids_BT, two.ids_BT)
    assert torch.equal(one.scored_BT, two.scored_BT)
    assert not torch.equal(one.ids_BT, other.ids_BT)


def test_mixed_texts_hide_the_same_places_and_know_what_both_held_there():
    batch = blocks("hidden").some("swh_Latn", 0, 2, np.random.default_rng(3))
    plain_BT = batch.target_BT

    found = Mixed.of(batch, Pairing(np.array([1, 0]), np.array([0.3, 0.9])))

    for row, other in enumerate([1, 0]):
        for place in range(20):
            hidden = bool(batch.scored_BT[row, place])
            both = hidden and bool(batch.text_BT[other, place])
            assert bool(found.scored_BT[row, place]) == both
            assert found.ids_BT[row, place] == (MASK if hidden else plain_BT[row, place])
            assert found.other_BT[row, place] == (MASK if both else plain_BT[other, place])
            if both:
                assert found.target_BT[row, place] == plain_BT[row, place]
                assert found.other_target_BT[row, place] == plain_BT[other, place]
    assert found.read_BT.all()  # the longer of both
    assert found.scored_BT.sum() < batch.scored_BT.sum()  # a place that only the longer has
    assert found.share_B.tolist() == pytest.approx([0.3, 0.9])


def test_mixed_texts_of_a_decoder_are_scored_where_both_go_on():
    batch = blocks("next", mask=None).some("swh_Latn", 0, 2, np.random.default_rng(3))

    found = Mixed.of(batch, Pairing(np.array([1, 0]), np.array([0.3, 0.9])))

    assert found.scored_BT.sum(1).tolist() == [11, 11]
    assert torch.equal(found.other_BT, batch.ids_BT[[1, 0]])
    assert torch.equal(found.other_target_BT, batch.target_BT[[1, 0]])


def test_labelled_pieces_are_scored_where_words_begin():
    rows = {
        "swh_Latn": [Example((1, 7, 8, 9, 2), (1, 3), (4, 0)), Example((1, 7, 2), (1,), (3,))],
        "yor_Latn": [],
    }
    text = Examples(rows, Marks(5, frozenset(), None, 100))

    found = text.some("swh_Latn", 0, 9, np.random.default_rng(0))

    assert text.languages() == ["swh_Latn"]
    assert found.ids_BT.tolist() == [[1, 7, 8, 9, 2], [1, 7, 2, 5, 5]]
    assert found.read_BT.sum(1).tolist() == [5, 3]
    assert found.scored_BT.nonzero().tolist() == [[0, 1], [0, 3], [1, 1]]
    assert found.target_BT[found.scored_BT].tolist() == [4, 0, 3]


def test_labelled_texts_have_one_label_each():
    rows = {"swh_Latn": [Example((1, 7, 8, 2), (), (2,)), Example((1, 7, 2), (), (0,))]}
    text = Examples(rows, Marks(5, frozenset(), None, 100))

    found = text.draw(["swh_Latn"] * 3, np.random.default_rng(1))
    mixed = Mixed.of(found, Pairing(np.array([2, 0, 1]), np.full(3, 0.5)))

    assert found.scored_BT.tolist() == [[True]] * 3
    own = [rows["swh_Latn"][4 - length] for length in found.read_BT.sum(1).tolist()]
    assert found.target_BT[:, 0].tolist() == [each.labels_W[0] for each in own]
    assert mixed.other_target_BT.tolist() == found.target_BT[[2, 0, 1]].tolist()
