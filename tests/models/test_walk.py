"""Every family is walked block by block as transformers would, and looked into."""

from typing import Any

import pico
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from babelpress.errors import BadModel
from babelpress.models import walk as models
from babelpress.models.experts import Slice
from babelpress.models.linears import linears, set_weight, watched, weight
from babelpress.models.open import open_model
from babelpress.models.sites import find_sites
from babelpress.models.stacks import find_stacks
from babelpress.models.walk import Walk

every_family = pytest.mark.parametrize("family", pico.EVERY)

GROUPED = [
    ("self_attn.q_proj+k_proj+v_proj", 32),
    ("self_attn.o_proj", 32),
    ("mlp.gate_proj+up_proj", 32),
    ("mlp.down_proj", 48),
]


ENCODED = [
    ("attention.self.query+key+value", 32),
    ("attention.output.dense", 32),
    ("intermediate.dense", 32),
    ("output.dense", 48),
]


def routed(experts, inner):
    """A block whose experts stand for the linears after attention."""
    kinds = (("gate_up_proj", 32), ("down_proj", inner))
    return GROUPED[:2] + [
        (f"mlp.experts.{expert}.{name}", inputs)
        for expert in range(experts)
        for name, inputs in kinds
    ]


SITES = {
    "llama": GROUPED,
    "qwen3": GROUPED,
    "gemma3": GROUPED,
    "gemma4": [
        GROUPED[0],
        ("self_attn.o_proj", 64),
        *GROUPED[2:],
        ("per_layer_input_gate", 32),
        ("per_layer_projection", 16),
    ],
    "mistral": GROUPED,
    "bert": ENCODED,
    "xlm_roberta": ENCODED,
    "distilbert": [
        ("attention.q_lin+k_lin+v_lin", 32),
        ("attention.out_lin", 32),
        ("ffn.lin1", 32),
        ("ffn.lin2", 48),
    ],
    "albert": [
        ("albert_layers.0.attention.query+key+value", 32),
        ("albert_layers.0.attention.dense", 32),
        ("albert_layers.0.ffn", 32),
        ("albert_layers.0.ffn_output", 48),
    ],
    "deberta_v2": [
        ("attention.self.query_proj+key_proj+value_proj", 32),
        *ENCODED[1:],
    ],
    "modernbert": [("attn.Wqkv", 32), ("attn.Wo", 32), ("mlp.Wi", 32), ("mlp.Wo", 48)],
    "bloom": [
        ("self_attention.query_key_value", 32),
        ("self_attention.dense", 32),
        ("mlp.dense_h_to_4h", 32),
        ("mlp.dense_4h_to_h", 128),
    ],
    "xglm": [
        ("self_attn.q_proj+k_proj+v_proj", 32),
        ("self_attn.out_proj", 32),
        ("fc1", 32),
        ("fc2", 48),
    ],
    "gpt2": [("attn.c_attn", 32), ("attn.c_proj", 32), ("mlp.c_fc", 32), ("mlp.c_proj", 128)],
    "gpt_neox": [
        ("attention.query_key_value", 32),
        ("attention.dense", 32),
        ("mlp.dense_h_to_4h", 32),
        ("mlp.dense_4h_to_h", 48),
    ],
    "opt": [
        ("self_attn.q_proj+k_proj+v_proj", 32),
        ("self_attn.out_proj", 32),
        ("fc1", 32),
        ("fc2", 48),
    ],
    "qwen3_moe": routed(4, 16),
    "mixtral": routed(3, 48),
}


T5_ENCODER = [
    ("layer.0.SelfAttention.q+k+v", 32),
    ("layer.0.SelfAttention.o", 32),
    ("layer.1.DenseReluDense.wi", 32),
    ("layer.1.DenseReluDense.wo", 48),
]
# Queries read the target, keys and values what the encoder made.
T5_DECODER = [
    *T5_ENCODER[:2],
    ("layer.1.EncDecAttention.q", 32),
    ("layer.1.EncDecAttention.k+v", 32),
    ("layer.1.EncDecAttention.o", 32),
    ("layer.2.DenseReluDense.wi", 32),
    ("layer.2.DenseReluDense.wo", 48),
]
BART_DECODER = [
    *SITES["xglm"],
    ("encoder_attn.q_proj", 32),
    ("encoder_attn.k_proj+v_proj", 32),
    ("encoder_attn.out_proj", 32),
]


def gated(sites):
    """With a gate beside what goes up."""
    return [(name.replace(".wi", ".wi_0+wi_1"), inputs) for name, inputs in sites]


OF_BOTH = {
    "t5": (T5_ENCODER, T5_DECODER),
    "mt5": (gated(T5_ENCODER), gated(T5_DECODER)),
    **dict.fromkeys(("m2m_100", "marian", "mbart"), (SITES["xglm"], BART_DECODER)),
}


# A block of Gemma 4 that takes keys and values from another has no linears for them.
LAST = SITES | {"gemma4": [("self_attn.q_proj", 32), *SITES["gemma4"][1:]]}


def some_ids(sequences=3, length=11):
    """Longer than the sliding windows of the pico models."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, pico.VOCABULARY, (sequences, length), generator=generator)


def refusal(kind, name, **options):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        open_model(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- walking -------------------------------------------------------------------------------


def outputs_of(model, blocks, ids_BT):
    """What every block gives in the model's own pass, when it runs last."""
    outputs = {}
    handles = [
        block.register_forward_hook(
            lambda _, __, out, index=index: outputs.update({index: models._first(out)})
        )
        for index, block in enumerate(blocks)
    ]
    pico.passed(model, ids_BT)
    for handle in handles:
        handle.remove()
    return [outputs[index] for index in range(len(blocks))]


# Two sums of 32 products differ by 2·32·2⁻²⁴·Σ|x·w| at most, which is 0.8 at most here; what comes
# after passes on less than all of it (gates are below 0.5, Σ|w| below 1), and there are two blocks.
ROUNDING = 2 * 2 * 32 * 2**-24 * 0.8


@every_family
def test_walking_block_by_block_is_the_model_s_own_pass(family):
    model = pico.model(family)
    walk = Walk(model)
    for ids_BT in (some_ids(), some_ids(1, 5)):
        passed = outputs_of(model, walk.blocks, ids_BT)
        hidden_BTH = walk.start(ids_BT)
        for index, expected_BTH in enumerate(passed):
            with torch.no_grad():
                hidden_BTH = walk.run(index, hidden_BTH)
            if family in pico.EXPERTS:  # computed by us, in products of other shapes
                torch.testing.assert_close(hidden_BTH, expected_BTH, rtol=0, atol=ROUNDING)
            else:
                assert torch.equal(expected_BTH, hidden_BTH)
            hidden_BTH = walk.onward(index, hidden_BTH)
        assert len(passed) == (4 if family in pico.ENCODER_DECODERS else 2)


@every_family
def test_sites_are_the_linears_that_read_one_tensor(family):
    walk = Walk(pico.model(family))
    hidden_BTH = walk.start(some_ids())
    if family in pico.ENCODER_DECODERS:
        every = [each for each in OF_BOTH[family] for _ in range(2)]
    else:
        every = [SITES[family], LAST[family]]
    for index, expected in enumerate(every):
        sites = walk.sites(index, hidden_BTH)
        hidden_BTH = walk.forward(index, hidden_BTH)

        assert sorted(expected) == sorted((site.name, site.inputs) for site in sites)
        assert sorted(name for site in sites for name in site.linears) == sorted(
            linears(walk.blocks[index])
        )


@every_family
def test_looking_leaves_no_hook_behind(family):
    model = pico.model(family)
    walk = Walk(model)
    walk.sites(1, walk.forward(0, walk.start(some_ids())))

    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


class Pair(nn.Module):
    """Two linears; `between` is what happens to the first one's input before the second runs."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.between = between

    def forward(self, x):
        return self.first(x) + self.second(self.between(x))


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda x: x, [("first", "second")]),
        (lambda x: x.clone(), [("first",), ("second",)]),
        (lambda x: x.mul_(2), [("first",), ("second",)]),
    ],
    ids=["the same tensor", "an equal one", "changed in place"],
)
def test_one_site_means_one_tensor_not_one_address(between, expected):
    block = Pair(between)

    sites = find_sites(block, lambda: block(torch.ones(3, 4)), "blocks")

    assert expected == [site.linears for site in sites]


def test_a_linear_that_never_runs_or_runs_twice_is_named():
    silent, twice = Pair(lambda x: x), Pair(lambda x: x)
    with pytest.raises(BadModel, match=r"the linears of blocks .* not so: second"):
        find_sites(silent, lambda: silent.first(torch.ones(3, 4)), "blocks")
    with pytest.raises(BadModel, match=r"not so: first \(2 times\), second \(2 times\)"):
        find_sites(twice, lambda: twice(twice(torch.ones(3, 4))), "blocks")


class Beside(nn.Module):
    """Two linears; the first, or both, read a table too, or nothing else."""

    def __init__(self, *on_table):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.on_table = on_table

    def forward(self, x, table):
        for name in self.on_table:
            self.get_submodule(name)(table)
        return self.first(x) + (0 if self.on_table == ("second",) else self.second(x))


@pytest.mark.parametrize("rows", [3, 5], ids=["as many rows as tokens", "more"])
def test_what_is_the_same_whatever_the_text_is_not_read(rows):
    lot = torch.Generator().manual_seed(0)
    x, other = torch.randn(2, 3, 4, generator=lot)
    table = torch.randn(rows, 4, generator=lot)
    block = Beside("first")

    found = find_sites(block, lambda: block(x, table), "blocks", lambda: block(other, table))

    assert [(site.linears, site.reads) for site in found] == [(("first", "second"), (False, True))]
    block = Beside("second")
    with pytest.raises(BadModel, match=r"must each read the text once .* second \((0|1) times\)"):
        find_sites(
            block,
            lambda: [block(x, table), block.second(table)],
            "blocks",
            lambda: [block(other, table), block.second(table)],
        )


def test_an_encoder_decoder_with_other_blocks_is_refused_with_what_was_found():
    model = pico.model("t5")
    model.extra = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])
    with pytest.raises(BadModel, match=r"encoder\.block \(2 x T5Block\), decoder\.block") as found:
        Walk(model)
    assert "it needs one such list in its encoder and one in its decoder" in str(found.value)


def test_a_model_without_repeated_blocks_is_refused():
    model: Any = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    with pytest.raises(BadModel, match=r"Sequential cannot be walked: .* has none, and it needs"):
        Walk(model)


def test_blocks_that_do_not_read_one_another_are_refused():
    model = pico.model()
    walk = Walk(model)
    walk.blocks[1].register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))

    with pytest.raises(BadModel, match=r"model\.layers\.1 does not read what the block before"):
        walk.forward(0, walk.start(some_ids()))


def test_blocks_that_a_pass_leaves_out_are_noticed():
    model = pico.model()
    model.config.num_hidden_layers = 1

    with pytest.raises(BadModel, match=r"model\.layers has 2 blocks, but a pass ran 1"):
        Walk(model)


def test_blocks_that_run_again_after_others_are_refused():
    model: Any = pico.model("albert")
    encoder = model.albert.encoder
    first, second = encoder.albert_layer_groups
    encoder.forward = lambda x, mask, **_: _after(
        [first, second, first, second], encoder.embedding_hidden_mapping_in(x), mask
    )

    with pytest.raises(BadModel, match=r"albert_layer_groups in the order 0, 1, 0, 1: only"):
        Walk(model)


def _after(blocks, hidden_BTH, mask):
    for block in blocks:
        hidden_BTH = block(hidden_BTH, mask)
    return BaseModelOutput(last_hidden_state=hidden_BTH)


# ---- weights -------------------------------------------------------------------------------


@every_family
def test_a_weight_is_outputs_by_inputs_in_every_kind_of_linear(family):
    for linear in linears(Walk(pico.model(family)).blocks[0]).values():
        if isinstance(linear, Slice):
            continue
        module: Any = linear
        inputs = weight(linear).shape[1]
        x_TI = torch.randn(5, inputs)
        bias = 0 if module.bias is None else module.bias

        torch.testing.assert_close(x_TI @ weight(linear).T + bias, module(x_TI))

        set_weight(linear, 3 * weight(linear))
        torch.testing.assert_close(x_TI @ weight(linear).T + bias, module(x_TI))


# ---- a block, and no further ---------------------------------------------------------------


@every_family
@torch.no_grad()
def test_a_block_can_be_run_until_its_last_linear_is_reached(family):
    walk = Walk(pico.model(family))
    hidden_BTH = walk.start(some_ids())
    layers = linears(walk.blocks[0])
    last = layers[walk.sites(0, hidden_BTH)[-1].linears[0]]
    walk.prepare(0, hidden_BTH)
    seen, done = [], []
    walk.blocks[0].register_forward_hook(lambda *_: done.append(1))

    with watched({last: lambda x_RI, _: seen.append(x_RI)}), walk.reaching(0, last) as run:
        run(hidden_BTH)

    assert seen
    assert bool(done) == (family in (*pico.EXPERTS, *pico.TWICE))


@every_family
def test_only_the_first_block_of_a_stack_runs_and_once_to_see_what_blocks_are_handed(family):
    model = pico.model(family)
    ran = []
    stacks = find_stacks(model)
    for index, block in enumerate(block for stack in stacks for block in stack.blocks):
        every = [m for m in block.modules() if isinstance(m, nn.Linear) or hasattr(m, "nf")]
        every[-1].register_forward_pre_hook(lambda *_, index=index: ran.append(index))

    walk = Walk(model)
    walk.prepare(0, walk.start(some_ids()))

    assert ran == [0, 2][: len(stacks)]
    assert not any("forward" in vars(block) for block in walk.blocks)
