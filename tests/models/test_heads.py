"""A head on an encoder: the body stays number by number, a head that is there stays too."""

from typing import Any

import pico
import pytest
import torch
from running import refusal

from babelpress.errors import BadModel
from babelpress.models.heads import OF_TEXTS, OF_WORDS, with_head

LABELS = ("b", "a", "c")


def headed(model: Any, kind: str, labels: tuple[str, ...] = LABELS, seed: int = 0) -> Any:
    return with_head(model, kind, labels, seed=seed)


def body(model):
    return {
        name: each
        for name, each in model.base_model.state_dict().items()
        if not name.startswith("pooler.")
    }


@pytest.mark.parametrize("family", pico.ENCODERS)
@pytest.mark.parametrize("kind", [OF_WORDS, OF_TEXTS])
def test_a_head_leaves_the_body_as_it_is(family, kind):
    model = pico.model(family, dtype=torch.bfloat16)
    ids_BT = torch.arange(10, 40).reshape(2, 15)

    made, had = with_head(model, kind, LABELS)

    assert not had
    assert type(made).__name__.endswith(kind)
    assert made.config.id2label == {0: "b", 1: "a", 2: "c"}
    assert made.config.label2id == {"b": 0, "a": 1, "c": 2}
    assert made.dtype == torch.float32
    before, after = body(model), body(made)
    assert before.keys() == after.keys()
    assert all(torch.equal(each.float(), after[name]) for name, each in before.items())
    shape = (2, 15, 3) if kind == OF_WORDS else (2, 3)
    assert made(ids_BT).logits.shape == shape
    assert not made.training


def test_a_head_is_that_of_its_seed_and_nothing_else_is_drawn():
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)

    one, other, third = (headed(pico.model("bert"), OF_WORDS, seed=n)[0] for n in (1, 1, 2))

    assert torch.equal(one.classifier.weight, other.classifier.weight)
    assert not torch.equal(one.classifier.weight, third.classifier.weight)
    torch.manual_seed(9)
    with_head(one, OF_WORDS, LABELS)
    assert torch.equal(torch.rand(3), expected)


def test_a_head_with_the_same_labels_stays_and_any_other_is_new():
    once, _ = headed(pico.model("bert"), OF_TEXTS, seed=1)

    again, had = headed(once, OF_TEXTS, seed=2)
    renamed, kept = headed(once, OF_TEXTS, ("a", "b", "c"), seed=2)
    of_words, too = headed(once, OF_WORDS, seed=2)

    assert (had, kept, too) == (True, False, False)
    assert all(
        torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(renamed.classifier.weight, once.classifier.weight)
    assert torch.equal(renamed.bert.pooler.dense.weight, once.bert.pooler.dense.weight)
    assert of_words.bert.pooler is None


def test_what_is_no_encoder_is_one_line():
    line = refusal(BadModel, with_head, pico.model("llama"), OF_WORDS, LABELS)

    assert line.startswith(
        "LlamaForCausalLM is no encoder (llama), and a head for a task is put on"
    )
