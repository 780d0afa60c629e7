"""Reorders: found where they change nothing, refused where they would."""

from copy import deepcopy

import pico
import pytest
import torch
from pressing import loud, tensors_of

from babelpress.models.linears import linears, weight
from babelpress.models.reorders import find_reorders
from babelpress.models.walk import Walk

LENGTH = 13
# Sites by what they read: the product of the MLP, and attention values where these have linears.
MLP = {
    "llama": "mlp.down_proj",
    "qwen3": "mlp.down_proj",
    "gemma3": "mlp.down_proj",
    "gemma4": "mlp.down_proj",
    "mistral": "mlp.down_proj",
    "bloom": "mlp.dense_4h_to_h",
    "xglm": "fc2",
    "gpt2": "mlp.c_proj",
    "gpt_neox": "mlp.dense_4h_to_h",
    "opt": "fc2",
    "bert": "output.dense",
    "xlm_roberta": "output.dense",
    "distilbert": "ffn.lin2",
    "modernbert": "mlp.Wo",
    "albert": "albert_layers.0.ffn_output",
    "deberta_v2": "output.dense",
    "t5": "layer.1.DenseReluDense.wo",
    "mt5": "layer.1.DenseReluDense.wo",
    "m2m_100": "fc2",
    "marian": "fc2",
    "mbart": "fc2",
}
VALUES = {
    "llama": ("self_attn.o_proj", 2),
    "qwen3": ("self_attn.o_proj", 2),
    "bloom": ("self_attention.dense", 4),
    "gpt2": ("attn.c_proj", 4),
    "gpt_neox": ("attention.dense", 4),
    "opt": ("self_attn.out_proj", 4),
    "xglm": ("self_attn.out_proj", 4),
    "bert": ("attention.output.dense", 4),
    "xlm_roberta": ("attention.output.dense", 4),
    "distilbert": ("attention.out_lin", 4),
    "modernbert": ("attn.Wo", 4),
    "albert": ("albert_layers.0.attention.dense", 4),
    "deberta_v2": ("attention.output.dense", 4),
    "t5": ("layer.0.SelfAttention.o", 4),
    "mt5": ("layer.0.SelfAttention.o", 4),
    "m2m_100": ("self_attn.out_proj", 4),
    "marian": ("self_attn.out_proj", 4),
    "mbart": ("self_attn.out_proj", 4),
}


def walked(family):
    walk = Walk(loud(family))
    # biases are zero when they are made; large ones would leave attention nothing to tell apart
    with torch.no_grad():
        for name, parameter in walk.model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    return walk, torch.arange(3, 3 + LENGTH)[None]


def logits(walk, ids_BT):
    """Of a pair in float64: T5 does not scale its scores, and makes more of what float32 rounds."""
    pair = walk.model.config.is_encoder_decoder
    return pico.passed(deepcopy(walk.model).double() if pair else walk.model, ids_BT)[0]


def drawn(reorder, seed=1):
    """An order that is allowed, drawn by lot."""
    lot = torch.Generator().manual_seed(seed)
    order_I = torch.arange(reorder.site.inputs)
    for parts_GS in reorder.parts_GS:
        order_I[parts_GS] = parts_GS[:, torch.randperm(parts_GS.shape[1], generator=lot)]
    return order_I


@pytest.mark.parametrize("family", pico.DENSE)
def test_inputs_of_an_mlp_may_stand_in_any_order(family):
    walk, ids_BT = walked(family)

    found = find_reorders(walk, 0, walk.start(ids_BT), 4)

    (parts_GS,) = found[MLP[family]].parts_GS
    assert parts_GS.tolist() == [list(range(found[MLP[family]].site.inputs))]


@pytest.mark.parametrize("family", VALUES)
def test_attention_values_move_inside_heads_and_alike_where_heads_share_them(family):
    name, heads_of_values = VALUES[family]
    walk, ids_BT = walked(family)

    found = find_reorders(walk, 1, walk.start(ids_BT), 4)[name]

    assert len(found.parts_GS) == heads_of_values
    assert all(parts_GS.shape == (4 // heads_of_values, 8) for parts_GS in found.parts_GS)
    assert sorted(torch.cat([p.flatten() for p in found.parts_GS]).tolist()) == list(range(32))


@pytest.mark.parametrize("family", pico.laws(pico.DENSE))
def test_a_reordered_model_gives_the_logits_it_gave(family):
    walk, ids_BT = walked(family)
    old, before = tensors_of(walk.model), logits(walk, ids_BT)
    hidden_BTH = walk.start(ids_BT)
    for index in range(len(walk.blocks)):
        for reorder in find_reorders(walk, index, hidden_BTH, 4).values():
            reorder.apply(walk.blocks[index], drawn(reorder))
        hidden_BTH = walk.forward(index, hidden_BTH)

    after = logits(walk, ids_BT)

    assert (after - before).norm() < 2e-6 * before.norm()
    new = tensors_of(walk.model)
    assert sum(not torch.equal(old[name], new[name]) for name in old) >= 4
    for name in old:  # nothing but places changed
        assert torch.equal(old[name].flatten().sort().values, new[name].flatten().sort().values)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_an_order_means_what_it_says(family):
    walk, ids_BT = walked(family)
    reorder = find_reorders(walk, 0, walk.start(ids_BT), 4)[MLP[family]]
    order_I = drawn(reorder)
    layers = linears(walk.blocks[0])
    seen = []
    reader = layers[MLP[family]]
    reader.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))  # type: ignore
    old_OI = weight(reader).clone()

    walk.forward(0, walk.start(ids_BT))
    reorder.apply(walk.blocks[0], order_I)
    walk.forward(0, walk.start(ids_BT))

    torch.testing.assert_close(seen[1], seen[0][..., order_I], rtol=1e-5, atol=1e-6)
    assert torch.equal(weight(reader), old_OI[:, order_I])


@pytest.mark.parametrize("family", [*pico.EVERY])
def test_what_reads_the_residual_stream_or_experts_is_left_alone_and_so_is_the_model(family):
    walk, ids_BT = walked(family)
    before = tensors_of(walk.model)
    hidden_BTH = walk.start(ids_BT)

    found = find_reorders(walk, 0, hidden_BTH, 4)

    sites = {site.name for site in walk.sites(0, hidden_BTH)}
    assert found.keys() <= {MLP.get(family), VALUES.get(family, ("self_attn.o_proj",))[0]}
    assert len(sites) > len(found)
    assert all(torch.equal(before[name], each) for name, each in walk.model.state_dict().items())


def test_parts_are_whole_groups():
    """Heads of 8 have no groups of 16, and an MLP of 48 none of 32."""
    walk, ids_BT = walked("llama")
    hidden_BTH = walk.start(ids_BT)

    assert find_reorders(walk, 0, hidden_BTH, 16).keys() == {"mlp.down_proj"}
    assert find_reorders(walk, 0, hidden_BTH, 32).keys() == set()
