"""Moments weighed by the loss, against slow loops over tokens with autograd in float64."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pico
import pressing
import pytest
import torch
from torch.nn import functional
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from babelpress.errors import BadModel, BadMoments, BadSetting, NotFinite
from babelpress.models.experts import Slice
from babelpress.models.linears import linears, weight
from babelpress.models.walk import Walk
from babelpress.moments import weigh
from babelpress.moments.accumulator import Accumulator, vectors_of
from babelpress.moments.heard import Heard
from babelpress.moments.weigh import gather_weighed

VECTORS = ("sum", "sumabs", "sumsq", "absmax", "positive")
# q, k, v apart; fused; Conv1D and fused; two norms and a scaled embedding; experts
SOME = ("llama", "bloom", "gpt2", "gemma3", "qwen3_moe", "mixtral")


def text(**options):
    """Unequal languages; padding does not count, nor what each sequence begins with."""
    found = pressing.text(**options)
    for each in found.values():
        each.counted_BT[:, 0] = False
    return found


def taken(model, blocks=None, **options):
    given = {"gram": True, "slopes": True, **options}
    return dict(gather_weighed(Walk(model), blocks or text(), **given))


# ---- slowly --------------------------------------------------------------------------------


class Slow:
    """What every linear of a model reads and gives, one sequence at a time, token by token."""

    def __init__(self, model):
        self.plain = model
        self.model: Any = deepcopy(model).double()
        self.walk = Walk(self.model)
        self.seen: dict[Any, list[tuple[int, Any, Any]]] = {}
        for index, block in enumerate(self.walk.blocks):
            for name, linear in linears(block).items():
                if not isinstance(linear, Slice):
                    linear.register_forward_hook(self._hook((index, name)))
        places = {
            (id(linear.experts), linear.parameter, linear.expert): (index, name)
            for index, block in enumerate(self.walk.blocks)
            for name, linear in linears(block).items()
            if isinstance(linear, Slice)
        }
        ALL_EXPERTS_FUNCTIONS.register("slow", self._experts(places))
        self.model.config._experts_implementation = "slow"

    def _hook(self, place):
        def hook(_module, args, z):
            if z.requires_grad:
                z.retain_grad()
            self.seen.setdefault(place, [])
            self.seen[place] += [(t, args[0][0, t], (z, t)) for t in range(z.shape[1])]

        return hook

    def _experts(self, places):
        def compute(experts, hidden_TI, chosen_TK, share_TK):
            def product(parameter, expert, token, x_I):
                z_O = weight(Slice(experts, parameter, expert)) @ x_I
                if z_O.requires_grad:
                    z_O.retain_grad()
                place = places[id(experts), parameter, expert]
                self.seen.setdefault(place, []).append((token, x_I, (z_O, None)))
                return z_O

            rows = []
            for token, x_I in enumerate(hidden_TI):
                out_O = torch.zeros_like(x_I)
                for expert, share in zip(chosen_TK[token].tolist(), share_TK[token], strict=True):
                    inner = product("gate_up_proj", expert, token, x_I)
                    inner = experts._apply_gate(inner[None])[0]
                    out_O = out_O + share * product("down_proj", expert, token, inner)
                rows.append(out_O)
            return torch.stack(rows)

        return compute

    def moments(self, blocks):
        """Sums by block, site, language and name; gradients by weights are of all positions."""
        found = {}
        sites = weigh.sites_of(Walk(self.plain), blocks)
        nats = dict.fromkeys(blocks, 0.0)
        for language, each in blocks.items():
            for ids_T, counted_T in zip(each.ids_BT, each.counted_BT, strict=True):
                self.seen.clear()
                logits_TV = self.model(ids_T[None], use_cache=False).logits[0]
                loss = logits_TV.new_zeros(())
                for t in range(1, len(ids_T)):
                    if counted_T[t]:
                        loss = loss - functional.log_softmax(logits_TV[t - 1], 0)[ids_T[t]]
                loss.backward()
                nats[language] += float(loss.detach())
                for index, of_block in enumerate(sites):
                    for site in of_block:
                        sums = found.setdefault((index, site.name, language), {})
                        self._add(index, site, counted_T, sums)
        for (_, _, language), sums in found.items():
            sums["nats"] = nats[language]
        return {place: sums for place, sums in found.items() if sums.get("n")}

    def _add(self, index, site, counted_T, sums):
        rows = [self.seen.get((index, name), []) for name in site.linears]
        for tokens in zip(*rows, strict=True):
            t, x, _ = tokens[0]
            x = x.detach().numpy()
            grads = []
            for _, _, (z, place) in tokens:
                g = z.grad[0, place] if place is not None else z.grad
                grads.append(g.detach().numpy())
            g = np.concatenate(grads)
            sums["slope"] = sums.get("slope", 0) + np.outer(g, x)
            if not counted_T[t]:
                continue
            s = np.mean(g**2)
            terms = {
                "n": 1,
                "mass": s,
                "sum": s * x,
                "sumabs": s * abs(x),
                "sumsq": s * x * x,
                "positive": s * (x > 0),
                "gram": s * np.outer(x, x),
            }
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term
            sums["absmax"] = np.maximum(sums.get("absmax", 0), abs(x))


def assert_same(expected, found, tolerance):
    """Equal to `tolerance` of each tensor's largest entry."""
    there = {
        (index, site.name, language): each.tensors()
        for index, of_block in found.items()
        for site, seen in of_block.items()
        for language, each in seen.items()
    }
    assert there.keys() == expected.keys()
    for place, sums in expected.items():
        assert there[place].keys() == sums.keys()
        for name, value in sums.items():
            error = np.abs(there[place][name].double().numpy() - value).max()
            assert error <= tolerance * np.abs(value).max(), (place, name)


@pytest.mark.parametrize("family", SOME)
def test_moments_are_the_plain_loops_over_tokens(family):
    model = pressing.loud(family)

    expected = Slow(model).moments(text())

    assert_same(expected, taken(model), 2e-4)


@pytest.mark.parametrize(
    "model",
    [
        *(pytest.param(lambda f=f: pico.model(f), id=f) for f in pico.FAMILIES),
        pytest.param(lambda: pico.model(dtype=torch.bfloat16), id="bfloat16"),
        *(pytest.param(lambda f=f: pico.seeing(f), id=f"seeing {f}") for f in pico.SEEING),
    ],
)
def test_what_is_seen_and_how_often_is_as_where_tokens_count_evenly(model):
    walk = Walk(model())
    blocks = text(sizes={"eng_Latn": 2, "swh_Latn": 1})

    weighed = dict(gather_weighed(walk, blocks, gram=False, vectors=()))

    noise = 8 * torch.finfo(walk.model.dtype).eps
    for index, of_block in pressing.dense_moments(walk, blocks, gram=False, vectors=()).items():
        assert list(weighed[index]) == list(of_block)
        for site, seen in of_block.items():
            assert weighed[index][site].keys() == seen.keys()
            for tag, each in seen.items():
                own = weighed[index][site][tag]
                assert own.n == each.n
                far = (own.absmax_I - each.absmax_I).abs().max()
                assert far <= noise * each.absmax_I.max(), site.name
    masses = [
        own.mass for of_block in weighed.values() for s in of_block.values() for own in s.values()
    ]
    assert min(masses) >= 0 and sorted(masses)[len(masses) // 4] > 0


# ---- sums ----------------------------------------------------------------------------------


def added(one, other):
    return {
        index: {
            site: {tag: one[index][site][tag] + other[index][site][tag] for tag in one[index][site]}
            for site in one[index]
        }
        for index in one
    }


def close(one, other, tolerance=1e-5):
    one, other = pressing.flat(one), pressing.flat(other)
    assert one.keys() == other.keys()
    for place, each in one.items():
        far = (each.double() - other[place].double()).abs().max()
        assert far <= tolerance * each.double().abs().max(), place


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_batches_and_parts_add_up(family):
    model, blocks = pressing.loud(family), text()
    whole = taken(model, blocks)

    one_by_one = taken(model, blocks, batch_tokens=pressing.LENGTH)
    parts = [
        {tag: each.rows(some) for tag, each in blocks.items()}
        for some in (slice(0, 1), slice(1, None))
    ]
    close(whole, one_by_one)
    close(whole, added(*(taken(model, part) for part in parts)))


def test_how_blocks_are_shared_out_over_passes_changes_no_bit(monkeypatch):
    model = pressing.loud()
    whole = pressing.flat(taken(model))
    passes = []
    real = weigh._batches
    monkeypatch.setattr(weigh, "_batches", lambda *given: passes.append(1) or real(*given))
    monkeypatch.setattr(weigh, "MOST", 1)

    apart = pressing.flat(taken(model))

    assert len(passes) == 2
    assert whole.keys() == apart.keys()
    assert all(torch.equal(whole[place], apart[place]) for place in whole)


def test_what_the_loss_hears_of_weighs_the_blocks_that_are_done_not_at_all():
    model = pressing.loud()

    found = dict(
        gather_weighed(Walk(model), text(), gram=True, slopes=True, done=lambda index: index == 0)
    )

    assert list(found) == [1]
    whole = pressing.flat({1: taken(model)[1]})
    assert all(torch.equal(whole[place], each) for place, each in pressing.flat(found).items())


@pytest.mark.parametrize("kept", [(), VECTORS])
@pytest.mark.parametrize("gram", [True, False])
def test_weights_that_are_all_one_give_the_plain_moments_bit_for_bit(gram, kept):
    generator = torch.Generator().manual_seed(0)
    x_TI = torch.randn(700, 150, generator=generator)
    plain = Accumulator(150, gram, vectors=kept).add(x_TI).finish()
    ones_T = torch.ones(700)
    weighed = Accumulator(150, gram, vectors=kept)

    weighed.take(vectors_of(x_TI, kept, gram=gram, where="here", mass_T=ones_T), x_TI, ones_T)

    found = weighed.finish().tensors()
    assert found.keys() == plain.tensors().keys()
    assert all(torch.equal(found[name], each) for name, each in plain.tensors().items())


def test_a_loss_that_hears_all_tokens_alike_blends_as_plain_moments(monkeypatch):
    """All gradients are of one size: so are all tokens, whose mass is not their number."""
    model = pressing.loud()
    heard = Heard._heard

    def alike(self, place, name, run, g_z):
        heard(self, place, name, run, torch.full_like(g_z, 0.25))

    monkeypatch.setattr(Heard, "_heard", alike)
    found = taken(model, slopes=False)
    plain = pressing.dense_moments(Walk(model), text())

    for index, of_block in plain.items():
        for site, seen in of_block.items():
            for tag, each in seen.items():
                own = found[index][site][tag]
                assert own.n == each.n
                assert own.mass == pytest.approx(each.n / 16)
                far = (own.absmax_I - each.absmax_I).abs().max()
                assert far <= 1e-5 * each.absmax_I.max(), site.name
                assert torch.allclose(own.sumsq_I / own.mass, each.sumsq_I / each.n, rtol=1e-5)


def test_moments_that_are_weighed_and_others_do_not_add():
    model = pressing.loud()
    weighed = taken(model)[0]
    site = next(iter(weighed))
    one = weighed[site]["eng_Latn"]

    with pytest.raises(BadMoments, match="weighed otherwise"):
        _ = one + replace(one, of_loss=None)


# ---- what cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_encoders_and_pairs_are_refused_in_one_line(family):
    with pytest.raises(BadModel, match=r"weigh loss is for decoders: .* Leave --weigh out\.") as no:
        taken(pico.model(family))
    assert "\n" not in str(no.value)


def test_offload_and_a_model_larger_than_memory_are_refused(monkeypatch):
    walk = Walk(pico.model())

    with pytest.raises(BadSetting, match="Leave out --offload"):
        weigh.check(walk, offload=True)
    monkeypatch.setattr(weigh, "physical", lambda: 1 << 10)
    with pytest.raises(BadSetting, match="are more than the memory here"):
        weigh.check(walk)


def test_a_gradient_that_is_no_number_is_named(monkeypatch):
    model: Any = pico.model()
    model.model.layers[1].mlp.down_proj.weight.data[3, 5] = float("inf")

    with pytest.raises(NotFinite, match=r"NaN|infinity"):
        taken(model)

    assert all(each.requires_grad for each in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_linear_whose_output_nobody_hears_of_counts_nothing():
    """Of what follows the last token that is predicted, and of sequences of one token."""
    blocks = text(sizes={"eng_Latn": 1, "swh_Latn": 1})
    each = blocks["swh_Latn"]
    each.counted_BT[:] = False
    each.counted_BT[:, 0] = True
    for seen in taken(pressing.loud(), blocks)[0].values():
        assert (seen["swh_Latn"].n, seen["swh_Latn"].mass) == (1, 0)
        assert seen["eng_Latn"].mass > 0
