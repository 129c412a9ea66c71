"""Rows of float64 cells in extended range: m * 2**e, a mantissa and a whole-number exponent, both float64.

`rows` has the same in float32. Semi-Markov models multiply the emissions of whole segments, which span thousands of
nats, and take differences of sums over the whole utterance: here neither range nor digits run out. An empty cell is
m = 0, e = NEVER. Bounds are given as a start and a count, for LLVM (see rows.py).
"""

import numpy as np
from numba import njit

from hmmtts.hmm.backends.cpu.compile import FAST, inner, row
from hmmtts.hmm.backends.cpu.rows import from_bits, to_bits

NEVER = -(2.0**60)
LOWEST = -1023.0  # 2**LOWEST is made zero
WHOLE = 1.5 * 2.0**52  # added and taken away: rounds to the nearest whole number
LOG2_E = 1.4426950408889634
LN_2_HIGH, LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@njit(inline="always", fastmath=FAST)
def power_of_two(e):
    """2**e for a whole number e up to 1023; 0 below -1022."""
    # The sum has e + 1023 in its lowest bits: moved to where the exponent is, they are the number.
    return from_bits(to_bits(max(e, LOWEST) + (WHOLE + 1023.0)) << 52)


@njit(inline="always", fastmath=FAST)
def exp_cell(x):
    """exp(x) as mantissa and exponent: Taylor's series to the 13th power, |remainder| <= ln(2) / 2."""
    n = (x * LOG2_E + WHOLE) - WHOLE
    r = (x - n * LN_2_HIGH) - n * LN_2_LOW
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 1.984126984126984e-04
    p = p * r + 1.388888888888889e-03
    p = p * r + 8.333333333333333e-03
    p = p * r + 4.1666666666666664e-02
    p = p * r + 1.6666666666666666e-01
    p = p * r + 0.5
    p = p * r + 1.0
    return p * r + 1.0, n


@row
def exponentials(x, m, e, count):
    """m * 2**e = exp(x)"""
    for i in range(count):
        m[i], e[i] = exp_cell(x[i])


@row
def plain_exponentials(x, out, count):
    """exp(x) for x <= 0, as a plain number; 0 where it is below the least."""
    for i in range(count):
        m, n = exp_cell(max(x[i], -800.0))
        out[i] = m * power_of_two(n)


@row
def inverses(m, e, out, oute, count):
    for i in range(count):
        out[i], oute[i] = 1.0 / m[i], -e[i]


@row
def products(a, ae, b, be, out, oute, start, count):
    """out = a b, with mantissas brought back into [1, 2)."""
    for i in range(count):
        j = start + i
        v = a[j] * b[j]
        bits = to_bits(v)
        zero = v <= 0.0
        whole = np.float64(bits >> 52) - 1023.0
        out[j] = 0.0 if zero else from_bits((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000)
        oute[j] = NEVER if zero else ae[j] + be[j] + whole


@row
def add_multiple(m, e, start, wm, we, offset, um, ue, count):
    """cell[start + i] += u * w[offset + i]"""
    for i in range(count):
        j, k = start + i, offset + i
        s = ue + we[k]
        top = max(e[j], s)
        m[j] = m[j] * power_of_two(e[j] - top) + (um * wm[k]) * power_of_two(s - top)
        e[j] = top


@row
def add_shares(out, wm, we, vm, ve, start, offset, um, ue, count):
    """out[offset + i] += u * w[offset + i] * v[start + i], a probability"""
    for i in range(count):
        j, k = start + i, offset + i
        out[k] += (um * wm[k]) * vm[j] * power_of_two(ue + we[k] + ve[j])


@inner
def normalised(m, e):
    """One cell with its mantissa in [1, 2)."""
    if m <= 0.0:
        return 0.0, NEVER
    bits = to_bits(m)
    return from_bits((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000), e + (np.float64(bits >> 52) - 1023.0)
