"""Logits of single places and states of blocks against what the model says by itself."""

from typing import Any

import numpy as np
import pico
import pytest
import torch

from babelpress.distill._seen import Pairing
from babelpress.train import reading
from babelpress.train.batches import Batch, Mixed
from babelpress.train.reading import Reader

ANSWERS = {"xlm_roberta": "labels", "deberta_v2": "labels", "distilbert": "texts"}
FAMILIES = ("llama", "gemma3", "gpt2", "qwen3_moe", *pico.ENCODERS)


def batch(answers):
    """Two texts, the second shorter; some places scored."""
    ids_BT = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    read_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    read_BT[1, 6:] = False
    ids_BT[1, 6:] = 2
    scored_BT = torch.zeros_like(read_BT)
    scored_BT[0, [1, 4, 8]] = scored_BT[1, [0, 5]] = True
    if answers == "texts":
        scored_BT = torch.ones((2, 1), dtype=torch.bool)
    return Batch(("swh_Latn", "yor_Latn"), ids_BT, read_BT, read_BT, scored_BT, ids_BT)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_scored_places_are_the_model_s_own_with_their_slopes(family, monkeypatch):
    monkeypatch.setattr(reading, "NUMBERS", 2 * pico.VOCABULARY)  # parts of two tokens
    model = pico.model(family)
    reader = Reader.of(model)
    given = batch(reader.answers)

    said = reader.read(given)
    found = torch.cat([part() for part in said.parts])
    found.square().mean().backward()
    mine = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(given.ids_BT, attention_mask=given.read_BT.long()).logits
    expected = (logits[:, None] if reader.answers == "texts" else logits)[given.scored_BT]
    expected.square().mean().backward()

    assert reader.answers == ANSWERS.get(family, "tokens")
    assert reader.apart == (family not in ANSWERS)
    assert len(said.parts) == (3 if reader.apart else 1)
    torch.testing.assert_close(found, expected)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(mine[name], parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_states_are_those_of_the_blocks_where_anything_is_read(family):
    model = pico.model(family)
    given = batch("tokens")

    found = Reader.of(model).read(given, hidden=[0, 1]).hidden
    states = model.base_model(
        given.ids_BT, attention_mask=given.read_BT.long(), output_hidden_states=True
    ).hidden_states

    assert [each.shape for each in found] == [(15, 32)] * 2
    torch.testing.assert_close(found[0], states[1][given.read_BT])


def test_a_model_without_a_head_says_nothing_but_its_states():
    model: Any = pico.model("bert").base_model
    reader = Reader.of(model)
    given = batch("nothing")
    given.scored_BT.zero_()

    said = reader.read(given, hidden=[1])

    assert reader.answers == "nothing"
    assert said.parts == ()
    assert said.hidden[0].shape == (15, 32)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "gemma3", "bloom", "distilbert"])
def test_a_mixture_that_is_all_its_own_says_what_the_text_says(family):
    """And one that is none of its own what the other says; half of each is neither."""
    model = pico.model(family)
    reader = Reader.of(model)
    given = batch(reader.answers)
    given.read_BT[:] = True  # so that both texts have all places
    given.scored_BT[:] = True
    own = torch.cat([part() for part in reader.read(given).parts])

    def mixed(share):
        made = Mixed.of(given, Pairing(np.array([1, 0]), np.full(2, share)))
        return torch.cat([part() for part in reader.read_mixed(made).parts])

    half = own.view(2, -1)
    torch.testing.assert_close(mixed(1.0), own)
    torch.testing.assert_close(mixed(0.0).view(2, -1), half.flip(0))
    assert (mixed(0.5) - own).abs().max() > 1e-4
