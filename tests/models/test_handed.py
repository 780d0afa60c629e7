"""Blocks are handed what the model itself hands them, of every text, and of one another."""

from collections import UserDict
from types import SimpleNamespace
from typing import Any

import pico
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DeepseekV4Config,
    DeepseekV4ForCausalLM,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
)

from babelpress.errors import BadModel
from babelpress.models.handed import Hidden, own_of
from babelpress.models.linears import linears, weight
from babelpress.models.walk import Walk, _first
from babelpress.system.offload import on_disk

SHAPES = [(2, 11), (1, 11), (2, 11), (1, 7)]  # of four texts


def gemma4():
    """Sliding and full attention, inputs for every layer, and two blocks that compute no keys."""
    return Gemma4ForCausalLM(
        Gemma4TextConfig(
            **{**pico._GROUPED, "num_hidden_layers": 4},
            global_head_dim=16,  # type: ignore[call-arg]
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"] * 2,
            hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=pico.VOCABULARY,
            num_kv_shared_layers=2,
        )
    )


def deepseek_v4():
    """Experts of the first blocks are chosen by token ids."""
    shape = {**pico._SHAPE, "num_key_value_heads": 1}
    model = DeepseekV4ForCausalLM(
        DeepseekV4Config(
            **shape,
            head_dim=16,
            num_hash_layers=1,  # type: ignore[call-arg]
            moe_intermediate_size=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
        )
    )
    for name, table in model.named_buffers():
        if "tid2eid" in name:
            table.copy_(torch.stack([torch.randperm(4)[:2] for _ in table]))
    return model


def texts():
    lot = torch.Generator().manual_seed(3)
    return [torch.randint(3, pico.VOCABULARY, shape, generator=lot) for shape in SHAPES]


@torch.no_grad()
def own_outputs(model, walk, ids_BT):
    """What every block gives in the model's own pass."""
    seen = []
    handles = [
        block.register_forward_hook(lambda _, __, out: seen.append(_first(out).clone()))
        for block in walk.blocks
    ]
    model.base_model(ids_BT, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def check_walk(model, walk, **options):
    """All texts through a block, then the next block."""
    expected = [own_outputs(model, walk, ids_BT) for ids_BT in texts()]
    hidden = [walk.start(ids_BT, **options) for ids_BT in texts()]
    for index in range(len(walk.blocks)):
        hidden = [walk.forward(index, each, **options) for each in hidden]
        for found_BTH, its in zip(hidden, expected, strict=True):
            torch.testing.assert_close(found_BTH, its[index], rtol=1e-5, atol=1e-6)
    assert len(expected[0]) == len(walk.blocks)
    return hidden


@pytest.mark.parametrize("make", [gemma4, deepseek_v4])
def test_texts_side_by_side_get_what_is_theirs(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    walk = Walk(model)

    in_memory = check_walk(model, walk)
    on_disk_too = check_walk(model, walk, hold=on_disk(tmp_path))

    for one, other in zip(in_memory, on_disk_too, strict=True):
        assert torch.equal(one, other)


def test_what_a_block_takes_from_a_pressed_one_is_as_the_pressed_one_made_it():
    torch.manual_seed(0)
    model = gemma4().eval()
    walk = Walk(model)
    dense = check_walk(model, walk)

    for layer in linears(walk.blocks[0]).values():
        weight(layer)[:, ::3] = 0

    pressed = check_walk(model, walk)
    assert not torch.allclose(dense[0], pressed[0], atol=1e-3)


@torch.no_grad()
def test_looking_into_a_block_hands_nothing_on():
    torch.manual_seed(0)
    walk = Walk(gemma4().eval())
    hidden_BTH = walk.forward(0, walk.start(texts()[0]))
    before = [each.clone() for each in hidden_BTH.own.handed_on()]
    layers = linears(walk.blocks[1])

    weight(layers["self_attn.k_proj"]).mul_(2)
    sites = walk.sites(1, hidden_BTH)
    with walk.reaching(1, layers[sites[-1].linears[0]]) as run:
        run(hidden_BTH)

    assert len(before) == 2  # keys and values
    for one, other in zip(before, hidden_BTH.own.handed_on(), strict=True):
        assert torch.equal(one, other)
    assert len(walk.forward(1, hidden_BTH).own.handed_on()) == 4


@torch.no_grad()
def test_what_belongs_to_passed_blocks_is_dropped_and_all_bytes_are_counted():
    torch.manual_seed(0)
    walk = Walk(gemma4().eval())
    ids_BT = texts()[0]
    tokens = ids_BT.numel()

    start_BTH = walk.start(ids_BT)
    passed_BTH = walk.forward(1, walk.forward(0, start_BTH))

    assert sorted(start_BTH.own.calls) == [0, 1, 2, 3]
    assert sorted(passed_BTH.own.calls) == [2, 3]
    assert start_BTH.bytes() == tokens * 4 * (32 + 4 * 16)
    # two layers of 16 to come; keys and values of two heads of 8, and of two of 16
    assert passed_BTH.bytes() == tokens * 4 * (32 + 2 * 16 + 2 * 2 * (8 + 16))


def test_other_numbers_made_of_hidden_states_are_an_ordinary_tensor():
    walk = Walk(pico.model())
    hidden_BTH = walk.start(texts()[0])

    assert isinstance(hidden_BTH, Hidden)
    assert type(hidden_BTH[:1]) is type(hidden_BTH - hidden_BTH) is Tensor
    assert own_of(hidden_BTH[:1, :5]).shape == (1, 5)


# ---- a model that hands its blocks whatever a test says ------------------------------------


class Block(nn.Module):
    """A linear; what else it does is `also`."""

    def __init__(self, also):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.also = also

    def forward(self, hidden_BTH, **kwargs):
        return self.also(self.linear(hidden_BTH), **kwargs)


class Toy(nn.Module):
    """`hand` says what a block is handed, from the ids, all outputs so far and what it keeps."""

    def __init__(self, hand, also, blocks=3):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, 6)
        self.blocks = nn.ModuleList(Block(also) for _ in range(blocks))
        self.hand = hand
        ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
        config = SimpleNamespace(**ends, to_dict=dict, is_encoder_decoder=False)
        config.get_text_config = lambda: config
        self.config: Any = config

    @property
    def base_model(self):
        return self

    @property
    def device(self):
        return self.table.weight.device

    def get_input_embeddings(self):
        return self.table

    def forward(self, ids_BT, **_):
        hidden_BTH, outputs, keeps = self.table(ids_BT), [], {}
        for block in self.blocks:
            out = block(hidden_BTH, **self.hand(ids_BT, outputs, keeps))
            outputs.append(out)
            hidden_BTH = _first(out)


def small_texts():
    lot = torch.Generator().manual_seed(4)
    return [torch.randint(2, 40, (2, 5), generator=lot) for _ in range(3)]


@torch.no_grad()
def same_as_own(toy):
    walk = Walk(toy)
    for ids_BT in small_texts():
        expected = own_outputs(toy, walk, ids_BT)
        hidden_BTH = walk.start(ids_BT)
        for index, its_BTH in enumerate(expected):
            hidden_BTH = walk.forward(index, hidden_BTH)
            assert torch.equal(its_BTH, hidden_BTH)


def returned(hidden_BTH, before):
    own = hidden_BTH.square() if before is None else before.cos() + hidden_BTH
    return hidden_BTH + own, own


def test_what_a_block_returns_besides_is_handed_to_the_next():
    same_as_own(Toy(lambda _, outs, __: {"before": outs[-1][1] if outs else None}, returned))


def test_hidden_states_of_the_first_block_are_handed_to_all():
    def hand(_, outputs, __):
        return {"first": outputs[0] if outputs else None}

    same_as_own(Toy(hand, lambda x, first: x if first is None else x * first))


def appending(hidden_BTH, so_far, more):
    so_far.append(hidden_BTH.sin())
    more["by"]["name"] = (*more["by"].get("name", ()), so_far[-1] * 2)
    return hidden_BTH + sum(so_far) + sum(more["by"]["name"]) * len(so_far)


@pytest.mark.parametrize("kind", [dict, UserDict])
def test_containers_that_blocks_write_into_are_of_the_batch(kind):
    def hand(_, __, keeps):
        keeps.setdefault("list", [])
        keeps.setdefault("more", kind(by=kind()))
        return {"so_far": keeps["list"], "more": keeps["more"]}

    same_as_own(Toy(hand, appending))


def test_a_container_of_what_is_of_the_tokens_is_of_the_batch():
    def hand(ids_BT, _, keeps):
        return {"ids": keeps.setdefault("ids", [ids_BT[..., None].float(), {"scale": 2}])}

    def also(hidden_BTH, ids):
        ids[0] = ids[0] * ids[1]["scale"]
        return hidden_BTH * ids[0]

    same_as_own(Toy(hand, also))


class Memory:
    """What no walk can look into."""


def cloned(hidden_BTH, some):
    return hidden_BTH + some


def of_texts(ids_BT, _, __):
    return {"some": ids_BT} if ids_BT.any() else {}


def wider(_, outputs, __):
    return {"some": 2 * outputs[-1] if outputs else torch.zeros(())}


@pytest.mark.parametrize(
    ("hand", "says"),
    [
        (lambda *_: {"some": Memory()}, "argument some of blocks.0 holds a Memory"),
        (lambda *_: {"some": [Memory()]}, "argument some of blocks.0 holds a Memory"),
        (wider, "argument some of blocks.1 is computed from what blocks before it gave"),
        (of_texts, "blocks.0 is handed other arguments with another text"),
    ],
)
def test_what_is_not_understood_is_refused_by_name_and_at_once(hand, says):
    def also(hidden_BTH, some=None):
        return hidden_BTH

    with pytest.raises(BadModel) as refused:
        Walk(Toy(hand, also))  # type: ignore[arg-type]

    message = str(refused.value)
    assert message.startswith("Toy cannot be walked block by block:")
    assert says in message
    assert "\n" not in message


def test_a_block_that_changes_what_it_was_handed_is_refused():
    table = torch.zeros(6)

    def also(hidden_BTH, some):
        some += 1
        return hidden_BTH + some

    walk = Walk(Toy(lambda *_: {"some": table}, also))  # type: ignore[arg-type]
    with pytest.raises(BadModel, match=r"blocks\.0 changes in place what it is handed: Toy"):
        walk.forward(0, walk.start(small_texts()[0]))


def test_a_block_that_writes_what_nobody_knows_is_refused():
    def also(hidden_BTH, box):
        box["memory"] = Memory()
        return hidden_BTH

    walk = Walk(Toy(lambda _, __, keeps: {"box": keeps.setdefault("box", {})}, also))  # type: ignore[arg-type]
    with pytest.raises(BadModel, match=r"blocks\.0 writes a Memory for other blocks"):
        walk.forward(0, walk.start(small_texts()[0]))


def test_a_model_that_cannot_read_text_alone_is_refused_in_one_line():
    def hand(*_):
        raise ValueError("give pixel_values\nor images")

    with pytest.raises(BadModel, match=r"^Toy cannot be run on text alone: give pixel_values$"):
        Walk(Toy(hand, cloned))  # type: ignore[arg-type]
