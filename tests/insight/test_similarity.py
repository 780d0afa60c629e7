import math
import random
from itertools import pairwise

import pytest
import torch

from babelpress.errors import BadMoments
from babelpress.insight import similarity

# Two planted families: "eng_Latn", "fra_Latn" fire on the first features, the others on the last.
FAMILIES = {
    "eng_Latn": [9.0, 4.0, 1.0, 0.1, 0.0],
    "hin_Deva": [0.0, 0.2, 1.0, 5.0, 7.0],
    "fra_Latn": [8.0, 5.0, 1.0, 0.0, 0.1],
    "tam_Taml": [0.1, 0.1, 2.0, 6.0, 7.5],
}


def slow_cosine(one, other):
    """The definition, in Python floats."""
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def test_similarity_is_the_cosine_of_mean_squares_whatever_the_number_of_tokens(plant):
    blocks = plant.blocks(FAMILIES)
    (site,) = blocks[0]
    blocks[0][site]["fra_Latn"] = plant.seen([5 * x for x in FAMILIES["fra_Latn"]], n=20)

    rows = similarity.measure(plant.given(blocks))

    assert len(rows) == 4 * 4
    for row in rows:
        wanted = slow_cosine(FAMILIES[row["language"]], FAMILIES[row["other"]])
        assert row["value"] == pytest.approx(wanted, abs=1e-12)


def test_planted_families_are_neighbours_in_the_order_and_named(plant):
    rows = similarity.measure(plant.given(plant.blocks(FAMILIES, FAMILIES)))

    heat, depth = similarity.pictures(rows)

    order = [p.down for p in heat.points if p.panel == "block 0" and p.across == "Hindi"]
    places = [order.index(name) for name in ("English", "French")]
    assert abs(places[0] - places[1]) == 1
    assert "Hindi and Tamil are most alike (0.994), English and Hindi least (0.027)" in heat.seen
    assert {p.across for p in depth.points} == {"0", "1"}


def test_the_order_of_many_languages_puts_planted_groups_together():
    random.seed(0)
    group_L = [random.randrange(3) for _ in range(14)]
    base_GI = torch.rand(3, 20, generator=torch.Generator().manual_seed(1))
    vectors_LI = torch.stack([base_GI[g] + 0.02 * i for i, g in enumerate(group_L)])
    unit_LI = torch.nn.functional.normalize(vectors_LI, dim=1)

    order = similarity.clustered(unit_LI @ unit_LI.T)

    changes = sum(group_L[a] != group_L[b] for a, b in pairwise(order))
    assert sorted(order) == list(range(14))
    assert changes == 2


def test_another_site_may_be_named_and_one_that_is_none_is_an_error(plant):
    blocks = plant.blocks(FAMILIES, site="mlp.down")

    assert similarity.measure(plant.given(blocks), site="mlp.down")[0]["site"] == "mlp.down"
    with pytest.raises(BadMoments, match=r"block 0 has no site mlp\.up\. It has mlp\.down\."):
        similarity.measure(plant.given(blocks), site="mlp.up")


def test_a_language_of_which_no_token_came_is_an_error_and_one_language_is_no_failure(plant):
    blocks = plant.blocks({"eng_Latn": [1.0, 2.0], "fra_Latn": [1.0, 2.0]})
    (site,) = blocks[0]
    blocks[0][site]["fra_Latn"] = plant.seen([0.0, 0.0], n=0)
    alone = plant.blocks({"eng_Latn": [1.0, 2.0]})

    with pytest.raises(BadMoments, match="no token of fra_Latn came to block 0, q"):
        similarity.measure(plant.given(blocks))
    (heat,) = similarity.pictures(similarity.measure(plant.given(alone)))
    assert "nothing to compare" in heat.seen
