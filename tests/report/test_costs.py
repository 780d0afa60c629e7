"""What models take: the tables, and the chart of size against loss."""

from dataclasses import replace

import pytest

from babelpress.judge.collapse import Collapse, Point
from babelpress.judge.compare import Summary
from babelpress.judge.ladders import SPARSITY, Ladder, Rung
from babelpress.report import costs, data
from babelpress.report.page import render

LEDGER = {
    "bytes_dense": 10_000_000,
    "bytes_stored": 6_000_000,
    "parameters": 5_000_000,
    "bits_per_weight": 9.6,
    "parts": [
        {"part": "blocks", "parameters": 5_000_000, "bytes_dense": 10_000_000,
         "bytes_stored": 6_000_000, "bits": 9.6},
    ],
}  # fmt: skip
DENSE = {"parameters": 5_000_000, "nonzero": 5_000_000, "bytes_dense": 10_000_000,
         "bytes_stored": 10_000_000, "bytes_compressed": 8_000_000}  # fmt: skip


def with_ledgers(report, *changes):
    """The models with ledgers that differ in some values."""
    pressed = tuple(
        replace(model, ledger={**LEDGER, **change})
        for model, change in zip(report.pressed, changes, strict=True)
    )
    return replace(report, pressed=pressed)


def with_times(report, factor=0.75):
    """The first model was timed, and takes a part of the time of the dense one."""
    first, *others = report.pressed
    changes = tuple(
        replace(change, dense=10.0 * (1 + at), pressed=factor * 10.0 * (1 + at), change=factor - 1)
        for at, change in enumerate(first.comparison.changes[:3])
    )
    mean = Summary("mean", factor - 1, factor - 1.01, factor - 0.99, None)
    times = replace(first.comparison, changes=changes, summaries=(mean,))
    return replace(report, pressed=(replace(first, times=times), *others))


def points(spec):
    return {
        value.get("run", value["language"]): value
        for table in spec["data"]
        for value in table.get("values", [])
        if "language" in value
    }


@pytest.fixture
def pruned(sample):
    """Three runs of a ladder that differ in their zeros alone."""
    given = with_ledgers(
        sample,
        *(
            {"bytes_stored": 10_000_000, "nonzero": n, "bytes_compressed": 2 * n}
            for n in (3_500_000, 2_500_000, 1_500_000)
        ),
    )
    ladder = Ladder("wanda", SPARSITY, (Rung(0, 0.3), Rung(1, 0.5), Rung(2, 0.7)))
    found = Collapse((Point("eng_Latn", 1, 1, 1),), Point(None, 1, 1, 1), 0.05)
    return replace(given, sizes=DENSE, collapses=((ladder, found),))


def test_size_against_worst_loss_is_drawn_where_models_differ_in_size(sample):
    given = with_ledgers(sample, *({"bytes_stored": 4_000_000 + 90_000 * at} for at in range(3)))
    labels = data.labels(given.pressed)

    spec = costs.chart(given, labels)

    assert spec is not None
    found = points(spec)
    worst = given.pressed[1].comparison.summaries[1]
    assert found["proportional"]["size"] == pytest.approx(4.09)
    assert found["proportional"]["percent"] == pytest.approx(100 * worst.value)
    assert found["dense"]["size"] == 10.0
    assert len(found) == 4


def test_models_of_one_size_or_none_have_no_such_chart(sample):
    labels = data.labels(sample.pressed)

    assert costs.chart(with_ledgers(sample, {}, {}, {}), labels) is None
    assert costs.chart(sample, labels) is None


def test_pruned_models_differ_in_what_is_compressed_and_a_ladder_is_a_line(pruned):
    spec = costs.chart(pruned, data.labels(pruned.pressed))

    assert spec is not None
    found = points(spec)
    assert [found[name]["size"] for name in ("english", "proportional", "minimax")] == [7, 5, 3]
    assert found["dense"]["size"] == 8.0
    assert {v["line"] for name, v in found.items() if name != "dense"} == {"wanda, sparsity"}
    assert [found[name]["language"] for name in ("english", "minimax")] == ["0.3", "0.7"]


def test_without_the_dense_size_compressed_what_is_stored_is_drawn(pruned):
    known = {key: value for key, value in DENSE.items() if key != "bytes_compressed"}

    assert costs.chart(replace(pruned, sizes=known), data.labels(pruned.pressed)) is None


def test_the_table_has_the_dense_model_first_and_zeros_apart(pruned):
    dense, first, *_ = costs.lines(pruned)

    assert dense == costs.Line(
        "dense",
        "5,000,000",
        "5,000,000 (100.0\u202f%)",
        "10\u202fMB",
        "10\u202fMB",
        "8\u202fMB",
        "",
        "",
    )
    assert first.label == "english"
    assert first.nonzero == "3,500,000 (70.0\u202f%)"
    assert first.compressed == "7\u202fMB"


def test_models_that_say_no_more_than_their_parts_have_no_such_table(sample):
    assert costs.lines(with_ledgers(sample, {}, {}, {})) == ()
    assert costs.lines(sample) == ()


def test_times_stand_by_language_the_slowest_first(sample):
    given = with_times(sample)

    found = costs.times(given)
    dense, first, second, _ = costs.lines(given)

    assert found is not None
    assert found.labels == ("english",)
    assert found.rows[0][1:] == (
        "30.00",
        ("22.50 (\u221225.0\u202f%)",),
    )
    assert dense.time == "20.00"
    assert first.time == "15.00"
    assert first.slower.startswith("\u221225.0\u202f% (")
    assert (dense.slower, second.time, second.slower) == ("", "", "")
    assert costs.times(sample) is None


def test_numbers_are_unrounded_and_empty_where_they_are_not_known(pruned):
    dense, first, second, _ = costs.numbers(with_times(pruned, factor=0.7512345))

    assert (dense["model"], dense["bytes_compressed"], dense["ms_per_text"]) == (
        "dense",
        8_000_000,
        pytest.approx(20.0),
    )
    assert first["mean_change"] == pytest.approx(0.7512345 - 1)
    assert first["ms_per_text"] == pytest.approx(20 * 0.7512345)
    assert (second["nonzero"], second["mean_change"]) == (2_500_000, None)


def test_the_page_has_the_tables(pruned):
    page = render(with_times(pruned))

    assert 'id="takes"' in page
    assert 'id="times"' in page
    assert 'id="sizes"' in page
    assert page.count('class="ledger"') == 1
    bare = tuple(replace(model, ledger=None) for model in pruned.pressed)
    assert 'id="takes"' not in render(replace(pruned, pressed=bare))
