"""Rows of float64 in lanes: as exact as numpy's, at every length, and nothing behind a row is touched."""

import numpy as np
import pytest
from numba import njit

from hmmtts.hmm.backends.cpu import doubles
from hmmtts.hmm.backends.cpu.compile import FAST
from hmmtts.hmm.backends.cpu.lanes import WIDTH, load_until, store_until
from hmmtts.hmm.backends.cpu.product import product as row_times_matrix

NONE = -np.inf
LENGTHS = [1, 2, 3, 16, 17, 31, 32, 33, 50, 65]


@njit(fastmath=FAST)
def exp(x, out, end):
    for n in range(0, end, WIDTH):
        store_until(out, n, end, doubles.exp(load_until(x, n, end, 0.0)))


@njit(fastmath=FAST)
def log_one_and(x, out, end):
    for n in range(0, end, WIDTH):
        store_until(out, n, end, doubles.log_one_and(load_until(x, n, end, 0.0)))


@njit(fastmath=FAST)
def log_sum(a, b, out, end):
    for n in range(0, end, WIDTH):
        store_until(out, n, end, doubles.log_sum(load_until(a, n, end, 0.0), load_until(b, n, end, 0.0)))


@njit(fastmath=FAST)
def product(factors, weights, end):
    sums = doubles.rows(1, end)[0]
    row_times_matrix(factors, doubles.padded(weights), sums, end)
    return sums[:end].copy()


@njit(fastmath=FAST)
def best_way(scores, arcs, best, pointer, end):
    doubles.best_way(scores, arcs, best, pointer, end)


@njit(fastmath=FAST)
def steps(x, stay, move, skip, arrived, left, end):
    doubles.arrive(x, stay, move, skip, arrived, end)
    doubles.leave(x, stay, move, skip, left, end)


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(found / truth - 1).max())


def test_exponentials_and_logarithms_are_exact_to_the_last_bits():
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.uniform(-707, 700, 50_001), draw.uniform(-1, 1, 50_000)])
    e = np.concatenate([draw.uniform(0, 1, 50_001), 10 ** draw.uniform(-300, 0, 50_000)])
    out = np.empty_like(x)
    exp(x, out, len(x))
    assert relative_error(out, np.exp(x.astype(np.longdouble))) < 4e-16
    log_one_and(e, out, len(e))
    assert relative_error(out, np.log1p(e.astype(np.longdouble))) < 6e-16


def test_what_is_impossible_or_underflows_is_zero():
    x, out = np.array([0.0, NONE, -709.0, -1e300]), np.empty(4)
    exp(x, out, 4)
    assert out.tolist() == [1, 0, 0, 0]
    a, b = np.array([NONE, NONE, 2.0, -1e5, 3.0]), np.array([NONE, 1.0, NONE, -1e5, -900.0])
    out = np.empty(5)
    log_sum(a, b, out, 5)
    assert out.tolist() == [NONE, 1.0, 2.0, -1e5 + np.log(2), 3.0]


@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_every_length(n):
    draw = np.random.default_rng(n)
    x, weights = draw.random(n), draw.random((n, n))
    np.testing.assert_allclose(product(x, weights, n), x @ weights, rtol=1e-13)
    scores, arcs = draw.integers(0, 3, n) * 1.0, draw.integers(0, 3, (n, n)) * 1.0  # many ties
    arcs[:, 0] = NONE
    best, pointer = np.full(n + 1, 7.0), np.full(n + 1, 7, np.int16)
    best_way(scores, arcs, best, pointer, n)
    ways = scores[:, None] + arcs
    np.testing.assert_array_equal(best[:n], ways.max(0))
    np.testing.assert_array_equal(pointer[:n], ways.argmax(0))
    assert (best[n], pointer[n]) == (7, 7)


@pytest.mark.parametrize("n", LENGTHS)
def test_steps_from_left_to_right(n):
    draw = np.random.default_rng(n)
    x, stay, move, skip = 300 * draw.standard_normal((4, n))
    x[draw.random(n) < 0.3] = skip[draw.random(n) < 0.5] = NONE
    arcs = np.full((n, n), NONE)
    for distance, arc in enumerate((stay, move, skip)):
        for i in range(n - distance):
            arcs[i, i + distance] = arc[i]
    arrived, left = np.full((2, n + 1), 7.0)
    steps(x, stay, move, skip, arrived, left, n)
    np.testing.assert_allclose(arrived[:n], np.logaddexp.reduce(x[:, None] + arcs, 0), 1e-14, 1e-12)
    np.testing.assert_allclose(left[:n], np.logaddexp.reduce(arcs + x, 1), 1e-14, 1e-12)
    assert arrived[n] == left[n] == 7
