"""Groups of attention heads: where they are, and that cutting zeros out changes nothing."""

import pico
import pytest
import small
import torch
from pressing import loud
from running import refusal
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from babelpress.errors import BadModel, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.walk import Walk
from babelpress.shrink import heads
from babelpress.shrink._widths import copied, narrowed

FAMILIES = ("llama", "qwen3", "gemma3", "mistral", "qwen3_moe")  # that state how wide a head is


def model(family, **values):
    """A model with four key and value heads of 8 and two heads of queries on each, 48 wide."""
    config = pico.model(family).config
    text = config.get_text_config()
    text.hidden_size = 48  # which eight heads divide, and six
    text.num_attention_heads, text.num_key_value_heads = 8, 4
    for name, value in values.items():
        setattr(text, name, value)
    torch.manual_seed(0)
    made = type(pico.model(family))(config).eval()
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made


def cut(walk, width):
    config, text = copied(walk.model.config)
    heads.resize(text, width)
    return narrowed(walk, [width], config)


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_that_nobody_reads_are_cut_out_and_every_logit_stays(family, tmp_path):
    walk = Walk(model(family))
    width = heads.find(family, walk, "0.75")
    for index, gone in enumerate((2, 0)):  # another group in every block
        part = width.parts[index]
        weight(linears(walk.blocks[index])[part.reading])[:, part.columns_UC[gone]] = 0
    ids_BT = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))

    made = cut(walk, width)

    assert torch.allclose(
        pico.passed(made, ids_BT)[0], pico.passed(walk.model, ids_BT)[0], atol=1e-5
    )
    text = made.config.get_text_config()
    assert (text.num_attention_heads, text.num_key_value_heads, text.head_dim) == (6, 3, 8)
    made.save_pretrained(tmp_path)
    again = type(made).from_pretrained(tmp_path).eval()
    assert torch.equal(pico.passed(again, ids_BT)[0], pico.passed(made, ids_BT)[0])
    assert '"head_dim": 8' in (tmp_path / "config.json").read_text()


def test_parameters_are_fewer_by_queries_keys_values_and_outputs():
    """Of a group: two heads of queries, a key, a value and two heads of outputs, of 8 by 48."""
    walk = Walk(model("llama"))
    width = heads.find("tiny", walk, "6")
    for index, part in enumerate(width.parts):
        weight(linears(walk.blocks[index])[part.reading])[:, part.columns_UC[1]] = 0
    before = sum(each.numel() for each in walk.model.parameters())

    after = sum(each.numel() for each in cut(walk, width).parameters())

    assert before - after == 2 * (2 + 1 + 1 + 2) * 8 * 48


def test_a_number_that_transformers_refuses_is_one_line_with_one_that_it_takes():
    """Llama and Gemma want heads that divide the hidden size; Qwen does not mind."""
    line = refusal(BadSetting, heads.find, "t", Walk(model("llama", hidden_size=32)), "0.75")

    assert line == (
        "--heads 0.75 of 8 attention heads makes 6, which LlamaForCausalLM refuses: The hidden "
        "size (32) is not a multiple of the number of attention heads (6). Give --heads 4."
    )
    assert heads.find("t", Walk(model("qwen3", hidden_size=32)), "0.75").after == 6


def test_a_width_that_only_follows_from_the_number_of_heads_is_stated():
    """Llama says hidden size by heads where nobody says more: with fewer it would be wider."""
    given = {**small.SHAPE, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4}
    del given["head_dim"]
    config = LlamaConfig(**given)
    walk = Walk(LlamaForCausalLM(config).eval())
    width = heads.find("tiny", walk, "0.5")

    made = cut(walk, width)

    assert (made.config.head_dim, made.config.num_attention_heads) == (8, 2)
    assert made.model.layers[0].self_attn.q_proj.weight.shape == (16, 32)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("gpt2", "(GPT2LMHeadModel) does not state how wide a head is"),
        ("bert", "(BertForMaskedLM) does not state how wide a head is"),
        ("bloom", "does not state how wide a head is"),
        ("t5", "(T5ForConditionalGeneration) is an encoder-decoder"),
        ("gemma4", "has no linears of queries, keys and values for 4 heads of 8 in 2 groups"),
    ],
)
def test_heads_that_no_engine_takes_are_one_line(family, words):
    line = refusal(BadModel, heads.find, family, Walk(pico.model(family)), "0.5")

    assert words in line
    assert "Leave out --heads." in line


def test_a_width_that_the_config_leaves_to_be_derived_is_one_line():
    """Qwen 2: nothing says how wide a head is but the number of heads."""
    config = Qwen2Config(**{**small.SHAPE, "head_dim": None})
    del config.head_dim
    walk = Walk(Qwen2ForCausalLM(config).eval())

    assert "does not state" in refusal(BadModel, heads.find, "tiny", walk, "0.5")


def test_one_group_alone_is_one_line():
    """As in Gemma 3 270M: four heads on one key and value."""
    walk = Walk(model("gemma3", num_key_value_heads=1, num_attention_heads=4))

    line = refusal(BadModel, heads.find, "tiny", walk, "0.5")

    assert "tiny (Gemma3ForCausalLM) has one group of attention: its 4 heads share one key" in line


def test_fewer_heads_than_a_group_has_are_one_line():
    line = refusal(BadSetting, heads.find, "tiny", Walk(loud("llama")), "1")

    assert "--heads 1 of 4 attention heads is fewer than the heads of a group, 2" in line
    assert line.endswith("Give --heads 2 or more.")
