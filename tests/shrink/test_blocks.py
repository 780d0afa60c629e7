"""Blocks: influence against a slow loop, the choice against every other, patterns kept."""

from itertools import combinations

import pico
import pytest
import torch
from pressing import SIZES, loud, text

from babelpress.models.linears import weight
from babelpress.models.student import fewer_blocks
from babelpress.models.walk import Walk
from babelpress.shrink import blocks


def deep(family, number=4, **values):
    """A random model of some blocks, and some noise in its norms."""
    config = pico.model(family).config
    own = config.get_text_config()
    own.num_hidden_layers = number
    for name, value in values.items():
        setattr(own, name, value)
    torch.manual_seed(0)
    model = type(pico.model(family))(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def slow_influence(model, each, index):
    """The definition, a position at a time, on the states that transformers itself gives."""
    with torch.no_grad():
        states = model(each.ids_BT, output_hidden_states=True, use_cache=False).hidden_states
        # transformers gives the last state after the norm: what the last block gives is caught
        caught = []
        last = Walk(model).blocks[-1]
        handle = last.register_forward_hook(
            lambda _m, _a, out: caught.append(out[0] if isinstance(out, tuple) else out)
        )
        pico.passed(model, each.ids_BT)
        handle.remove()
    given = [*states[:-1], caught[0]]
    total, count = 0.0, 0
    for row, counted in enumerate(each.counted_BT):
        for place in counted.nonzero().flatten().tolist():
            x, y = given[index][row, place].double(), given[index + 1][row, place].double()
            total += 1 - float(x @ y / (x.norm() * y.norm()))
            count += 1
    return total / count


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_influence_is_one_less_the_mean_cosine_of_what_counts_by_language(family):
    model = loud(family)
    found = blocks.influence(Walk(model), text())

    assert found.keys() == SIZES.keys()
    for tag, each in text().items():
        expected = [slow_influence(model, each, index) for index in range(2)]
        assert found[tag] == pytest.approx(expected, abs=1e-5)


def test_a_block_that_passes_on_what_it_is_given_has_no_influence():
    model = deep("llama")
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        weight(model.get_submodule(f"model.layers.2.{name}")).zero_()
    found = blocks.influence(Walk(model), text())

    for worth in found.values():
        assert worth[2] == pytest.approx(0, abs=1e-12)
        assert min(worth[0], worth[1], worth[3]) > 1e-4
    kept = blocks.chosen(blocks.kinds(Walk(model)), found["eng_Latn"], 3)
    assert kept == [0, 1, 3]
    ids_BT = torch.arange(3, 40)[None]
    left = blocks.without(Walk(model), kept).model
    assert torch.equal(pico.passed(left, ids_BT)[0], pico.passed(model, ids_BT)[0])


def best_by_trying(kinds, worth, number):
    """The most that any choice in the pattern is worth."""
    return max(
        sum(worth[index] for index in some)
        for some in combinations(range(len(kinds)), number)
        if [kinds[index] for index in some] == kinds[:number]
    )


@pytest.mark.parametrize("number", range(1, 12))
def test_of_all_choices_that_keep_the_pattern_the_one_that_matters_most_is_taken(number):
    """Five sliding blocks and a full one, as Gemma has them."""
    kinds = list("sssssfsssssf")
    worth = torch.rand(12, generator=torch.Generator().manual_seed(number)).tolist()

    kept = blocks.chosen(kinds, worth, number)

    assert len(kept) == number
    assert kept == sorted(kept)
    assert [kinds[each] for each in kept] == kinds[:number]
    best = best_by_trying(kinds, worth, number)
    assert sum(worth[each] for each in kept) == pytest.approx(best)


def test_without_a_pattern_those_that_matter_least_go():
    assert blocks.chosen(["same"] * 5, [0.5, 0.1, 0.3, -0.2, 0.4], 3) == [0, 2, 4]


def test_sliding_blocks_stay_sliding_where_engines_count_them():
    kinds = ["sliding_attention", "full_attention"] * 3
    model = deep("gemma3", 6, layer_types=kinds)
    walk = Walk(model)

    # the pattern begins with a sliding block, so block 1 cannot come first
    kept = blocks.chosen(blocks.kinds(walk), [0.0, 5.0, 1.0, 8.0, 2.0, 7.0], 3)
    left = blocks.without(walk, kept).model

    assert left.config.layer_types == kinds[:3]
    assert kept == [2, 3, 4]


def test_a_first_block_of_its_own_kind_stays_first():
    """That of ModernBERT has no norm before its attention."""
    walk = Walk(deep("modernbert", 3, layer_types=["full_attention"] * 3))

    kept = blocks.chosen(blocks.kinds(walk), [0.0, 1.0, 1.0], 2)

    assert kept == [0, 1]
    fewer_blocks(walk.model, kept)
