"""Rows of float64, sixteen cells at a time (lanes.py): exponentials, products, the best way into each state.

A row ends after `end` states, and nothing behind is touched. Only `padded` rows have room for whole blocks: what is
stored under a mask is read late again, so rows that one step hands to the next are such, and matrices too.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from hmmtts.hmm.backends.cpu.compile import inner, row
from hmmtts.hmm.backends.cpu.lanes import (
    WIDTH,
    Lanes,
    from_bits,
    largest,
    load,
    load_until,
    lower,
    packed,
    smallest,
    spread,
    store,
    store_until,
    to_bits,
    top,
    total,
    where,
)
from hmmtts.hmm.backends.cpu.product import aligned

NONE = -np.inf
LOWEST = -708.0  # below, exp is no ordinary number any more
LOG2_E = 1.4426950408889634
SQRT_2, LN_2 = 1.4142135623730951, 0.6931471805599453
# ln 2 in two parts, the first with few digits, so that n * LN_2_HIGH is exact
LN_2_HIGH = 6.93145751953125e-1
LN_2_LOW = 1.42860682030941723212e-6
ROUND = 1.5 * 2.0**52  # a number that this is added to has its nearest whole number in its lowest bits
ONE = 1023 << 52  # the bits of 1.0


@intrinsic
def _short(context, lanes):
    """float64 to int16, cut off."""

    def generate(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.VectorType(ir.IntType(16), WIDTH))

    return Lanes(types.int16)(lanes), generate


@inner
def exp(x):
    """exp(x) for x up to 700; 0 below -708. The series, to r**13 for |r| <= ln(2) / 2: to the last bit or two."""
    ordinary = largest(x, spread(LOWEST))
    rounded = ordinary * LOG2_E + ROUND
    n = rounded - ROUND
    r = ordinary - n * LN_2_HIGH - n * LN_2_LOW
    p = r * (1 / 6227020800) + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r * r + r + 1.0
    return where(x < LOWEST, spread(0.0), p * from_bits((to_bits(rounded) << 52) + ONE))


@inner
def log_one_and(e):
    """log(1 + e) for e from 0 to 1: 2 artanh(s), in s = f / (2 + f) for 1 + f = 1 + e, or half of it and log 2 more."""
    halved = e > SQRT_2 - 1
    f = where(halved, e * 0.5 - 0.5, e)
    s = f / (f + 2.0)
    z = s * s
    p = z * (2 / 21) + 2 / 19
    p = p * z + 2 / 17
    p = p * z + 2 / 15
    p = p * z + 2 / 13
    p = p * z + 2 / 11
    p = p * z + 2 / 9
    p = p * z + 2 / 7
    p = p * z + 2 / 5
    p = p * z + 2 / 3
    return p * z * s + s * 2.0 + where(halved, spread(LN_2), spread(0.0))


@inner
def log_sum(a, b):
    """log(exp(a) + exp(b)), where either may be -inf."""
    top = largest(a, b)
    return top + log_one_and(exp(smallest(a, b) - largest(top, spread(-1e300))))


@inner
def exponentiate(x, shift, out, end):
    """out(n) = exp(x(n) - shift). Returns the sum."""
    sums = spread(0.0)
    for n in range(0, end, WIDTH):
        e = exp(load_until(x, n, end, NONE) - shift)
        store_until(out, n, end, e)
        sums = sums + e
    return total(sums)


@inner
def most(x, end):
    found = spread(NONE)
    for n in range(0, end, WIDTH):
        found = largest(found, load_until(x, n, end, NONE))
    return top(found)


@row
def copy(x, out):
    """Of any type."""
    for n in range(out.shape[0]):
        out[n] = x[n]


@inner
def add(x, y, out, end):
    for n in range(0, end, WIDTH):
        store_until(out, n, end, load_until(x, n, end, 0.0) + load_until(y, n, end, 0.0))


@inner
def add_number(x, number, out, end):
    for n in range(0, end, WIDTH):
        store_until(out, n, end, load_until(x, n, end, 0.0) + number)


@inner
def multiply(x, y, out, end):
    """Returns the sum of the products."""
    sums = spread(0.0)
    for n in range(0, end, WIDTH):
        product = load_until(x, n, end, 0.0) * load_until(y, n, end, 0.0)
        store_until(out, n, end, product)
        sums = sums + product
    return total(sums)


@inner
def dot(x, y, end):
    sums = spread(0.0)
    for n in range(0, end, WIDTH):
        sums = sums + load_until(x, n, end, 0.0) * load_until(y, n, end, 0.0)
    return total(sums)


@inner
def add_scaled(x, factor, sums, end):
    for n in range(0, end, WIDTH):
        store_until(sums, n, end, load_until(sums, n, end, 0.0) + load_until(x, n, end, 0.0) * factor)


@inner
def scale(x, factor, end):
    for n in range(0, end, WIDTH):
        store_until(x, n, end, load_until(x, n, end, 0.0) * factor)


@njit
def rows(count, end):
    """Padded rows of zeros, which begin where a vector may be loaded at once and end with a whole block."""
    width = (end + WIDTH - 1) // WIDTH * WIDTH
    return aligned(np.zeros(count * width + WIDTH), count, width)


@njit
def padded(matrix):
    copy = rows(*matrix.shape)
    copy[:, : matrix.shape[1]] = matrix
    return copy


@inner
def multiply_padded(x, y, out, end):
    """`y` need not be padded."""
    for n in range(0, end, WIDTH):
        store(out, n, load(x, n) * load_until(y, n, end, 0.0))


@inner
def none_below(x, least, end):
    below = spread(np.inf)
    for n in range(0, end, WIDTH):
        below = smallest(below, load_until(x, n, end, np.inf))
    return packed(below < least) == 0


@inner
def some_above(x, most, end):
    above = spread(NONE)
    for n in range(0, end, WIDTH):
        above = largest(above, load_until(x, n, end, NONE))
    return packed(above > most) != 0


@inner
def best_way(scores, arcs, best, pointer, end):
    """best(j) = max_i scores(i) + arcs(i, j), and the first i that reaches it; 0 where none does."""
    for j in range(0, end, WIDTH):
        top, first = spread(NONE), spread(0.0)
        for i in range(end):
            value = load_until(arcs[i], j, end, NONE) + scores[i]
            better = value > top
            top, first = where(better, value, top), where(better, spread(float(i)), first)
        store_until(best, j, end, top)
        store_until(pointer, j, end, _short(first))


@inner
def arrive(x, stay, move, skip, out, end):
    """out(n) = log sum of what comes to n from itself, from n - 1 and from n - 2."""
    moved_before, skipped_before = spread(NONE), spread(NONE)
    for n in range(0, end, WIDTH):
        here = load_until(x, n, end, NONE)
        moved, skipped = here + load_until(move, n, end, NONE), here + load_until(skip, n, end, NONE)
        arrived = log_sum(here + load_until(stay, n, end, NONE), lower(moved_before, moved, 1))
        store_until(out, n, end, log_sum(arrived, lower(skipped_before, skipped, 2)))
        moved_before, skipped_before = moved, skipped


@inner
def leave(x, stay, move, skip, out, end):
    """out(n) = log sum of what goes from n to itself, to n + 1 and to n + 2."""
    for n in range(0, end, WIDTH):
        left = log_sum(
            load_until(x, n, end, NONE) + load_until(stay, n, end, NONE),
            load_until(x, n + 1, end, NONE) + load_until(move, n, end, NONE),
        )
        left = log_sum(left, load_until(x, n + 2, end, NONE) + load_until(skip, n, end, NONE))
        store_until(out, n, end, left)


@njit
def copy_rows(held, first, last, kept):
    """The held rows, and zeros behind; at once, since row by row takes several times as long."""
    width = held.shape[1]
    cells, room = held.reshape(-1)[first * width : last * width], kept.reshape(-1)
    copy(cells, room[: len(cells)])
    room[len(cells) :] = 0
