"""A row of numbers times a matrix, sixteen columns at a time (lanes.py), in float32 or float64."""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from hmmtts.hmm.backends.cpu.compile import inner
from hmmtts.hmm.backends.cpu.lanes import WIDTH, load, multiply_add, spread, store

BLOCK = np.uint64(WIDTH)
ONE, TWO, THREE, FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)


def padded(matrix: np.ndarray) -> np.ndarray:
    """Zeros behind the last axis, up to whole blocks."""
    rows = matrix.reshape(-1, matrix.shape[-1])
    width = -(-rows.shape[1] // WIDTH) * WIDTH
    memory = np.zeros(len(rows) * width + WIDTH, matrix.dtype)
    found = aligned(memory, len(rows), width)
    found[:, : rows.shape[1]] = rows
    return found.reshape(*matrix.shape[:-1], width)


@njit
def rows(count, width, like):
    """Not yet written; `width` is that of whole blocks."""
    return aligned(np.empty(count * width + WIDTH, like.dtype), count, width)


@register_jitable
def aligned(memory, count, width):
    """Rows begin where a block may be loaded at once."""
    ahead = (-(memory.ctypes.data // memory.itemsize)) % WIDTH
    return memory[ahead : ahead + count * width].reshape(count, width)


@inner
def product(factors, weights, sums, count):
    """sums(j) = sum_i factors(i) weights(i, j), over the first `count`; rows of weights and the sums are padded."""
    rows, j, width = np.uint64(count), np.uint64(0), np.uint64(sums.shape[0])
    while j + BLOCK < width:
        _two_blocks(factors, weights, sums, rows, j, j + BLOCK)
        j += BLOCK + BLOCK
    if j < width:
        _one_block(factors, weights, sums, rows, j)


@inner
def _two_blocks(factors, weights, sums, rows, j, k):
    """Four sums of each, since a sum must wait for its last term."""
    zero, i = spread(sums.dtype.type(0.0)), np.uint64(0)
    a0, a1, a2, a3 = zero, zero, zero, zero
    b0, b1, b2, b3 = zero, zero, zero, zero
    while i + FOUR <= rows:
        a0, b0 = _term(factors, weights, i, j, k, a0, b0)
        a1, b1 = _term(factors, weights, i + ONE, j, k, a1, b1)
        a2, b2 = _term(factors, weights, i + TWO, j, k, a2, b2)
        a3, b3 = _term(factors, weights, i + THREE, j, k, a3, b3)
        i += FOUR
    while i < rows:
        a0, b0 = _term(factors, weights, i, j, k, a0, b0)
        i += ONE
    store(sums, j, (a0 + a1) + (a2 + a3))
    store(sums, k, (b0 + b1) + (b2 + b3))


@inner
def _term(factors, weights, i, j, k, a, b):
    factor, row = spread(factors[i]), weights[i]
    return multiply_add(factor, load(row, j), a), multiply_add(factor, load(row, k), b)


@inner
def _one_block(factors, weights, sums, rows, j):
    zero, i = spread(sums.dtype.type(0.0)), np.uint64(0)
    a, b = zero, zero
    while i + TWO <= rows:
        a = multiply_add(spread(factors[i]), load(weights[i], j), a)
        b = multiply_add(spread(factors[i + ONE]), load(weights[i + ONE], j), b)
        i += TWO
    if i < rows:
        a = multiply_add(spread(factors[i]), load(weights[i], j), a)
    store(sums, j, a + b)
