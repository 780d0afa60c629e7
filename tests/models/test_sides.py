"""Both sides of a text: a source's padding never counts, and a decoder reads what is its own."""

import pico
import pytest
import torch
from pressing import loud

from babelpress.models.linears import linears, watched, weight
from babelpress.models.sides import Source
from babelpress.models.walk import Walk
from babelpress.system.offload import on_disk

every_pair = pytest.mark.parametrize("family", pico.ENCODER_DECODERS)
SIZES = [(9, 4), (5, 6), (2, 3)]  # of the source and of the target of three pairs
JUNK = 7


def pairs():
    """Three pairs of unequal length as rows, and as what an encoder and a decoder read."""
    lot = torch.Generator().manual_seed(5)
    rows = [[torch.randint(3, 250, (size,), generator=lot) for size in two] for two in SIZES]
    there_BS = torch.arange(9)[None] < torch.tensor([[size] for size, _ in SIZES])
    source_BS, target_BT = (torch.full((3, size), JUNK) for size in (9, 6))
    for row, (source_S, target_T) in enumerate(rows):
        source_BS[row, : len(source_S)] = source_S
        target_BT[row, : len(target_T)] = target_T
    return rows, Source(source_BS, there_BS, there_BS), target_BT


@torch.no_grad()
def outputs_of(model, walk, source_S, target_T):
    """What every block gives in the model's own pass over one pair, without padding."""
    seen = []
    handles = [
        block.register_forward_hook(
            lambda _, __, out: seen.append((out[0] if isinstance(out, tuple) else out).clone())
        )
        for block in walk.blocks
    ]
    model(source_S[None], decoder_input_ids=target_T[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def passed(walk, source, target_BT, **options):
    """What every block gives, all pairs at once."""
    found, hidden_BTH = [], walk.start(target_BT, source=source, **options)
    for index in range(len(walk.blocks)):
        hidden_BTH = walk.run(index, hidden_BTH, **options)
        found.append(hidden_BTH.clone())
        hidden_BTH = walk.onward(index, hidden_BTH, **options)
    return found


@every_pair
def test_padded_pairs_get_what_each_gets_alone(family):
    walk = Walk(loud(family))
    rows, source, target_BT = pairs()

    found = passed(walk, source, target_BT)

    for row, (source_S, target_T) in enumerate(rows):
        own = outputs_of(walk.model, walk, source_S, target_T)
        assert len(own) == len(found) == 4
        for index, expected_1TH in enumerate(own):
            size = expected_1TH.shape[1]
            assert size == SIZES[row][index >= 2]
            torch.testing.assert_close(
                found[index][row, :size], expected_1TH[0], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("family", ["t5", "m2m_100"])
def test_what_lies_on_a_disk_is_the_same(family, tmp_path):
    walk = Walk(pico.model(family))
    _, source, target_BT = pairs()

    expected = passed(walk, source, target_BT)
    found = passed(walk, source, target_BT, hold=on_disk(tmp_path))

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@every_pair
@torch.no_grad()
def test_keys_and_values_of_cross_attention_read_the_pressed_encoder(family):
    """All else being equal: the decoder sees a change of the last block of the encoder."""
    walk = Walk(loud(family))
    _, source, target_BT = pairs()
    hidden_BTH = walk.start(target_BT, source=source)
    for index in range(2):
        hidden_BTH = walk.forward(index, hidden_BTH)
    site = next(each for each in walk.sites(2, hidden_BTH) if len(each.linears) == 2)

    def read():
        seen = []
        layers = linears(walk.blocks[2])
        hidden_BTH = walk.start(target_BT, source=source)
        for index in range(2):
            hidden_BTH = walk.forward(index, hidden_BTH)
        with watched({layers[site.linears[0]]: lambda x_RI, _: seen.append(x_RI.clone())}):
            walk.run(2, hidden_BTH)
        return seen[0]

    before_RI = read()
    expected_BSH = walk.model.get_encoder()(source.ids_BS, source.there_BS.long())[0]
    torch.testing.assert_close(before_RI.view_as(expected_BSH), expected_BSH, rtol=0, atol=0)

    for each in linears(walk.blocks[1]).values():
        weight(each)[:, ::2] = 0

    expected_BSH = walk.model.get_encoder()(source.ids_BS, source.there_BS.long())[0]
    torch.testing.assert_close(read().view_as(expected_BSH), expected_BSH, rtol=0, atol=0)
    assert not torch.allclose(before_RI.view_as(expected_BSH), expected_BSH, atol=1e-3)


@torch.no_grad()
def test_a_decoder_keeps_what_it_needs_of_its_encoder_once():
    """Both blocks of M2M-100 are handed one tensor; passed blocks keep nothing."""
    walk = Walk(pico.model("m2m_100"))
    _, source, target_BT = pairs()
    hidden_BTH = walk.forward(1, walk.forward(0, walk.start(target_BT, source=source)))

    assert len(hidden_BTH.own.calls) == 2
    floats = 3 * 6 * 32 + 3 * 9 * 32
    masks = 3 * 6 * 9  # of cross attention, in bytes
    assert hidden_BTH.bytes() == 4 * floats + masks
    last_BTH = walk.forward(3, walk.forward(2, hidden_BTH))
    assert last_BTH.bytes() == 4 * 3 * 6 * 32


def test_a_source_is_cut_to_what_is_filled_but_never_as_long_as_its_target():
    _, source, _ = pairs()
    short = source.rows(slice(1, 3))

    assert short.ids_BS.shape == (2, 9)
    assert short.cut(3).ids_BS.shape == (2, 5)
    assert short.cut(5).ids_BS.shape == (2, 6)
    assert source.cut(9).ids_BS.shape == (3, 10)
    assert source.cut(9).there_BS[:, :9].equal(source.there_BS)
    assert not source.cut(9).there_BS[:, 9].any() and not source.cut(9).counted_BS[:, 9].any()


@torch.no_grad()
def test_bare_text_is_its_own_source():
    walk = Walk(pico.model("mbart"))
    ids_BT = torch.arange(3, 12)[None]

    one = passed(walk, Source.whole(ids_BT), ids_BT[:, :-1])
    hidden_BTH = walk.start(ids_BT)
    for index in range(4):
        hidden_BTH = walk.forward(index, hidden_BTH)

    assert torch.equal(hidden_BTH, one[-1])
