"""Neurons: where they are in every family, which go, and that cutting zeros out changes nothing."""

import pico
import pytest
import torch
from pressing import loud
from running import refusal

from babelpress.errors import BadModel
from babelpress.models.linears import linears, weight
from babelpress.models.reshaped import bare
from babelpress.models.walk import Walk
from babelpress.shrink import ffn
from babelpress.shrink._widths import copied, kept_units, narrowed

# Families whose configs have a number for it, and what each calls it.
KEYS = {
    "llama": "intermediate_size",
    "gemma3": "intermediate_size",
    "gpt2": "n_inner",
    "opt": "ffn_dim",
    "gpt_neox": "intermediate_size",
    "xglm": "ffn_dim",
    "bert": "intermediate_size",
    "distilbert": "hidden_dim",
    "modernbert": "intermediate_size",
    "mt5": "d_ff",
    "m2m_100": "encoder_ffn_dim",
}


def planted(family, gone):
    """A loud model in which the neurons `gone` are read by zeros, and its MLPs' readers."""
    walk = Walk(loud(family))
    width = ffn.find(family, walk, "0.75")
    for index, part in enumerate(width.parts):
        reading = weight(linears(walk.blocks[index])[part.reading])
        reading[:, part.columns_UC[gone].flatten()] = 0
    return walk, width


def cut(walk, width):
    config, text = copied(walk.model.config)
    ffn.resize(text, width)
    return narrowed(walk, [width], config)


@pytest.mark.parametrize("family", KEYS)
def test_what_nobody_reads_is_cut_out_and_every_logit_stays(family, tmp_path):
    """Any neurons that are read by zeros, gates and biases with them; saved, it loads as it is."""
    full = ffn.find(family, Walk(pico.model(family)), "1.0").units
    gone = torch.arange(1, full, 4)
    walk, width = planted(family, gone)
    ids_BT = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))

    made = cut(walk, width)

    assert torch.allclose(
        pico.passed(made, ids_BT)[0], pico.passed(walk.model, ids_BT)[0], atol=1e-5
    )
    fewer = sum(each.numel() for each in made.parameters())
    assert fewer < sum(each.numel() for each in walk.model.parameters())
    assert getattr(made.config.get_text_config(), KEYS[family]) == full - len(gone)
    made.save_pretrained(tmp_path)
    again = type(made).from_pretrained(tmp_path).eval()
    assert torch.equal(pico.passed(again, ids_BT)[0], pico.passed(made, ids_BT)[0])


def test_parameters_are_fewer_by_rows_columns_and_biases():
    """GPT-2: a neuron is a column, a bias and a row of 32, in two blocks."""
    walk, width = planted("gpt2", torch.arange(32))
    before = sum(each.numel() for each in walk.model.parameters())

    after = sum(each.numel() for each in cut(walk, width).parameters())

    assert before - after == 2 * 32 * (32 + 1 + 32)


def test_a_wrong_cut_would_be_seen():
    """Rows that do not belong to the columns: the model computes something else."""
    walk, width = planted("llama", torch.arange(1, 48, 4))
    ids_BT = torch.arange(3, 12)[None]
    part = width.parts[0]
    wrong = {name: rows.flip(0) for name, rows in part.rows.items()}
    parts = (type(part)(part.reading, part.columns_UC, wrong), *width.parts[1:])
    odd = type(width)("ffn", parts, width.units, width.kept)

    apart = pico.passed(cut(walk, odd), ids_BT)[0] - pico.passed(walk.model, ids_BT)[0]

    assert apart.abs().max() > 1e-2


def test_units_of_zeros_go_first_and_no_more_than_asked():
    weight_OI = torch.ones(2, 8)
    weight_OI[:, [1, 2, 5]] = 0
    weight_OI[0, 6] = 0

    each_U1 = torch.arange(8)[:, None]
    assert kept_units(weight_OI, each_U1, 5).tolist() == [0, 3, 4, 6, 7]
    assert kept_units(weight_OI, each_U1, 6).tolist() == [0, 1, 3, 4, 6, 7]
    pairs_U2 = torch.arange(8).view(4, 2)
    weight_OI[:, 3] = 0
    assert kept_units(weight_OI, pairs_U2, 3).tolist() == [0, 2, 3]


def test_a_model_without_weights_is_cut_in_shapes_alone():
    walk = Walk(bare(pico.model("llama")))
    width = ffn.find("tiny", walk, "0.5")

    made = cut(walk, width)

    assert made.device.type == "meta"
    assert made.state_dict()["model.layers.1.mlp.down_proj.weight"].shape == (32, 24)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("mixtral", "is a mixture of experts (MixtralForCausalLM)"),
        ("bloom", "(BloomForCausalLM) has no number for its 128 neurons"),
    ],
)
def test_a_family_without_a_number_for_it_is_one_line(family, words):
    line = refusal(BadModel, ffn.find, family, Walk(pico.model(family)), "0.5")

    assert words in line
    assert line.endswith("Leave out --ffn.")


def test_what_the_config_alone_does_not_make_is_one_line():
    walk, width = planted("llama", torch.arange(12))

    line = refusal(BadModel, narrowed, walk, [width], walk.model.config)

    assert "LlamaForCausalLM cannot be made narrower by its config alone: model.layers.0" in line
