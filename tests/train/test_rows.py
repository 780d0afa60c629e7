"""Rows of a table that learn, against a plain training in which the whole table does."""

import copy
from typing import Any

import labelling
import pico
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from babelpress.text.pieces import pieces_of
from babelpress.train.finetuning import examples_of, mean_loss
from babelpress.train.rows import Rows

FAMILIES = [
    *((name, "words") for name in labelling.OF_WORDS),
    *((name, "texts") for name in labelling.OF_TEXTS),
]


def task(family, what="words") -> Any:
    """A model with a head, in training but without dropout, and what it learns from."""
    words = what == "words"
    heads, labels = (
        (labelling.OF_WORDS, labelling.NAMES) if words else (labelling.OF_TEXTS, labelling.TOPICS)
    )
    documents = labelling.sentences(16) if words else labelling.topics(16)
    model = labelling.head(heads, family, labels)
    pieces = pieces_of(pico.tokenizer(), documents, 64, by_word=words)
    return model, examples_of(pieces, documents, labels)


def learn(model, examples, steps=4):
    """AdamW with clipping by hand, embeddings not decayed."""
    table = [e for n, e in model.named_parameters() if "embed" in n and e.requires_grad]
    known = {id(each) for each in table}
    others = [e for e in model.parameters() if e.requires_grad and id(e) not in known]
    groups = [{"params": table, "weight_decay": 0.0}, {"params": others, "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    for step in range(steps):
        mean_loss(model, examples[4 * step : 4 * step + 4]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(("family", "what"), FAMILIES)
def test_what_is_learnt_is_what_a_training_of_the_whole_table_learns(family, what):
    model, examples = task(family, what)
    plain, before = copy.deepcopy(model), copy.deepcopy(model)
    ids = {int(each) for example in examples for each in example.tokens}
    rows = Rows.of(model, ids | {model.config.pad_token_id})
    assert rows is not None
    number = sum(each.numel() for each in model.parameters() if each.requires_grad)

    learn(plain, examples)
    learn(model, examples)
    rows.finish()

    assert number < sum(each.numel() for each in plain.parameters())
    mine, its = dict(model.named_parameters()), dict(plain.named_parameters())
    assert mine.keys() == its.keys()
    assert all(each.requires_grad for each in mine.values())
    for name, each in mine.items():
        torch.testing.assert_close(each, its[name], rtol=1e-4, atol=1e-6)
    table, old = (each.get_input_embeddings().weight for each in (model, before))
    moved = (table != old).any(1).nonzero()[:, 0].tolist()
    assert set(moved) == ids - {model.config.pad_token_id}


@torch.no_grad()
def test_what_is_read_but_not_learnt_is_read_of_the_table():
    model, _ = task("bert")
    table = model.get_input_embeddings()
    rows = Rows.of(model, {5, 6})
    assert rows is not None
    table.rows.add_(1.0)

    found = table(torch.tensor([[5, 7], [9, 6]]))

    own = table.weight[torch.tensor([[5, 7], [9, 6]])]
    assert torch.equal(found[0, 0], own[0, 0] + 1)
    assert torch.equal(found[1, 1], own[1, 1] + 1)
    assert torch.equal(found[0, 1], own[0, 1])
    assert torch.equal(found[1, 0], own[1, 0])
    assert torch.equal(table(input=torch.tensor([[5, 7], [9, 6]])), found)
    rows.finish()
    assert torch.equal(table(torch.tensor([5])), found[0, :1])
    assert not hasattr(table, "rows")


def test_a_table_that_is_tied_or_does_not_learn_is_left_as_it_is():
    tied: Any = BertForMaskedLM(BertConfig(**pico._ENCODER))
    assert tied.get_output_embeddings().weight is tied.get_input_embeddings().weight
    still, _ = task("bert")
    still.get_input_embeddings().requires_grad_(False)

    for model in (tied, still):
        before = [name for name, _ in model.named_parameters()]
        assert Rows.of(model, {5}) is None
        assert [name for name, _ in model.named_parameters()] == before
