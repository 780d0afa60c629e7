import random

import pytest
import torch

from babelpress.errors import BadRun
from babelpress.insight import overlap

SHAPES = {"q": (3, 5), "down": (4, 7)}


@pytest.fixture
def runs():
    """Two runs of two blocks: by label a list of blocks of (dense, pressed) weights."""
    generator = torch.Generator().manual_seed(5)
    dense = [
        {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
        for _ in range(2)
    ]
    dense[0]["q"][0, 0] = 0.0  # was zero before anybody pruned

    def pressed(share):
        return [
            {
                name: (w, w.masked_fill(torch.rand(w.shape, generator=generator) < share, 0.0))
                for name, w in block.items()
            }
            for block in dense
        ]

    return {"english": pressed(0.25), "uniform": pressed(0.6)}


def slow_iou(one, other):
    """The definition, one weight at a time."""
    both = either = 0
    weights = (w.flatten().tolist() for w in (one[0], one[1], other[1]))
    for old, new, new_other in zip(*weights, strict=True):
        gone, gone_other = old != 0 and new == 0, old != 0 and new_other == 0
        both += gone and gone_other
        either += gone or gone_other
    return both / either


def test_overlap_is_intersection_over_union_of_the_weights_that_went(plant, runs):
    rows = overlap.measure(plant.given(runs=runs))

    assert len(rows) == 2 * len(SHAPES)
    for row in rows:
        one, other = (runs[label][row["block"]][row["linear"]] for label in runs)
        assert row["value"] == pytest.approx(slow_iou(one, other))
        size = one[0].numel()
        gone = int(((one[1] == 0) & (one[0] != 0)).sum())
        assert row["share"] == pytest.approx(gone / size)


def test_equal_runs_overlap_wholly_and_a_planted_difference_is_named(plant, runs):
    same = {"english": runs["english"], "twin": [dict(block) for block in runs["english"]]}
    assert {row["value"] for row in overlap.measure(plant.given(runs=same))} == {1.0}

    old, new = same["twin"][1]["down"]
    moved = new.clone()
    moved[new == 0] = old[new == 0]
    moved[new != 0] = 0.0  # the other weights went
    same["twin"][1]["down"] = (old, moved)
    rows = overlap.measure(plant.given(runs=same))

    assert {(r["block"], r["linear"]): r["value"] for r in rows}[1, "down"] == 0.0
    (heat,) = overlap.pictures(rows)
    assert "They differ most in down of block 1 (0.000)" in heat.seen


def test_chance_is_what_independent_sets_share():
    random.seed(2)
    one = [random.random() < 0.3 for _ in range(200_000)]
    other = [random.random() < 0.55 for _ in range(200_000)]
    both = sum(a and b for a, b in zip(one, other, strict=True))
    either = sum(a or b for a, b in zip(one, other, strict=True))

    assert overlap.by_chance(0.3, 0.55) == pytest.approx(both / either, abs=0.005)


def test_a_run_that_prunes_nothing_is_an_error_and_a_linear_that_neither_prunes_has_no_row(
    plant, runs
):
    dense = [{n: (old, old) for n, (old, _) in block.items()} for block in runs["english"]]
    with pytest.raises(BadRun, match="dense prunes no weight"):
        overlap.measure(plant.given(runs={**runs, "dense": dense}))

    for label in runs:
        runs[label][1]["q"] = dense[1]["q"]
    rows = overlap.measure(plant.given(runs=runs))
    (heat,) = overlap.pictures(rows)

    assert (1, "q") not in {(row["block"], row["linear"]) for row in rows}
    assert next(p for p in heat.points if (p.across, p.down) == ("1", "q")).value is None
