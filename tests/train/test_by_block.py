"""Block by block: parts are found, errors by hand, every family learns, larger than memory too."""

from functools import partial
from pathlib import Path
from typing import Any

import pico
import pytest
import torch

from babelpress.errors import BadSetting
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.walk import Walk
from babelpress.moments.gather import batches
from babelpress.numerics.grids import Codes, Grid
from babelpress.numerics.patterns import parse
from babelpress.recover.blocks import loss
from babelpress.system.offload import in_memory, on_disk
from babelpress.system.progress import silent
from babelpress.text.token_blocks import TokenBlocks
from babelpress.train import by_block
from babelpress.train.by_block import ByBlock
from babelpress.train.learners import Integers, Weights

SHARES = {"swh_Latn": 0.5, "yor_Latn": 0.5}


def text(seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for tag in SHARES:
        ids_BT = torch.randint(6, 200, (6, 10), generator=generator)
        found[tag] = TokenBlocks(tag, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
    return found


def model(family):
    found: Any = pico.model(family)
    for each in found.parameters():
        each.data.mul_(3)
    return found


def pruned(family, kind="0.5"):
    """The same, its linears pruned by magnitude."""
    found = model(family)
    for block in Walk(found).blocks:
        for each in linears(block).values():
            set_weight(each, weight(each) * parse(kind).keep(weight(each).abs()))
    return found


def weights(tune, _index, block, _dense):
    return Weights.of(block, tune, pruned=True, fixed=(), rank=2, seed=0, rate=0.001)


def made(own, dense, place, learner, **more):
    given = {"steps": 20, "batch": 8, "seed": 3, "hold": in_memory, "settled": lambda *_: None}
    return ByBlock(
        walk=Walk(own), dense=Walk(dense.requires_grad_(False)), loss_of=loss, learner=learner,
        shares=SHARES, place=Path(place), **(given | more),
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3", "bloom", "qwen3_moe", "bert"])
def test_blocks_of_every_shape_come_nearer_to_the_dense_ones_and_keep_their_zeros(family, tmp_path):
    own = pruned(family)
    before = {name: each == 0 for name, each in own.named_parameters() if each.ndim > 1}
    found = made(own, model(family), tmp_path, partial(weights, "weights"))

    found.repair(text(), text(1), silent)

    assert [each.block for each in found.done] == [0, 1]
    much = 0.99 if family == "qwen3_moe" else 0.95  # where a token reaches half of the experts
    assert sum(e.after for e in found.done) < much * sum(e.before for e in found.done)
    assert all(each.after <= each.before for each in found.done)
    inside = {id(p) for block in found.walk.blocks for p in block.parameters()}
    for name, each in own.named_parameters():
        if id(each) in inside and each.ndim > 1 and "router" not in name:
            assert torch.equal((each == 0) & before[name], before[name]), name


def test_attention_and_mlp_are_parts_where_they_are_modules(tmp_path):
    parts = {
        family: made(pruned(family), model(family), tmp_path, partial(weights, "norms"))._parts(0)
        for family in ("llama", "gpt2", "opt", "albert")
    }

    assert parts == {
        "llama": ["self_attn", "mlp"],
        "gpt2": ["attn", "mlp"],
        "opt": [],  # the linears of its MLP are no module
        "albert": [],  # a block runs twice
    }


def test_the_error_of_a_block_is_that_of_its_parts_on_the_same_input(tmp_path):
    own, dense = pruned("llama"), model("llama")
    found = made(own, dense, tmp_path, partial(weights, "weights"))
    (batch,) = batches(found.walk, {"swh_Latn": text()["swh_Latn"]})
    found.walk.prepare(0, batch.hidden_BTH)
    found.dense.prepare(0, batch.hidden_BTH)

    error = found._loss(0, batch, ["self_attn", "mlp"]).item()

    mine, its = own.model.layers[0], dense.model.layers[0]
    hidden_BTH = own.model.embed_tokens(batch_ids := text()["swh_Latn"].ids_BT)
    places = torch.arange(batch_ids.shape[1])[None]
    around = own.model.rotary_emb(hidden_BTH, places)
    causal = torch.full((10, 10), -torch.inf).triu(1)[None, None]
    normed = its.input_layernorm(hidden_BTH)

    def attended(block):
        return block.self_attn(normed, position_embeddings=around, attention_mask=causal)[0]

    between = its.post_attention_layernorm(hidden_BTH + attended(its))
    errors = [
        loss(attended(mine), attended(its)),
        loss(mine.mlp(between), its.mlp(between)),
    ]
    assert error == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_a_killed_walk_goes_on_behind_the_block_that_is_done(tmp_path):
    whole, first, second = (pruned("llama") for _ in range(3))
    for own, place in ((whole, "whole"), (first, "run")):
        (tmp_path / place).mkdir()
        found = made(own, model("llama"), tmp_path / place, partial(weights, "low-rank"))
        if own is first:
            found.walk.blocks, both = found.walk.blocks[:1], found.walk.blocks
            found.repair(text(), text(1), silent)
            found.walk.blocks = both
        else:
            found.repair(text(), text(1), silent)
    again = made(second, model("llama"), tmp_path / "run", partial(weights, "low-rank"))

    again.repair(text(), text(1), silent)

    assert len(again.done) == 2
    for (name, mine), its in zip(second.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, its), name


def test_hidden_states_and_blocks_may_lie_on_disk_and_weights_may_be_bfloat16(tmp_path):
    own, dense = pruned("llama").bfloat16(), model("llama").bfloat16()
    zeros = own.model.layers[0].mlp.up_proj.weight == 0
    hold = on_disk(tmp_path)
    found = made(own, dense, tmp_path, partial(weights, "weights"), hold=hold)

    found.repair(text(), text(1), silent)

    assert all(each.after < 0.95 * each.before for each in found.done)
    assert own.dtype == torch.bfloat16
    assert torch.equal(own.model.layers[0].mlp.up_proj.weight == 0, zeros)


def test_what_does_no_better_apart_is_not_kept(tmp_path):
    own = pruned("llama")
    before = {name: each.clone() for name, each in own.named_parameters()}

    def wild(_index, block, _dense):
        return Weights.of(block, "weights", pruned=True, fixed=(), rank=2, seed=0, rate=50.0)

    found = made(own, model("llama"), tmp_path, wild)
    found.repair(text(), text(1), silent)

    assert all(each.after == each.before for each in found.done)
    assert all(torch.equal(each, before[name]) for name, each in own.named_parameters())
    own.model.layers[0].mlp.up_proj.weight.data[0] = torch.nan
    (tmp_path / "next").mkdir()
    with pytest.raises(BadSetting, match="is nan at step 0: lower --rate"):
        made(own, model("llama"), tmp_path / "next", wild).repair(text(), text(1), silent)


GRID = Grid(bits=2, group=8)


def coded(linear):
    old = weight(linear)
    scale_OG, zero_OG = GRID.fit_groups(old, "here")
    wide = (each.repeat_interleave(8, 1) for each in (scale_OG, zero_OG))
    found = Codes.of(GRID, GRID.code(old, *wide), scale_OG, zero_OG)
    set_weight(linear, found.dequantize())
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_integers_learn_and_stay_on_their_grid(family, tmp_path):
    own, settled = pruned(family), {}
    codes = [
        {name: coded(each) for name, each in linears(block).items()} for block in Walk(own).blocks
    ]
    zeros = [weight(linears(block)[name]) == 0 for block in Walk(own).blocks for name in codes[0]]

    def learner(index, block, dense):
        return Integers.of(block, dense, codes[index], pruned=True, rate=1 / 20)

    found = made(own, model(family), tmp_path, learner, steps=20, whole=True,
                 settled=settled.__setitem__)  # fmt: skip
    found.repair(text(), text(1), silent)

    assert all(each.after < 0.98 * each.before for each in found.done)
    moved = 0
    for index, block in enumerate(found.walk.blocks):
        for name, each in linears(block).items():
            assert torch.equal(weight(each), settled[index][name].dequantize())
            assert int(settled[index][name].codes_OI.max()) <= GRID.highest
            moved += int((settled[index][name].codes_OI != codes[index][name].codes_OI).sum())
    assert moved > 0
    after = [weight(linears(block)[name]) == 0 for block in Walk(own).blocks for name in codes[0]]
    assert all(bool(now[old].all()) for old, now in zip(zeros, after, strict=True))
    again_codes: dict[int, Any] = {}
    again = made(pruned(family), model(family), tmp_path, learner, whole=True,
                 settled=again_codes.setdefault)  # fmt: skip
    again.repair(text(), text(1), silent)  # from what was written
    for name, each in settled[1].items():
        assert torch.equal(again_codes[1][name].codes_OI, each.codes_OI)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_norms_before_a_part_learn_and_what_changes_no_part_is_not_counted(family, tmp_path):
    own, dense = model(family), model(family)
    for block in Walk(own).blocks:
        for name, each in block.named_parameters():
            if each.ndim == 1:
                each.data.add_(0.3 if name.startswith("input") else 0.1)
    before = {name: each.clone() for name, each in own.named_parameters()}

    found = made(own, dense, tmp_path, partial(weights, "norms"))
    found.repair(text(), text(1), silent)

    assert all(each.after < 0.95 * each.before for each in found.done)
    moved = [name for name, each in own.named_parameters() if not torch.equal(each, before[name])]
    assert {name for name in moved if ".input_layernorm" in name} == {
        f"model.layers.{index}.input_layernorm.weight" for index in (0, 1)
    }
    sizes = {name: each.numel() for name, each in own.named_parameters()}
    assert sum(each.trained for each in found.done) == sum(sizes[name] for name in moved)
    beyond = [name for name in sizes if "post_feedforward" in name]
    assert not set(beyond) & set(moved)
    assert len(beyond) == (2 if family == "gemma3" else 0)


def test_tokens_that_blocks_learnt_from_are_counted_and_kept(tmp_path):
    found = made(pruned("llama"), model("llama"), tmp_path, partial(weights, "norms"), steps=3)
    found.repair(text(), text(1), silent)
    again = made(pruned("llama"), model("llama"), tmp_path, partial(weights, "norms"), steps=3)
    again.repair(text(), text(1), silent)

    for each, its in zip(found.done, again.done, strict=True):
        drawn = sum(each.read.values())
        assert 3 * 2 * 20 <= drawn <= 3 * 2 * 40  # two packs a step, of two or of four sequences
        assert set(each.read) == set(SHARES)
        assert each == its


def test_an_interrupt_while_a_block_is_written_leaves_it_as_it_was(tmp_path, monkeypatch):
    own = pruned("llama")
    before = {name: each.clone() for name, each in own.named_parameters()}
    found = made(own, model("llama"), tmp_path, partial(weights, "low-rank"))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(by_block, "save_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        found.repair(text(), text(1), silent)
    found.restore()

    assert not found.done
    assert {name for name, _ in own.named_parameters()} == set(before)
    assert all(torch.equal(each, before[name]) for name, each in own.named_parameters())


def test_updates_of_bfloat16_blocks_learn(tmp_path):
    own, dense = pruned("llama").bfloat16(), model("llama").bfloat16()
    found = made(own, dense, tmp_path, partial(weights, "low-rank"))

    found.repair(text(), text(1), silent)

    assert all(each.after < each.before for each in found.done)
    assert {each.dtype for each in own.parameters()} == {torch.bfloat16}
