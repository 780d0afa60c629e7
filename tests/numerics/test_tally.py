import numpy as np
import pyarrow.parquet as pq
import pytest

from babelpress.errors import BadRun
from babelpress.numerics.tally import Tally


def tally():
    return Tally(("b/2", "a/1", "c/é"), np.array([3.0, 1.0, 0.125]), np.array([2.0, 4.0, 1.0]))


def test_the_value_is_a_ratio_of_sums_not_a_mean_of_ratios():
    assert tally().value == pytest.approx(4.125 / 7)


def test_a_saved_tally_comes_back_to_the_last_bit(tmp_path):
    original = Tally(("x",), np.array([1 / 3]), np.array([7.0]))
    original.save(tmp_path / "one.parquet")
    tally().save(tmp_path / "three.parquet")

    assert Tally.load(tmp_path / "one.parquet").numerator_D.tobytes() == np.array([1 / 3]).tobytes()
    loaded = Tally.load(tmp_path / "three.parquet")
    assert loaded.documents == ("b/2", "a/1", "c/é")
    assert loaded.numerator_D.tolist() == [3.0, 1.0, 0.125]
    assert loaded.denominator_D.tolist() == [2.0, 4.0, 1.0]
    assert loaded.denominator_D.dtype == np.float64


def test_the_same_tally_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        tally().save(tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_columns_are_what_other_programs_may_rely_on(tmp_path):
    tally().save(tmp_path / "t.parquet")

    assert pq.read_schema(tmp_path / "t.parquet").names == ["document", "numerator", "denominator"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 cut off"])
def test_a_missing_or_broken_file_is_one_line_with_its_path(tmp_path, content):
    path = tmp_path / "t.parquet"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BadRun, match=r"t\.parquet cannot be read as a tally") as caught:
        Tally.load(path)

    assert "\n" not in str(caught.value)


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    import pyarrow as pa

    pq.write_table(pa.table({"document": ["a"], "score": [1.0]}), tmp_path / "t.parquet")

    with pytest.raises(BadRun, match="cannot be read as a tally"):
        Tally.load(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "columns",
    [
        (["a", "a"], [1.0, 2.0], [1.0, 1.0]),
        (["a", None], [1.0, 2.0], [1.0, 1.0]),
        ([1, 2], [1.0, 2.0], [1.0, 1.0]),
        (["a", "b"], [1.0, float("nan")], [1.0, 1.0]),
        (["a", "b"], [1.0, None], [1.0, 1.0]),
        (["a", "b"], [1.0, 2.0], [3.0, -1.0]),
        (["a", "b"], [1.0, 2.0], [0.0, 0.0]),
        (["a", "b"], ["1", "x"], [1.0, 1.0]),
        (["a", "b"], [[1.0], [2.0]], [1.0, 1.0]),
        ([], [], []),
    ],
)
def test_columns_that_make_no_score_are_refused(tmp_path, columns):
    import pyarrow as pa

    names = ("document", "numerator", "denominator")
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), tmp_path / "t.parquet")

    with pytest.raises(BadRun, match=r"^[^\n]*t\.parquet cannot be read as a tally[^\n]*$"):
        Tally.load(tmp_path / "t.parquet")


def test_a_document_is_tallied_once():
    with pytest.raises(AssertionError, match="twice"):
        Tally(("a", "a"), np.ones(2), np.ones(2))


def test_the_interval_is_that_of_a_slow_bootstrap():
    rng = np.random.default_rng(2)
    tally = Tally(tuple("abcdefg"), rng.uniform(1, 4, 7), np.array([1.0, 0, 3, 2, 2, 5, 1]))

    low, high = tally.interval(draws=300, seed=9)

    values = []
    for counts in np.random.default_rng(9).multinomial(7, [1 / 7] * 7, size=300):
        top = sum(c * n for c, n in zip(counts, tally.numerator_D, strict=True))
        bottom = sum(c * d for c, d in zip(counts, tally.denominator_D, strict=True))
        values.append(top / bottom)
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert low < tally.value < high


def test_draws_without_anything_to_divide_by_are_left_out():
    tally = Tally(("a", "b"), np.array([1.0, 1.0]), np.array([0.0, 2.0]))

    low, high = tally.interval(draws=200)

    assert (low, high) == (0.5, 1.0)
