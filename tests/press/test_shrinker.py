"""Units that go: scores against definitions by language, the fit against least squares."""

import pytest
import torch
from pressing import SHARES

from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.press.shrinker import Shrinker, Units

OUTPUTS, INPUTS = 6, 12
SIZES = {"eng_Latn": 90, "swh_Latn": 60, "hin_Deva": 40}


@pytest.fixture
def inputs():
    """Inputs of three languages, each of which uses others more."""
    lot = torch.Generator().manual_seed(5)
    mixing_II = torch.eye(INPUTS) + 0.3 * torch.randn(INPUTS, INPUTS, generator=lot)
    found = {}
    for place, (tag, tokens) in enumerate(SIZES.items()):
        x_TI = torch.randn(tokens, INPUTS, generator=lot)
        x_TI[:, 4 * place : 4 * place + 4] *= 3
        found[tag] = x_TI @ mixing_II * (1 + 5 * place)
    return found


@pytest.fixture
def weight_OI():
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(1))


def stats(inputs, shares=SHARES, gram=True):
    seen = {
        tag: Accumulator(INPUTS, gram, vectors=()).add(x_TI).finish()
        for tag, x_TI in inputs.items()
    }
    return blend(seen, shares, "here", apart=True)


def shrinker(size, kept, **options):
    units = Units(torch.arange(INPUTS).view(-1, size), kept)
    given = {"score": "energy", "over": "max", "fit": True, "damp": 0.0, **options}
    return Shrinker(units={0: {"down": units}}, **given).at(0)


def pressed(weight_OI, stats, size, kept, **options):
    return shrinker(size, kept, **options).press({"down": weight_OI}, stats).weights["down"]


def gone(new_OI, size):
    return [u for u, each in enumerate(new_OI.split(size, 1)) if not each.any()]


def slow_energies(weight_OI, x_TI, size):
    units = range(0, INPUTS, size)
    return [
        float((x_TI[:, u : u + size] @ weight_OI[:, u : u + size].T).square().mean(0).sum())
        for u in units
    ]


@pytest.mark.parametrize("over", ["max", "mean"])
@pytest.mark.parametrize(("size", "kept"), [(1, 7), (3, 3)])
def test_the_units_go_that_add_least_in_the_language_that_needs_them_most(
    weight_OI, inputs, size, kept, over
):
    own = {tag: slow_energies(weight_OI, x_TI, size) for tag, x_TI in inputs.items()}
    scaled = {tag: [e / (sum(each) / len(each)) for e in each] for tag, each in own.items()}
    joined = [
        max(each[u] for each in scaled.values())
        if over == "max"
        else sum(SHARES[tag] * each[u] for tag, each in scaled.items())
        for u in range(INPUTS // size)
    ]
    expected = sorted(sorted(range(len(joined)), key=joined.__getitem__)[: len(joined) - kept])

    new_OI = pressed(weight_OI, stats(inputs), size, kept, over=over)

    assert gone(new_OI, size) == expected


def test_the_worst_language_decides_and_the_mean_is_another_choice(weight_OI, inputs):
    """Hindi's own inputs have a share of a tenth: by the mean they go, by the largest they stay."""
    weight_OI = torch.ones_like(weight_OI)
    inputs = {tag: torch.ones(20, INPUTS) for tag in inputs}
    inputs["hin_Deva"][:, :4] = 2
    inputs["eng_Latn"][:, 4:] = 1.2
    chosen = {
        over: gone(pressed(weight_OI, stats(inputs), 1, 8, over=over, fit=False), 1)
        for over in ("max", "mean")
    }

    assert not {*chosen["max"]} & {0, 1, 2, 3}
    assert chosen["mean"] == [0, 1, 2, 3]


@pytest.mark.parametrize("score", ["energy", "lost"])
@pytest.mark.parametrize(("size", "kept"), [(1, 7), (3, 3)])
def test_what_is_left_is_fitted_to_the_mixture(weight_OI, inputs, size, kept, score):
    """Every token of a language weighs as its share says; torch solves it on the inputs."""
    new_OI = pressed(weight_OI, stats(inputs), size, kept, score=score)
    columns = [i for i in range(INPUTS) if i // size not in gone(new_OI, size)]
    rows, outputs = [], []
    for tag, x_TI in inputs.items():
        root = (SHARES[tag] / len(x_TI)) ** 0.5
        rows.append(root * x_TI[:, columns].double())
        outputs.append(root * (x_TI.double() @ weight_OI.T.double()))
    expected = torch.linalg.lstsq(torch.cat(rows), torch.cat(outputs)).solution

    assert torch.allclose(new_OI[:, columns].double(), expected.T, atol=1e-3)
    bare_OI = pressed(weight_OI, stats(inputs), size, kept, score=score, fit=False)
    assert torch.equal(bare_OI[:, columns], weight_OI[:, columns])


@pytest.mark.parametrize("over", ["max", "mean"])
@pytest.mark.parametrize(("size", "kept"), [(3, 3), (3, 2), (1, 9), (1, 4)])
def test_of_units_that_are_the_same_one_stays_by_what_is_lost(inputs, size, kept, over):
    """The last units are the first again, and loud: whatever else goes, a sister stays."""
    weight_OI = torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(1))
    weight_OI[:, :3] *= 10
    inputs = {tag: torch.cat([x_TI[:, :9], x_TI[:, :3]], 1) for tag, x_TI in inputs.items()}

    new_OI = pressed(weight_OI, stats(inputs), size, kept, score="lost", over=over, damp=1e-3)

    went = {*gone(new_OI, size)}
    for unit in range(3 // size):
        assert len(went & {unit, unit + 9 // size}) == 1
    if kept * size == 9:
        for x_TI in inputs.values():
            assert torch.allclose(x_TI @ new_OI.T, x_TI @ weight_OI.T, rtol=1e-2, atol=1)


def test_what_is_lost_is_lost_to_the_language_that_is_hit_most(inputs):
    """Units that only Hindi's inputs reach, with little of the mixture, stay by the largest."""
    weight_OI = torch.ones(OUTPUTS, INPUTS)
    lot = torch.Generator().manual_seed(9)
    inputs = {tag: torch.randn(200, INPUTS, generator=lot) for tag in SIZES}
    inputs["hin_Deva"][:, :4] *= 2
    for tag in ("eng_Latn", "swh_Latn"):
        inputs[tag][:, :4] *= 0.1
    chosen = {
        over: gone(pressed(weight_OI, stats(inputs), 1, 8, score="lost", over=over), 1)
        for over in ("max", "mean")
    }

    assert not {*chosen["max"]} & {0, 1, 2, 3}
    assert chosen["mean"] == [0, 1, 2, 3]


@pytest.mark.parametrize("score", ["energy", "lost"])
def test_inputs_that_are_always_zero_go_first(weight_OI, inputs, score):
    for x_TI in inputs.values():
        x_TI[:, [2, 7]] = 0

    new_OI = pressed(weight_OI, stats(inputs), 1, 10, score=score)

    assert gone(new_OI, 1) == [2, 7]
    assert torch.allclose(new_OI[:, 0], weight_OI[:, 0], atol=1e-5)


def test_where_all_stay_nothing_changes_bit_for_bit(weight_OI, inputs):
    assert torch.equal(pressed(weight_OI, stats(inputs), 1, INPUTS), weight_OI)


def test_gram_matrices_are_read_only_where_something_needs_them(weight_OI, inputs):
    plain = shrinker(1, 6, fit=False)
    assert not plain.needs_gram
    assert shrinker(1, 6).needs_gram
    assert shrinker(1, 6, fit=False, score="lost").needs_gram
    assert shrinker(3, 2, fit=False).needs_gram

    new_OI = plain.press({"down": weight_OI}, stats(inputs, gram=False)).weights["down"]

    assert torch.equal(new_OI, pressed(weight_OI, stats(inputs), 1, 6, fit=False))
