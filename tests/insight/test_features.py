import random

import pytest

from babelpress.errors import BadMoments
from babelpress.insight import features

# 20 features; in translation 4 and 11 are large that are among the smallest elsewhere.
MONO = [20.0 - i if i not in (4, 11) else 0.01 * i for i in range(20)]
TRANSLATION = [60.0 if i in (4, 11) else x for i, x in enumerate(MONO)]


def slow_overlap(large, small, ratio):
    """The definition, with sorted lists of places."""
    count = max(1, round(ratio * len(large)))
    top = sorted(range(len(large)), key=lambda i: -large[i])[:count]
    bottom = sorted(range(len(small)), key=lambda i: small[i])[:count]
    return 100 * len([i for i in top if i in bottom]) / count


def test_features_planted_in_translation_are_found_against_one_language_alone(plant):
    given = plant.given(
        plant.blocks({"fra_Latn": MONO}, {"fra_Latn": MONO}),
        beside=plant.blocks({"fra_Latn": TRANSLATION}, {"fra_Latn": MONO}),
    )

    rows = features.measure(given, ratio=0.1)

    assert [row["value"] for row in rows] == [100.0, 0.0]  # planted in block 0 alone
    assert [row["chance"] for row in rows] == [10.0, 10.0]
    heat, depth = features.pictures(rows)
    assert "100.0 %, in block 0, of what is large in French and small in French" in heat.seen
    assert "largest in block 0 (100.0 %)" in depth.seen


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_overlap_is_the_share_of_the_top_that_is_in_the_bottom(plant, ratio):
    random.seed(1)
    sizes = {t: [random.random() for _ in range(20)] for t in ("eng_Latn", "yor_Latn", "hin_Deva")}

    rows = features.measure(plant.given(plant.blocks(sizes)), ratio=ratio)

    assert len(rows) == 3 * 3
    for row in rows:
        wanted = slow_overlap(sizes[row["language"]], sizes[row["other"]], ratio)
        assert row["value"] == pytest.approx(wanted)


def test_other_sites_and_no_tokens_are_errors(plant):
    blocks = plant.blocks({"eng_Latn": MONO})
    other = plant.blocks({"eng_Latn": MONO}, site="k")
    with pytest.raises(BadMoments, match="other sites"):
        features.measure(plant.given(blocks, beside=other))

    (site,) = blocks[0]
    blocks[0][site]["eng_Latn"] = plant.seen(MONO, n=0)
    with pytest.raises(BadMoments, match="no token of eng_Latn came to block 0, q"):
        features.measure(plant.given(blocks))
