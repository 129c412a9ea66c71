"""Vectorised operations on one row of cells, in extended range.

A cell is a mantissa and an exponent, m * 2**e, both float32; the exponent is a whole number, exact below 2**24.
Sums and products of probabilities then need no logarithm and no exponential, and never underflow: docs/hmm.md has
the reasons. In the names, `a, ae` is a row of such cells.

A row of cells has PAD empty ones on both sides, so state n is cell n + PAD; emissions, posteriors and counts have
none. Bounds are unsigned: for signed indices numba allows for negative ones, and LLVM then gathers cell by cell.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from hmmtts.hmm.backends.cpu.compile import FAST, inner, reduction, row

F = np.float32
PAD = 2
ONE, TWO = np.uint64(1), np.uint64(PAD)
LANES = np.uint64(16)  # float32 cells in the longest vectors
WHOLE = ~np.uint64(15)
NEVER = F(-1.0e9)  # exponent of a cell that is zero
NOT_ZERO = F(-5.0e8)
LARGEST = F(2.0**22)  # exponents beyond are left to the log-domain kernel
LOWEST = np.finfo(F).min  # below is only -inf
LOG2_E = F(1.4426950408889634)
LN_2_HIGH = F(0.693359375)  # ln 2 in two parts, the first with few digits, so that n * LN_2_HIGH is exact
LN_2_LOW = F(-2.12194440e-4)


@intrinsic
def _truncate(context, x):
    def generate(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _from_bits(context, x):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _to_bits(context, x):
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
    return _from_bits(np.int32((_truncate(min(max(e, F(-127.0)), F(127.0))) + np.int32(127)) << 23))


@njit(inline="always", fastmath=FAST)
def exp(x):
    """exp(x) for x up to 88; 0 below -87."""
    x = max(x, F(-88.0))
    n = nearest(x * LOG2_E)
    return _exp_small(x - n * LN_2_HIGH - n * LN_2_LOW) * power_of_two(n)


@njit(inline="always", fastmath=FAST)
def _emission(score, shift):
    """exp(score) / 2**shift as a cell."""
    possible = score > F(-1.0e6)
    v = score if possible else F(0.0)
    n = nearest(v * LOG2_E)
    m = _exp_small(v - n * LN_2_HIGH - n * LN_2_LOW)
    return (m if possible else F(0.0)), (n - shift if possible else NEVER)


@njit(inline="always")
def blocks(lo, hi):
    """lo to hi as whole vectors, the last of which overlaps: no cell is left to a scalar loop.

    Only for functions that write what they do not read, since some cells are computed twice.
    """
    whole = lo + ((hi - lo) & WHOLE)
    overlapping = hi - LANES if hi - lo > LANES else whole
    return (lo, whole), (overlapping if whole < hi else hi, hi)


@row
def from_scores(x, m, e, lo, hi):
    for n in range(lo, hi):
        m[n + TWO], e[n + TWO] = _emission(x[n], F(0.0))


@row
def forward_plain(a, ae, w, we, x, shift, out, oute, lo, hi):
    """out(n) = [a(n) + a(n-1)] w(n) emission(n)"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            m, e = _emission(x[n], shift)
            top = max(ae[i], ae[i - ONE])
            out[i] = (a[i] * power_of_two(ae[i] - top) + a[i - ONE] * power_of_two(ae[i - ONE] - top)) * (
                w[i] * m
            )
            oute[i] = top + we[i] + e


@row
def forward_arcs(a, ae, p, pe, q, qe, x, shift, out, oute, lo, hi):
    """out(n) = [a(n) p(n) + a(n-1) q(n-1)] emission(n)"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            j = i - ONE
            m, e = _emission(x[n], shift)
            stayed, moved = ae[i] + pe[i], ae[j] + qe[j]
            top = max(stayed, moved)
            out[i] = (a[i] * p[i] * power_of_two(stayed - top) + a[j] * q[j] * power_of_two(moved - top)) * m
            oute[i] = top + e


@row
def forward_skips(a, ae, p, pe, q, qe, r, re, x, shift, out, oute, lo, hi):
    """out(n) = [a(n) p(n) + a(n-1) q(n-1) + a(n-2) r(n-2)] emission(n)"""
    for n in range(lo, hi):
        i = n + TWO
        j, k = i - ONE, i - TWO
        m, e = _emission(x[n], shift)
        stayed, moved, skipped = ae[i] + pe[i], ae[j] + qe[j], ae[k] + re[k]
        top = max(max(stayed, moved), skipped)
        total = a[i] * p[i] * power_of_two(stayed - top) + a[j] * q[j] * power_of_two(moved - top)
        out[i] = (total + a[k] * r[k] * power_of_two(skipped - top)) * m
        oute[i] = top + e


@row
def emit(b, be, w, we, x, shift, out, oute, lo, hi):
    """out(n) = b(n) w(n) emission(n)"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            m, e = _emission(x[n], shift)
            out[i] = b[i] * w[i] * m
            oute[i] = be[i] + we[i] + e


@row
def backward_plain(c, ce, out, oute, lo, hi):
    """out(n) = c(n) + c(n+1)"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            top = max(ce[i], ce[i + ONE])
            out[i] = c[i] * power_of_two(ce[i] - top) + c[i + ONE] * power_of_two(ce[i + ONE] - top)
            oute[i] = top


@row
def backward_arcs(c, ce, p, pe, q, qe, out, oute, lo, hi):
    """out(n) = p(n) c(n) + q(n) c(n+1)"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            j = i + ONE
            stayed, moved = ce[i] + pe[i], ce[j] + qe[i]
            top = max(stayed, moved)
            out[i] = c[i] * p[i] * power_of_two(stayed - top) + c[j] * q[i] * power_of_two(moved - top)
            oute[i] = top


@row
def backward_skips(c, ce, p, pe, q, qe, r, re, out, oute, lo, hi):
    """out(n) = p(n) c(n) + q(n) c(n+1) + r(n) c(n+2)"""
    for n in range(lo, hi):
        i = n + TWO
        j, k = i + ONE, i + TWO
        stayed, moved, skipped = ce[i] + pe[i], ce[j] + qe[i], ce[k] + re[i]
        top = max(max(stayed, moved), skipped)
        total = c[i] * p[i] * power_of_two(stayed - top) + c[j] * q[i] * power_of_two(moved - top)
        out[i] = total + c[k] * r[i] * power_of_two(skipped - top)
        oute[i] = top


@row
def state_share(a, ae, b, be, scale, scale_e, out, lo, hi):
    """out(n) = a(n) b(n) scale / 2**scale_e, as plain numbers"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            out[n] = a[i] * b[i] * scale * power_of_two(ae[i] + be[i] - scale_e)


@row
def arc_share(a, ae, p, pe, c, ce, ahead, scale, scale_e, out, lo, hi):
    """out(n) = a(n) p(n) c(n + ahead) scale / 2**scale_e, as plain numbers"""
    for first, last in blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            j = i + ahead
            out[n] = a[i] * p[i] * c[j] * scale * power_of_two(ae[i] + pe[i] + ce[j] - scale_e)


@row
def normalise(m, e, lo, hi):
    """Mantissas back into [1, 2)."""
    for n in range(lo, hi):
        i = n + TWO
        bits = _to_bits(m[i])
        zero = m[i] <= F(0.0)
        e[i] = NEVER if zero else e[i] + F((bits >> 23) - 127)
        m[i] = F(0.0) if zero else _from_bits(np.int32((bits & 0x7FFFFF) | 0x3F800000))


@inner
def clear(m, e, lo, hi):
    """Empty cells from state lo to state hi."""
    for n in range(lo, hi):
        m[n + TWO], e[n + TWO] = F(0.0), NEVER


@row
def fill(x, value, lo, hi):
    for i in range(lo, hi):
        x[i] = value


@row
def scale(x, factor, lo, hi):
    for i in range(lo, hi):
        x[i] *= factor


@row
def accumulate(sums, x, lo, hi):
    """Sums over many frames, in float64."""
    for i in range(lo, hi):
        sums[i] += x[i]


@reduction
def total(x, lo, hi):
    s = F(0.0)
    for i in range(lo, hi):
        s += x[i]
    return s


@inner
def within(x, floor, limit, lo, hi):
    """Whether nothing but what is below `floor` goes beyond the limit."""
    beyond = np.int32(0)  # a count vectorises, an early exit does not
    for i in range(lo, hi):
        beyond += np.int32(0) if (x[i] < floor) | (abs(x[i]) <= limit) else np.int32(1)
    return beyond == 0


@row
def _ordinary(x, hi):
    """Whether no exponent is all ones, as those of NaN and of both infinities are."""
    ones = _to_bits(x.dtype.type(np.inf))
    special = np.int32(0)
    for first, last in blocks(np.uint64(0), hi):
        for n in range(first, last):
            special += np.int32(1) if (_to_bits(x[n]) & ones) == ones else np.int32(0)
    return special == 0


@inner
def finite(x, states):
    """Whether the row is free of NaN and +inf: by its bits, since fast arithmetic is allowed to overlook a NaN."""
    if _ordinary(x, np.uint64(states)):
        return True
    infinity, impossible = (_to_bits(x.dtype.type(np.inf)), _to_bits(x.dtype.type(-np.inf)))
    bad = 0
    for n in range(states):
        bits = _to_bits(x[n])
        bad += (bits >= infinity) | ((bits < 0) & (bits > impossible))
    return bad == 0
