import itertools
import math
import statistics

import numpy as np
import pytest
from scipy.stats import binomtest

from babelpress.errors import BadRun, BadSetting
from babelpress.judge.compare import AT_CHANCE, NO_DIFFERENCE, compare, gate
from babelpress.judge.evidence import holm
from babelpress.numerics.tally import Tally

TAGS = ("eng_Latn", "hin_Deva", "yor_Latn", "tha_Thai")
LOSS = {"eng_Latn": 0.01, "hin_Deva": 0.06, "yor_Latn": 0.12, "tha_Thai": 0.0}


def tally(numerator, denominator, prefix="doc"):
    names = tuple(f"{prefix}/{i}" for i in range(len(numerator)))
    return Tally(names, np.array(numerator, dtype=float), np.array(denominator, dtype=float))


def pair(documents=40, loss=LOSS, seed=5, noise=0.05, prefix=lambda _tag: "doc"):
    """Two models whose losses are noisy document by document."""
    rng = np.random.default_rng(seed)
    dense, pressed = {}, {}
    for tag, by in loss.items():
        size = rng.integers(50, 400, documents)
        bits = size * rng.uniform(1.0, 3.0, documents)
        more = bits * (1 + by + rng.normal(0, noise, documents))
        dense[tag], pressed[tag] = tally(bits, size, prefix(tag)), tally(more, size, prefix(tag))
    return dense, pressed


def shuffled(one, seed=1):
    order = np.random.default_rng(seed).permutation(len(one.documents))
    names = tuple(one.documents[i] for i in order)
    return Tally(names, one.numerator_D[order], one.denominator_D[order])


def named(comparison):
    return {row.name: row for row in comparison.summaries}


def slow_bootstrap(dense, pressed, draws, seed):
    """The definition, one draw and one document at a time, from the counts that were drawn."""
    size = len(next(iter(dense.values())).documents)
    rng = np.random.default_rng([seed, 0])  # 0 is the checksum of the stream without a name
    counts = rng.multinomial(size, [1 / size] * size, size=draws)
    changes = []
    for draw in counts:
        row = []
        for tag in dense:
            order = sorted(range(size), key=lambda i: dense[tag].documents[i])
            sums = [0.0] * 4
            for times, i in zip(draw, order, strict=True):
                for _ in range(times):
                    sums[0] += pressed[tag].numerator_D[i]
                    sums[1] += pressed[tag].denominator_D[i]
                    sums[2] += dense[tag].numerator_D[i]
                    sums[3] += dense[tag].denominator_D[i]
            row.append((sums[0] / sums[1]) / (sums[2] / sums[3]) - 1)
        changes.append(row)
    return changes


def slow_quantile(values, q):
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def test_every_number_equals_a_slow_loop_on_the_same_draws():
    dense, pressed = pair(documents=13)
    shares = {"eng_Latn": 0.7, "hin_Deva": 0.2, "yor_Latn": 0.01, "tha_Thai": 0.09}

    result = compare(dense, pressed, shares=shares, draws=170, seed=11)

    draws = slow_bootstrap(dense, pressed, 170, 11)
    for i, change in enumerate(result.changes):
        column = [row[i] for row in draws]
        assert change.language == TAGS[i]
        expected = pressed[TAGS[i]].value / dense[TAGS[i]].value - 1
        assert change.change == pytest.approx(expected)
        assert change.low == pytest.approx(slow_quantile(column, 0.025))
        assert change.high == pytest.approx(slow_quantile(column, 0.975))
        opposite = sum(c <= 0 if change.change > 0 else c >= 0 for c in column)
        assert change.p == pytest.approx(min(1.0, 2 * (opposite + 1) / 171))
    measured = [change.change for change in result.changes]
    slow = {
        "mean": statistics.fmean,
        "worst": max,
        "low_resource": lambda row: row[2],
        "high_resource": lambda row: row[0],
        "latin": lambda row: (row[0] + row[2]) / 2,
        "non_latin": lambda row: (row[1] + row[3]) / 2,
        "spread": statistics.pstdev,
        "gap": lambda row: max(row) - min(row),
    }
    assert list(named(result)) == list(slow)
    for name, function in slow.items():
        values = [function(row) for row in draws]
        row = named(result)[name]
        assert row.value == pytest.approx(function(measured))
        assert row.low == pytest.approx(slow_quantile(values, 0.025))
        assert row.high == pytest.approx(slow_quantile(values, 0.975))


def test_the_worst_language_is_named_and_chosen_anew_in_every_draw():
    dense, pressed = pair(loss={"eng_Latn": 0.05, "hin_Deva": 0.05, "yor_Latn": 0.02})

    result = compare(dense, pressed)

    worst = named(result)["worst"]
    top = max(result.changes, key=lambda change: change.change)
    assert (worst.language, worst.value) == (top.language, top.change)
    assert worst.low > max(change.low for change in result.changes)
    assert [row.language for row in result.summaries if row.name != "worst"] == [None] * 7


def test_no_change_at_all_is_no_significant_difference():
    dense, _ = pair()

    result = compare(dense, dense)

    for change in result.changes:
        assert (change.change, change.low, change.high, change.p) == (0, 0, 0, 1)
        assert change.verdict == NO_DIFFERENCE == "no significant difference"
        assert not change.significant


def test_clear_changes_are_significant_and_unclear_ones_are_not():
    result = compare(*pair(documents=80))

    verdicts = {change.language: change.verdict for change in result.changes}
    assert verdicts["yor_Latn"] == verdicts["hin_Deva"] == "worse"
    assert verdicts["tha_Thai"] == NO_DIFFERENCE


def test_a_pressed_model_can_be_better():
    dense, pressed = pair(documents=80)

    result = compare(pressed, dense)

    assert {c.language: c.verdict for c in result.changes}["yor_Latn"] == "better"


def test_where_higher_is_better_a_lower_score_is_the_loss():
    dense = {"eng_Latn": tally([8] * 30, [10] * 30)}
    pressed = {"eng_Latn": tally([6] * 30, [10] * 30)}

    result = compare(dense, pressed, lower_is_better=False)

    assert result.changes[0].change == pytest.approx(0.25)
    assert result.changes[0].verdict == "worse"
    assert [c.language for c in gate(result, 0.2)] == ["eng_Latn"]


@pytest.mark.parametrize("ratio", [1.5, 0.5])
def test_draws_without_any_change_speak_against_a_change(ratio):
    dense = {"eng_Latn": tally([2] * 40, [1] * 40)}
    pressed = {"eng_Latn": tally([2 * ratio, *[2] * 39], [1] * 40)}

    change = compare(dense, pressed).changes[0]

    # The one document that changed is missing from a draw with probability (39/40)^40.
    assert change.p == pytest.approx(2 * (39 / 40) ** 40, abs=0.08)
    assert change.verdict == NO_DIFFERENCE


def test_a_few_documents_that_agree_prove_nothing():
    for documents, significant in ((5, False), (6, True)):
        ratio = [1.1] * documents
        dense, pressed = (
            {"eng_Latn": tally([1] * documents, ratio)},
            {"eng_Latn": tally(ratio, ratio)},
        )

        change = compare(dense, pressed).changes[0]

        assert change.p == 2.0 ** (1 - documents)
        assert change.significant is significant


def test_documents_are_paired_by_name_and_their_order_does_not_matter():
    dense, pressed = pair()

    result = compare({tag: shuffled(one) for tag, one in dense.items()}, pressed)

    for one, other in zip(result.changes, compare(dense, pressed).changes, strict=True):
        assert (one.low, one.high, one.p) == (other.low, other.high, other.p)


def test_parallel_documents_are_drawn_together_in_all_languages():
    dense, pressed = pair(loss={"eng_Latn": 0.1, "yor_Latn": 0.1})
    dense["yor_Latn"], pressed["yor_Latn"] = dense["eng_Latn"], pressed["eng_Latn"]

    result = compare(dense, pressed)

    assert result.paired_across_languages
    assert named(result)["spread"].high == pytest.approx(0, abs=1e-12)


def test_other_documents_are_drawn_apart_and_the_result_says_so():
    dense, pressed = pair(loss={"eng_Latn": 0.1, "yor_Latn": 0.1}, prefix=lambda tag: tag)
    rename = dense["yor_Latn"].documents
    dense["yor_Latn"] = Tally(
        rename, dense["eng_Latn"].numerator_D, dense["eng_Latn"].denominator_D
    )
    parts = pressed["eng_Latn"]
    pressed["yor_Latn"] = Tally(rename, parts.numerator_D, parts.denominator_D)

    result = compare(dense, pressed)

    assert not result.paired_across_languages
    assert named(result)["spread"].high > 1e-3


def test_drawn_apart_a_language_does_not_depend_on_the_others():
    dense, pressed = pair(prefix=lambda tag: tag)
    few = ("tha_Thai", "eng_Latn")

    all_four = {change.language: change for change in compare(dense, pressed).changes}
    two = compare({tag: dense[tag] for tag in few}, {tag: pressed[tag] for tag in few})

    for change in two.changes:
        assert (change.low, change.high) == (
            all_four[change.language].low,
            all_four[change.language].high,
        )


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered, trials = 0, 300
    rng = np.random.default_rng(2)
    for _ in range(trials):
        size = rng.integers(50, 400, 60)
        bits = size * rng.uniform(1, 3, 60)
        more = bits * (1.05 + rng.normal(0, 0.1, 60))
        result = compare(
            {"eng_Latn": tally(bits, size)}, {"eng_Latn": tally(more, size)}, draws=400, seed=3
        )
        covered += result.changes[0].low <= 0.05 <= result.changes[0].high

    assert 0.90 <= covered / trials <= 0.98


def test_without_a_difference_p_is_small_about_as_often_as_it_says():
    small, trials = 0, 300
    rng = np.random.default_rng(4)
    for _ in range(trials):
        size = rng.integers(50, 400, 60)
        bits = size * rng.uniform(1, 3, 60)
        more = bits * (1 + rng.normal(0, 0.1, 60))
        result = compare(
            {"eng_Latn": tally(bits, size)}, {"eng_Latn": tally(more, size)}, draws=400, seed=3
        )
        small += result.changes[0].p < 0.05

    assert 0.01 <= small / trials <= 0.10


def test_same_seed_same_result_and_another_seed_another():
    dense, pressed = pair()

    assert compare(dense, pressed, seed=7) == compare(dense, pressed, seed=7)
    assert compare(dense, pressed, seed=7) != compare(dense, pressed, seed=8)


def test_thirds_by_share_and_levels_without_shares():
    tags = ("eng_Latn", "deu_Latn", "rus_Cyrl", "hin_Deva", "tha_Thai", "yor_Latn", "hau_Latn")
    loss = {tag: 0.01 * (i + 1) for i, tag in enumerate(tags)}
    dense, pressed = pair(loss=loss, noise=0)
    shares = {tag: 0.5**i for i, tag in enumerate(tags)}

    by_share = named(compare(dense, pressed, shares=shares))
    by_level = named(compare(dense, pressed))

    assert by_share["low_resource"].value == pytest.approx((0.06 + 0.07) / 2)
    assert by_share["high_resource"].value == pytest.approx((0.01 + 0.02) / 2)
    assert by_level["low_resource"].value == pytest.approx((0.06 + 0.07) / 2)
    assert by_share["latin"].value == pytest.approx((0.01 + 0.02 + 0.06 + 0.07) / 4)


def test_a_group_without_a_language_has_no_row():
    dense, pressed = pair(loss={"hin_Deva": 0.1, "tha_Thai": 0.2})

    assert "latin" not in named(compare(dense, pressed))
    assert "non_latin" in named(compare(dense, pressed))


def slow_holm(p):
    """Closed testing: the largest Bonferroni-corrected minimum over all sets that hold i."""
    adjusted = []
    for i in range(len(p)):
        others = [j for j in range(len(p)) if j != i]
        worst = 0.0
        for size in range(len(p)):
            for chosen in itertools.combinations(others, size):
                worst = max(worst, (size + 1) * min(p[j] for j in (i, *chosen)))
        adjusted.append(min(1.0, worst))
    return adjusted


@pytest.mark.parametrize(
    "p", [[0.01, 0.04, 0.03, 0.005], [0.2], [0.02, 0.02, 0.02], [0.9, 0.001, 0.5], []]
)
def test_holm_equals_closed_testing_with_bonferroni(p):
    assert holm(p) == pytest.approx(slow_holm(p))


def test_holm_equals_closed_testing_on_random_values():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.uniform(0, 0.3, 7).tolist()
        assert holm(p) == pytest.approx(slow_holm(p))


def test_the_adjusted_values_are_those_of_holm():
    result = compare(*pair())

    assert [c.p_holm for c in result.changes] == pytest.approx(
        slow_holm([c.p for c in result.changes])
    )
    assert all(c.significant == (c.p_holm < 0.05) for c in result.changes)


def test_the_gate_names_the_languages_that_lose_too_much_worst_first():
    result = compare(*pair(documents=200))

    assert [c.language for c in gate(result, 0.03)] == ["yor_Latn", "hin_Deva"]
    assert gate(result, 0.5) == []
    edge = next(c for c in result.changes if c.language == "yor_Latn")
    assert edge not in gate(result, edge.change)


def test_a_confident_gate_judges_the_upper_limit():
    result = compare(*pair(documents=200))
    edge = next(c for c in result.changes if c.language == "hin_Deva")
    between = (edge.change + edge.high) / 2

    assert edge not in gate(result, between)
    assert edge in gate(result, between, confident=True)


def test_other_documents_name_the_language_and_the_difference():
    dense, pressed = pair()
    parts = pressed["yor_Latn"]
    names = ("other/1", *parts.documents[1:])
    pressed["yor_Latn"] = Tally(names, parts.numerator_D, parts.denominator_D)

    with pytest.raises(BadRun, match=r"yor_Latn: 1 documents .*dense model only \(doc/0\)"):
        compare(dense, pressed)
    with pytest.raises(BadRun, match=r"yor_Latn: 1 documents .*dense model only \(other/1\)"):
        compare(pressed, dense)


def test_a_missing_language_is_named():
    dense, pressed = pair()
    del pressed["hin_Deva"]

    with pytest.raises(BadRun, match="pressed model was not evaluated in hin_Deva"):
        compare(dense, pressed)
    with pytest.raises(BadRun, match="dense model was not evaluated in hin_Deva"):
        compare(pressed, dense)
    with pytest.raises(BadRun, match="no language"):
        compare({}, {})


def test_a_score_of_zero_has_no_relative_change():
    zero = {"eng_Latn": tally([0] * 9, [5] * 9)}
    rare = {"eng_Latn": tally([0, 0, 1], [5] * 3)}

    with pytest.raises(BadRun, match="eng_Latn: the dense score is zero"):
        compare(zero, zero)
    with pytest.raises(BadRun, match="eng_Latn: 3 documents are too few"):
        compare(rare, rare)


def test_too_few_draws_to_show_anything_are_refused():
    dense, pressed = pair()

    with pytest.raises(BadSetting, match=r"100 draws .* 4 languages .* at least 160"):
        compare(dense, pressed, draws=100)


def test_a_language_without_a_share_is_named():
    dense, pressed = pair()

    with pytest.raises(BadSetting, match="no training share for tha_Thai"):
        compare(dense, pressed, shares={"eng_Latn": 1, "hin_Deva": 1, "yor_Latn": 1})


# ---- right or wrong ------------------------------------------------------------------------


def answers(*runs):
    """A tally of documents that are right (1) or wrong (0): so many of each, in turn."""
    hits = [hit for hit, times in runs for _ in range(times)]
    return tally(hits, [1] * len(hits))


@pytest.mark.parametrize(("lost", "gained"), [(9, 2), (3, 3), (0, 0), (1, 0), (2, 14)])
def test_where_documents_are_right_or_wrong_the_p_value_is_that_of_mcnemar(lost, gained):
    dense = {"eng_Latn": answers((1, 30), (1, lost), (0, gained), (0, 7))}
    pressed = {"eng_Latn": answers((1, 30), (0, lost), (1, gained), (0, 7))}

    (change,) = compare(dense, pressed, lower_is_better=False, binary=True).changes
    (other,) = compare(dense, pressed, lower_is_better=False).changes

    expected = binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert change.p == pytest.approx(expected)
    assert (change.low, change.high) == (other.low, other.high)
    assert change.change == pytest.approx((lost - gained) / (30 + lost))


def test_documents_of_more_than_one_answer_are_no_case_for_mcnemar():
    dense, pressed = pair(documents=20)

    assert compare(dense, pressed, binary=True) == compare(dense, pressed)


def test_p_values_of_mcnemar_are_corrected_over_languages_as_others_are():
    dense = {"eng_Latn": answers((1, 40)), "swh_Latn": answers((1, 40))}
    pressed = {"eng_Latn": answers((1, 33), (0, 7)), "swh_Latn": answers((1, 34), (0, 6))}

    english, swahili = compare(dense, pressed, lower_is_better=False, binary=True).changes

    assert (english.p, swahili.p) == (2 / 2**7, 2 / 2**6)
    assert (english.p_holm, swahili.p_holm) == (4 / 2**7, 2 / 2**6)
    assert [english.verdict, swahili.verdict] == ["worse", "worse"]


def test_a_language_at_chance_has_nothing_to_lose():
    """55 of 100 are no more than guessing finds; 90 of 100 are."""
    dense = {"eng_Latn": answers((1, 90), (0, 10)), "yor_Latn": answers((1, 55), (0, 45))}
    pressed = {"eng_Latn": answers((1, 70), (0, 30)), "yor_Latn": answers((1, 20), (0, 80))}
    floors = {"eng_Latn": 0.5, "yor_Latn": 0.5}

    told = compare(dense, pressed, lower_is_better=False, binary=True, floors=floors)
    blind = compare(dense, pressed, lower_is_better=False, binary=True)

    english, yoruba = told.changes
    assert (english.at_chance, english.verdict) == (False, "worse")
    assert (yoruba.at_chance, yoruba.significant, yoruba.verdict) == (True, False, AT_CHANCE)
    assert [change.verdict for change in blind.changes] == ["worse", "worse"]
    assert [change.language for change in gate(told, 0.05)] == ["eng_Latn"]
    assert [change.language for change in gate(blind, 0.05)] == ["yor_Latn", "eng_Latn"]
    assert named(told)["worst"].language == "eng_Latn"
    assert named(told)["mean"].value == pytest.approx(2 / 9)
    assert "low_resource" not in named(told)  # Yoruba alone would have been in it


def test_the_interval_decides_what_is_at_chance_and_the_majority_may_be_higher():
    """Of 100 answers 60 are right: their interval ends near 0.5."""
    dense = {"eng_Latn": answers((1, 62), (0, 38))}
    found = {
        floor: compare(dense, dense, lower_is_better=False, floors={"eng_Latn": floor})
        .changes[0]
        .at_chance
        for floor in (0.45, 0.51, 0.55, 0.7)
    }

    low = binomtest(62, 100).proportion_ci(method="wilson").low
    assert 0.51 < low < 0.55
    assert found == {0.45: False, 0.51: False, 0.55: True, 0.7: True}


def test_where_all_are_at_chance_summaries_are_of_all():
    dense = {"eng_Latn": answers((1, 50), (0, 50)), "yor_Latn": answers((1, 55), (0, 45))}

    found = compare(dense, dense, lower_is_better=False, floors=dict.fromkeys(dense, 0.6))

    assert all(change.at_chance for change in found.changes)
    assert named(found)["mean"].value == 0


def test_a_language_with_hardly_a_hit_does_not_keep_others_from_being_compared():
    """Of 100 answers 3 are right: some draws have none, and no relative change."""
    dense = {"eng_Latn": answers((1, 90), (0, 10)), "yor_Latn": answers((1, 3), (0, 97))}
    pressed = {"eng_Latn": answers((1, 70), (0, 30)), "yor_Latn": answers((1, 5), (0, 95))}
    floors = {"eng_Latn": 0.25, "yor_Latn": 0.25}

    english, yoruba = compare(dense, pressed, lower_is_better=False, floors=floors).changes
    alone = {"yor_Latn": dense["yor_Latn"]}, {"yor_Latn": pressed["yor_Latn"]}
    (worst,) = (
        row
        for row in compare(*alone, lower_is_better=False, floors=floors).summaries
        if row.name == "worst"
    )

    assert (english.verdict, yoruba.verdict) == ("worse", AT_CHANCE)
    assert yoruba.change == pytest.approx(-2 / 3)
    assert yoruba.low < yoruba.change < yoruba.high
    assert (worst.low, worst.high) == (yoruba.low, yoruba.high)
    with pytest.raises(BadRun, match="yor_Latn: 100 documents are too few"):
        compare(dense, pressed, lower_is_better=False)
