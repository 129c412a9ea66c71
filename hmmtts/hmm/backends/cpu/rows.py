"""Vectorised operations on one row of cells, in extended range.

A cell is a mantissa and an exponent, m * 2**e, both float32; the exponent is a whole number, exact below 2**24.
Sums and products of probabilities then need no logarithm and no exponential, and never underflow: PERFORMANCE.md
has the reasons. Every function takes 0-based slices: only so does LLVM see plain loops and use vector instructions.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from hmmtts.hmm.backends.cpu.compile import FAST, reduction, row

F = np.float32
NEVER = F(-1.0e9)  # exponent of a cell that is zero
LARGEST = F(2.0**22)  # exponents beyond are left to the log-domain kernel
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
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


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


@row
def split(x, shift, m, e):
    """Log-probabilities to cells, times 2**-shift."""
    for i in range(m.shape[0]):
        real = x[i] > F(-1.0e6)
        v = x[i] if real else F(0.0)
        n = nearest(v * LOG2_E)
        m[i] = _exp_small(v - n * LN_2_HIGH - n * LN_2_LOW) if real else F(0.0)
        e[i] = n - shift if real else NEVER


@row
def normalise(m, e):
    """Mantissas back into [1, 2)."""
    for i in range(m.shape[0]):
        bits = _to_bits(m[i])
        zero = m[i] <= F(0.0)
        e[i] = NEVER if zero else e[i] + F((bits >> 23) - 127)
        m[i] = F(0.0) if zero else _from_bits(np.int32((bits & 0x7FFFFF) | 0x3F800000))


@row
def multiply(m, e, factor, factor_e):
    for i in range(m.shape[0]):
        m[i] *= factor[i]
        e[i] += factor_e[i]


@row
def add(a, ae, b, be, out, oute):
    for i in range(out.shape[0]):
        top = max(ae[i], be[i])
        out[i] = a[i] * power_of_two(ae[i] - top) + b[i] * power_of_two(be[i] - top)
        oute[i] = top


@row
def add_times(a, ae, b, be, m, e, out, oute):
    """(a + b) * m"""
    for i in range(out.shape[0]):
        top = max(ae[i], be[i])
        out[i] = (a[i] * power_of_two(ae[i] - top) + b[i] * power_of_two(be[i] - top)) * m[i]
        oute[i] = top + e[i]


@row
def weighted_add(a, ae, p, pe, b, be, q, qe, out, oute):
    """a * p + b * q"""
    for i in range(out.shape[0]):
        left = ae[i] + pe[i]
        right = be[i] + qe[i]
        top = max(left, right)
        out[i] = a[i] * p[i] * power_of_two(left - top) + b[i] * q[i] * power_of_two(right - top)
        oute[i] = top


@row
def add_weighted(out, oute, c, ce, r, re):
    """out += c * r"""
    for i in range(out.shape[0]):
        right = ce[i] + re[i]
        top = max(oute[i], right)
        out[i] = out[i] * power_of_two(oute[i] - top) + c[i] * r[i] * power_of_two(right - top)
        oute[i] = top


@row
def ratio(a, ae, b, be, scale, scale_e, out):
    """a * b * scale / 2**scale_e as plain numbers: posteriors from forward and backward cells. `out` may be `a`."""
    for i in range(out.shape[0]):
        out[i] = a[i] * b[i] * scale * power_of_two(ae[i] + be[i] - scale_e)


@row
def weighted_ratio(a, ae, p, pe, b, be, scale, scale_e, out):
    for i in range(out.shape[0]):
        out[i] = a[i] * p[i] * b[i] * scale * power_of_two(ae[i] + pe[i] + be[i] - scale_e)


@row
def product(a, ae, b, be, out, oute):
    for i in range(out.shape[0]):
        out[i] = a[i] * b[i]
        oute[i] = ae[i] + be[i]


@row
def fill(x, value):
    for i in range(x.shape[0]):
        x[i] = value


@row
def accumulate(total, x):
    """Sums over many frames, in float64."""
    for i in range(total.shape[0]):
        total[i] += x[i]


@reduction
def total(x):
    s = x.dtype.type(0.0)
    for i in range(x.shape[0]):
        s += x[i]
    return s


@njit(fastmath={"reassoc", "nsz"})
def magnitude(x):
    """The sum of absolute values, -inf (an impossible cell) left out: NaN or inf if a cell is NaN or +inf."""
    s = x.dtype.type(0.0)
    for i in range(x.shape[0]):
        s += x.dtype.type(0.0) if x[i] == -np.inf else abs(x[i])
    return s


@reduction
def largest(x):
    """The largest |value|, zero cells (-inf, or an exponent of NEVER) left out."""
    top = F(0.0)
    for i in range(x.shape[0]):
        top = max(top, abs(x[i]) if x[i] > F(-5.0e8) else F(0.0))
    return top
