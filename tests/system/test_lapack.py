"""Factors and inverses against NumPy's, and that others work meanwhile."""

import threading
import time

import numpy as np
import pytest
import scipy.linalg

from babelpress.system import lapack


def positive(size, seed=0):
    random = np.random.default_rng(seed)
    root = random.normal(size=(size + 3, size))
    return root.T @ root


@pytest.mark.parametrize("size", [1, 2, 7, 130])
def test_a_factor_is_numpys_and_its_inverse_is_scipys(size):
    matrix = positive(size)
    expected = np.linalg.cholesky(matrix)

    assert lapack.factor(matrix)
    np.testing.assert_allclose(np.tril(matrix), expected, rtol=1e-9, atol=1e-12)

    inverse = scipy.linalg.solve_triangular(np.tril(matrix), np.eye(size), lower=True)
    assert lapack.invert(matrix)
    np.testing.assert_allclose(np.tril(matrix), inverse, rtol=1e-9, atol=1e-12)


def test_only_the_lower_triangle_is_read():
    matrix, other = positive(9), positive(9)
    other[np.triu_indices(9, 1)] = np.nan

    assert lapack.factor(matrix) and lapack.factor(other)
    assert np.array_equal(np.tril(matrix), np.tril(other))


def test_what_has_no_factor_or_no_inverse_is_told():
    assert not lapack.factor(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert not lapack.invert(np.array([[1.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize("odd", [np.eye(3, dtype=np.float32), np.eye(4)[:, ::2], np.eye(4)[:2]])
def test_other_matrices_are_not_touched(odd):
    with pytest.raises(AssertionError):
        lapack.factor(odd)


def test_other_threads_go_on_meanwhile():
    """A thread that only waits wakes some times within the work of one call."""
    matrix, done, ticks = np.eye(3500), threading.Event(), []

    def tick():
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.perf_counter()
        assert lapack.factor(matrix)
        end = time.perf_counter()
    finally:
        done.set()
        thread.join()

    within = [t for t in ticks if start < t < end]
    assert len(within) >= 3  # with the lock kept one may slip in at each end
