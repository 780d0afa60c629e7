import math
from dataclasses import replace

import pytest
import torch

from babelpress.insight import damage
from babelpress.models.sites import Site
from babelpress.moments.moments import Moments, OfLoss

SITE = Site("q+k", ("q", "k"), 3)


def of_inputs(x_RI, gram=True):
    """Moments of rows of inputs."""
    x_RI = x_RI.double()
    zero_I = torch.zeros(x_RI.shape[1], dtype=torch.float64)
    return Moments(
        len(x_RI), zero_I, zero_I, (x_RI**2).sum(0), zero_I, zero_I, x_RI.T @ x_RI if gram else None
    )


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(3)
    old = {name: torch.randn(size, 3, generator=generator) for name, size in (("q", 4), ("k", 2))}
    new = {name: w.clone() for name, w in old.items()}
    new["q"][0, 1] = 0.0
    new["k"][1] *= 0.75
    inputs = {
        "eng_Latn": torch.randn(7, 3, generator=generator),
        "yor_Latn": torch.randn(5, 3, generator=generator) * torch.tensor([0.1, 3.0, 0.1]),
    }
    return {name: (old[name], new[name]) for name in old}, inputs


def slow_output_snr(pairs, x_RI):
    """10·log10(‖XWᵀ‖² / ‖XWᵀ − XW'ᵀ‖²) over the linears of the site, one product at a time."""
    signal = noise = 0.0
    for old_OI, new_OI in pairs.values():
        for x in x_RI.tolist():
            for w, v in zip(old_OI.tolist(), new_OI.tolist(), strict=True):
                dense = sum(a * b for a, b in zip(x, w, strict=True))
                pressed = sum(a * b for a, b in zip(x, v, strict=True))
                signal += dense**2
                noise += (dense - pressed) ** 2
    return 10 * math.log10(signal / noise)


def test_output_snr_is_that_of_the_outputs_themselves(layer):
    pairs, inputs = layer

    rows = damage.of_outputs(SITE, pairs, {tag: of_inputs(x) for tag, x in inputs.items()})

    assert [row["language"] for row in rows] == list(inputs)
    for row in rows:
        wanted = slow_output_snr(pairs, inputs[row["language"]])
        assert row["value"] == pytest.approx(wanted, abs=1e-4)


def test_without_a_gram_matrix_inputs_are_taken_for_uncorrelated(layer):
    pairs, _ = layer
    # of uncorrelated inputs the diagonal is the whole matrix
    x_RI = torch.diag(torch.tensor([2.0, 0.5, 1.5]))

    (row,) = damage.of_outputs(SITE, pairs, {"eng_Latn": of_inputs(x_RI, gram=False)})

    assert row["value"] == pytest.approx(slow_output_snr(pairs, x_RI), abs=1e-4)


def test_weight_snr_is_signal_over_noise_of_the_weights(layer):
    pairs, _ = layer

    rows = {row["linear"]: row for row in damage.of_weights(pairs)}

    old_OI, new_OI = (w.double() for w in pairs["q"])
    w = old_OI.flatten().tolist()
    lost = [(a - b) ** 2 for a, b in zip(w, new_OI.flatten().tolist(), strict=True)]
    signal = sum(a * a for a in w) / len(w)
    noise = sum(lost) / len(w)
    assert rows["q"]["value"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-9)
    assert rows["q"]["changed"] == pytest.approx(1 / 12)


def test_what_was_not_changed_has_no_ratio_and_no_token_no_row(layer):
    pairs, inputs = layer
    same = {name: (old, old) for name, (old, _) in pairs.items()}
    nothing = of_inputs(torch.zeros(0, 3))

    rows = damage.of_outputs(SITE, same, {"eng_Latn": of_inputs(inputs["eng_Latn"])})

    assert [row["value"] for row in [*rows, *damage.of_weights(same)]] == [None] * 3
    assert damage.of_outputs(SITE, pairs, {"eng_Latn": nothing}) == []


def test_the_language_whose_inputs_meet_the_lost_weight_is_named_as_the_worst(layer, plant):
    pairs, inputs = layer
    seen = {tag: of_inputs(x) for tag, x in inputs.items()}
    pairs = {**pairs, "k": (pairs["k"][0], pairs["k"][0])}  # only w[0, 1] of q is gone
    given = plant.given([{SITE: seen}], gram=True, runs={"run": [pairs]})

    rows = damage.measure(given)
    languages, linears = damage.pictures(rows)

    assert languages.seen.startswith("run disturbs Yoruba most (")
    assert [p.down for p in languages.points] == ["Yoruba", "English"]
    assert "those of q in block 0 of run" in linears.seen
    unchanged = next(p for p in linears.points if p.down == "k")
    assert unchanged.value is None and linears.none == "unchanged"


def test_a_block_is_the_mean_of_its_noise_shares_and_an_unchanged_site_has_none():
    common = {"run": "run", "block": 0, "language": "eng_Latn", "metric": damage.OUTPUT}
    rows = [
        {**common, "site": "a", "value": 10.0, "form": "gram", "linear": None},
        {**common, "site": "b", "value": None, "form": "gram", "linear": None},
    ]

    languages, _ = damage.pictures(rows)

    assert languages.points[0].value == pytest.approx(10 * math.log10(1 / 0.05))


def test_where_the_loss_weighs_tokens_it_is_foretold_by_site(layer):
    """½ Σ s·|Δx|² and the gradient times the change, over the loss; tokens count 0.5 each."""
    pairs, inputs = layer
    generator = torch.Generator().manual_seed(1)
    seen, slopes = {}, {}
    for tag, x_RI in inputs.items():
        slopes[tag] = torch.randn(6, 3, generator=generator)
        half = of_inputs(x_RI * 0.5**0.5)
        seen[tag] = replace(half, of_loss=OfLoss(len(x_RI) / 2, 4.0, slopes[tag]))

    rows = damage.of_outputs(SITE, pairs, seen)

    found = {(row["metric"], row["language"]): row["value"] for row in rows}
    change_OI = torch.cat([pairs[name][1] - pairs[name][0] for name in SITE.linears])
    for tag, x_RI in inputs.items():
        curved = 0.5 * 0.5 * float((x_RI @ change_OI.T).square().sum()) / 4
        first = float((slopes[tag] * change_OI).sum()) / 4
        assert found["loss_curvature", tag] == pytest.approx(curved, rel=1e-4)
        assert found["loss_first_order", tag] == pytest.approx(first, rel=1e-4)
        assert found["output_snr_db", tag] == pytest.approx(slow_output_snr(pairs, x_RI), abs=1e-4)
