"""One row of scores, cell by cell: exponentials, and the checks that a row may be computed with.

Bounds are unsigned: for signed indices numba allows for negative ones, and LLVM then gathers cell by cell.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from hmmtts.hmm.backends.cpu.compile import FAST, inner, reduction, row

F = np.float32
LANES = np.uint64(16)  # float32 cells in the longest vectors
WHOLE = ~np.uint64(15)
LOG2_E = F(1.4426950408889634)
LN_2_HIGH = F(0.693359375)  # ln 2 in two parts, the first with few digits, so that n * LN_2_HIGH is exact
LN_2_LOW = F(-2.12194440e-4)


@intrinsic
def _truncate(context, x):
    def generate(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def from_bits(context, x):
    """The real number whose bits a whole number has."""
    width = x.bitwidth

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType() if width == 32 else ir.DoubleType())

    return (types.float32 if width == 32 else types.float64)(x), generate


@intrinsic
def to_bits(context, x):
    width = x.bitwidth

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(width))

    return (types.int32 if width == 32 else types.int64)(x), generate


@intrinsic
def nearest(context, x):
    """The nearest whole number, ties to even."""

    def generate(context, builder, signature, arguments):
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [ir.FloatType()]), [arguments[0]])

    return types.float32(types.float32), generate


@njit(inline="always", fastmath=FAST)
def _exp_small(r):
    """exp(r) for |r| <= ln(2) / 2 (Cephes, relative error 6e-8)."""
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    return p * r * r + r + F(1.0)


@njit(inline="always", fastmath=FAST)
def power_of_two(e):
    """2**e for a whole number e up to 127; 0 below -126."""
    return from_bits(np.int32((_truncate(min(max(e, F(-127.0)), F(127.0))) + np.int32(127)) << 23))


@njit(inline="always", fastmath=FAST)
def exp(x):
    """exp(x) for x up to 88; 0 below -87."""
    x = max(x, F(-88.0))
    n = nearest(x * LOG2_E)
    return _exp_small(x - n * LN_2_HIGH - n * LN_2_LOW) * power_of_two(n)


@njit(inline="always")
def blocks(lo, hi):
    """lo to hi as whole vectors, the last of which overlaps: no cell is left to a scalar loop.

    Only for functions that write what they do not read, since some cells are computed twice.
    """
    whole = lo + ((hi - lo) & WHOLE)
    overlapping = hi - LANES if hi - lo > LANES else whole
    return (lo, whole), (overlapping if whole < hi else hi, hi)


@reduction
def most(x):
    top = x[0]
    for i in range(1, x.shape[0]):
        top = max(top, x[i])
    return top


@inner
def within(x, limit, end):
    """Whether all are -inf or not larger than the limit: by their bits, as below."""
    infinity, impossible = to_bits(x.dtype.type(np.inf)), to_bits(x.dtype.type(-np.inf))
    beyond = np.int32(0)  # a count vectorises, an early exit does not
    for n in range(np.uint64(0), end):
        bits = to_bits(x[n])
        size = bits & ~(infinity ^ impossible)  # without the sign
        beyond += np.int32((bits != impossible) & (size > to_bits(x.dtype.type(limit))))
    return beyond == 0


@row
def _ordinary(x, hi):
    """Whether no exponent is all ones, as those of NaN and of both infinities are."""
    ones = to_bits(x.dtype.type(np.inf))
    special = np.int32(0)
    for first, last in blocks(np.uint64(0), hi):
        for n in range(first, last):
            special += np.int32(1) if (to_bits(x[n]) & ones) == ones else np.int32(0)
    return special == 0


@inner
def finite(x, states):
    """Whether the row is free of NaN and +inf: by its bits, since fast arithmetic is allowed to overlook a NaN."""
    if _ordinary(x, np.uint64(states)):
        return True
    infinity, impossible = (to_bits(x.dtype.type(np.inf)), to_bits(x.dtype.type(-np.inf)))
    bad = 0
    for n in range(states):
        bits = to_bits(x[n])
        bad += (bits >= infinity) | ((bits < 0) & (bits > impossible))
    return bad == 0
