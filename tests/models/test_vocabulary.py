"""Fewer rows: what every family computes with them against what it computed with all."""

from pathlib import Path

import pico
import pytest
import torch
from running import refusal
from torch import nn
from transformers import AutoConfig

from babelpress.errors import BadModel
from babelpress.models import vocabulary
from babelpress.models.headers import Entry
from babelpress.models.token_ids import renumber
from babelpress.models.tokenizers import vocabulary_of

SEVERAL = tuple(family for family in pico.EVERY if family != "gemma4")
KEPT = [0, 1, 2, *range(5, 200, 3)]
RUN = torch.tensor([[5, 8, 11, 197, 50, 5, 1]])


def of(model, ids_BT):
    """Logits, or states where there are none."""
    sides = {"decoder_input_ids": ids_BT} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False, **sides)[0]


def loud(family):
    """A model whose biases are not zero, with biases of logits where it has any."""
    model = pico.model(family)
    biases = [each for name, each in model.named_buffers() if name.endswith("final_logits_bias")]
    for each in (*(p for p in model.parameters() if p.ndim == 1), *biases):
        each.data.add_(0.1 * torch.randn(each.shape, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.mark.parametrize("family", pico.laws(SEVERAL))
def test_logits_of_kept_tokens_are_those_of_the_whole_model_bit_for_bit(family, tmp_path):
    model = loud(family)
    rows = vocabulary_of(model)
    before = of(model, RUN)
    kept = before[..., KEPT] if before.shape[-1] == rows else before
    others = {
        name: each.clone() for name, each in model.state_dict().items() if rows not in each.shape
    }
    new = {old: number for number, old in enumerate(KEPT)}
    ids = torch.tensor([[new[int(each)] for each in RUN[0]]])

    vocabulary.keep_rows(model, KEPT)

    assert torch.equal(of(model, ids), kept)
    assert vocabulary_of(model) == len(KEPT)
    state = model.state_dict()
    assert all(torch.equal(state[name], each) for name, each in others.items())
    assert not any(rows in each.shape for each in state.values())
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(of(again, ids), kept)
    assert AutoConfig.from_pretrained(tmp_path).get_text_config().vocab_size == len(KEPT)


@pytest.mark.parametrize("family", ["bloom", "t5", "bert"])
def test_a_tied_head_stays_tied(family):
    model = pico.model(family)

    vocabulary.keep_rows(model, KEPT)

    tables = (model.get_output_embeddings(), model.get_input_embeddings())
    assert len({id(dict(each.named_parameters())["weight"]) for each in tables if each}) == 1
    assert len(vocabulary.tables(model)) == 1


def test_what_a_row_takes_is_counted_in_all_tables_and_biases():
    assert vocabulary.row_bytes(pico.model("llama"), torch.float32) == 2 * 32 * 4
    assert vocabulary.row_bytes(pico.model("bloom"), torch.bfloat16) == 32 * 2
    assert vocabulary.row_bytes(pico.model("bert"), torch.float32) == (32 + 1) * 4
    for family in ("llama", "bloom", "bert", "mbart"):
        model = pico.model(family)
        before = sum(each.numel() for each in (*model.parameters(), *model.buffers()))
        row = vocabulary.row_bytes(model, torch.float32) // 4
        vocabulary.keep_rows(model, KEPT)
        after = sum(each.numel() for each in (*model.parameters(), *model.buffers()))
        assert before - after == row * (pico.VOCABULARY - len(KEPT))


def test_padding_of_embeddings_moves_with_its_token():
    model = pico.model("bert")
    assert vocabulary.padding(model) == {2}

    vocabulary.keep_rows(model, [0, 2, 5])

    assert model.get_input_embeddings().padding_idx == 1


@pytest.mark.parametrize("family", ["xlm_roberta", "xglm", "m2m_100"])
def test_positions_that_count_from_padding_are_refused_where_it_would_move(family):
    model = pico.model(family)
    before = {name: each.clone() for name, each in model.state_dict().items()}

    line = refusal(BadModel, vocabulary.keep_rows, model, [0, 2, 5])

    assert "counts positions from the number of its padding token" in line
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_embeddings_in_every_layer_are_one_line():
    line = refusal(BadModel, vocabulary.check, "it", pico.model("gemma4"))

    assert "it (Gemma4ForCausalLM) has embeddings of tokens in every layer" in line


def test_a_table_that_nobody_knows_is_one_line():
    model = pico.model("llama")
    model.model.extra = nn.Embedding(pico.VOCABULARY, 4)
    carried = Entry(Path("x"), "mtp.head.weight", "F32", (pico.VOCABULARY, 32), 0, 0)

    line = refusal(BadModel, vocabulary.check, "it", model)
    assert "another table with a row for each token, model.extra" in line
    line = refusal(BadModel, vocabulary.check, "it", pico.model("llama"), [carried])
    assert "mtp.head.weight" in line
    model = pico.model("llama")
    model.lm_head = nn.Linear(32, 100)
    assert "reads 259 tokens and writes 100" in refusal(BadModel, vocabulary.check, "it", model)


@pytest.mark.parametrize("family", SEVERAL)
def test_every_family_but_one_can_be_trimmed(family):
    model = pico.model(family)

    vocabulary.check("it", model)

    stray = nn.Embedding(pico.VOCABULARY, 3)
    model.add_module("stray", stray)  # a table that would keep the rows of tokens that went
    assert "stray" in refusal(BadModel, vocabulary.check, "it", model)


def test_a_model_that_sees_images_keeps_what_stands_for_them():
    model = pico.seeing("gemma3")
    kept = [0, 1, 2, 9, 3]

    vocabulary.keep_rows(model, kept)
    renumber(model.config, {old: number for number, old in enumerate(kept)})

    assert model.config.text_config.vocab_size == len(kept)
    assert model.config.image_token_id == 4
    with torch.no_grad():
        assert model(torch.tensor([[3, 1]])).logits.shape == (1, 2, len(kept))
