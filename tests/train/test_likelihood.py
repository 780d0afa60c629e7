"""Nats by language, against the loss that transformers itself computes."""

import pico
import pytest
import torch
from pressing import loud, text
from running import refusal
from torch.nn import functional

from babelpress.errors import NotFinite
from babelpress.models.linears import weight
from babelpress.train.batches import Blocks, Marks
from babelpress.train.likelihood import nats
from babelpress.train.reading import Reader

PAD = 2


def test_of_a_decoder_every_next_token_is_scored():
    model = loud("llama")
    found = nats(Reader.of(model), Blocks(text(), Marks(PAD, frozenset([PAD]), None, 259), "next"))

    for tag, each in text().items():
        with torch.no_grad():
            logits_BTV = model(each.ids_BT, attention_mask=(each.ids_BT != PAD).long()).logits
        target_BT = each.ids_BT.masked_fill(each.ids_BT == PAD, -100)[:, 1:]
        expected = functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), target_BT.flatten())
        assert found[tag] == pytest.approx(float(expected), rel=1e-5)


def test_of_an_encoder_the_same_hidden_tokens_are_scored_every_time():
    blocks = Blocks(text(), Marks(PAD, frozenset([0, 1, PAD]), 1, 259), "hidden")
    reader = Reader.of(loud("bert"))

    once = nats(reader, blocks)

    assert nats(reader, blocks) == once
    assert nats(reader, blocks, seed=1) != once
    assert all(each > 0 for each in once.values())


def test_a_model_that_gives_no_numbers_is_one_line():
    reader = Reader.of(pico.model("llama"))
    weight(reader.model.get_input_embeddings()).fill_(torch.nan)

    words = refusal(
        NotFinite,
        nats,
        reader,
        Blocks(text(), Marks(PAD, frozenset(), None, 259), "next"),
    )

    assert "the loss of LlamaForCausalLM in eng_Latn is nan" in words
