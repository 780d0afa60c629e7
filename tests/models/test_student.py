"""Students: what they compute against a walk over the teacher's blocks, family by family."""

import pico
import pytest
import torch
from pressing import loud, tensors_of
from running import refusal
from transformers import AutoConfig

from babelpress.errors import BadModel, BadSetting
from babelpress.models.student import chosen_blocks, fewer_blocks
from babelpress.models.walk import Walk

# Those that differ in how blocks are numbered, called and told apart.
OF_OWN_LAYERS = tuple(name for name in pico.ENCODERS if name != "albert")
FAMILIES = ("gemma3", "bloom", "gpt2", "qwen3_moe", *OF_OWN_LAYERS)


@pytest.mark.parametrize(
    ("teacher", "student", "init", "expected"),
    [
        (12, 6, "stride", [0, 2, 4, 7, 9, 11]),
        (12, 4, "stride", [0, 4, 7, 11]),
        (12, 4, "last", [8, 9, 10, 11]),
        (12, 3, "first", [0, 1, 2]),
        (12, 1, "stride", [11]),
        (3, 3, "stride", [0, 1, 2]),
    ],
)
def test_which_blocks_a_student_begins_as(teacher, student, init, expected):
    assert chosen_blocks(teacher, student, init) == expected


@pytest.mark.parametrize("number", [0, 13])
def test_more_blocks_than_the_teacher_has_are_one_line(number):
    line = refusal(BadSetting, chosen_blocks, 12, number, "stride")

    assert f"--layers {number} is not from 1 to 12" in line
    assert "--layers 6" in line


def test_a_beginning_that_is_none_is_one_line():
    assert "Use stride, last, first." in refusal(BadSetting, chosen_blocks, 12, 6, "middle")


def deep(family):
    """A model of four blocks, of two kinds where the family has them."""
    config = pico.model(family).config
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    if kinds:
        text.layer_types = [kinds[0], kinds[1], kinds[1], kinds[0]]
    text.num_hidden_layers = 4
    torch.manual_seed(0)
    model = type(pico.model(family))(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_the_walk_over_those_blocks_does(family, tmp_path):
    model, kept = deep(family), [0, 3] if family == "modernbert" else [1, 3]
    before = tensors_of(model)
    student = fewer_blocks(model, kept)
    ids_BT = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))

    mine, walk = Walk(student), Walk(model)
    with torch.no_grad():
        expected = walk.start(ids_BT)
        for block in kept:
            expected = walk.forward(block, expected)
        found = mine.start(ids_BT)
        for block in range(2):
            found = mine.forward(block, found)

        assert torch.allclose(found.as_subclass(torch.Tensor), expected, atol=1e-6)
    assert len(mine.blocks) == 2
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(ids_BT)[0], student(ids_BT)[0])
    assert AutoConfig.from_pretrained(tmp_path).get_text_config().num_hidden_layers == 2


def test_a_student_of_all_blocks_is_the_teacher():
    model = loud("qwen3")
    student = fewer_blocks(model, [0, 1])

    assert all(torch.equal(each, model.state_dict()[n]) for n, each in student.state_dict().items())
    assert not any(
        mine.data_ptr() == its.data_ptr()
        for mine, its in zip(student.parameters(), model.parameters(), strict=True)
    )


def test_blocks_that_hang_on_their_places_are_refused_in_one_line():
    line = refusal(BadModel, fewer_blocks, pico.model("gemma4"), [1])

    assert "(num_kv_shared_layers)" in line
    assert "--student" in line


def test_attention_that_is_divided_by_the_number_of_its_block_is_one_line():
    model = pico.model("gpt2")
    model.config.scale_attn_by_inverse_layer_idx = True

    assert "(scale_attn_by_inverse_layer_idx)" in refusal(BadModel, fewer_blocks, model, [0])


def test_a_block_that_is_run_again_and_again_is_refused_in_one_line():
    line = refusal(BadModel, fewer_blocks, pico.model("albert"), [0])

    assert "AlbertForMaskedLM has blocks for another number of layers" in line
    assert "--student" in line


def test_a_block_that_is_another_at_another_place_is_one_line():
    """The first block of a ModernBERT has no norm before its attention, and all others have."""
    line = refusal(BadModel, fewer_blocks, deep("modernbert"), [1, 3])

    assert "cannot be made of its blocks 1, 3: model.layers.1.attn_norm.weight has no like" in line
    assert "--init stride or first" in line
