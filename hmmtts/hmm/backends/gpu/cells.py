# mypy: ignore-errors
"""Cells m 2^e of extended range in Triton: a mantissa in the precision of the input, a whole exponent in float64.

No cell can overflow or vanish, so there is no log and no exp in a recursion, and nothing to be done again elsewhere.
A float64 exponent holds any score (also the -1e30 that many write for "never"); the few additions that it costs per
cell are slow only on graphics cards made for games. Zero is (0, -inf).
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(-1e307)  # keeps -inf minus -inf out of the exponents


@triton.jit
def from_score(x):
    """The cell e^x."""
    y = x.to(tl.float64) * LOG2_E
    e = tl.floor(y + 0.5)
    fraction = y - tl.maximum(e, LOWEST)
    return tl.where(fraction < -1.0, 0.0, _exp2(tl.maximum(fraction, -1.0).to(x.dtype))), e


@triton.jit
def _exp2(f):
    """2^f for |f| <= 1/2; the hardware's float32 exp2 errs ten times more, always to the same side."""
    if f.dtype == tl.float64:
        return tl.exp2(f)
    # Moshier, Cephes mathematical library (1989), exp2f.
    p = 1.535336188319500e-4 * f + 1.339887440266574e-3
    p = p * f + 9.618437357674640e-3
    p = p * f + 5.550332471162809e-2
    p = p * f + 2.402264791363012e-1
    p = p * f + 6.931472028550421e-1
    return p * f + 1.0


@triton.jit
def power(d, dtype: tl.constexpr):
    """2^d for whole d, from the bits; 0 and the largest power beyond the range."""
    if dtype == tl.float64:
        k = tl.minimum(tl.maximum(d, -1023.0), 1023.0).to(tl.int64)
        return ((k + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        k = tl.minimum(tl.maximum(d, -127.0), 127.0).to(tl.int32)
        return ((k + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def normal(m, e):
    """The same cell with its mantissa in [1, 2)."""
    if m.dtype == tl.float64:
        bits = m.to(tl.int64, bitcast=True)
        grown = (bits >> 52) - 1023
        mantissa = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        bits = m.to(tl.int32, bitcast=True)
        grown = (bits >> 23) - 127
        mantissa = ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    return tl.where(m > 0, mantissa, 0.0), tl.where(m > 0, e + grown.to(tl.float64), float("-inf"))


@triton.jit
def add(am, ae, bm, be):
    top = tl.maximum(tl.maximum(ae, be), LOWEST)
    return am * power(ae - top, am.dtype) + bm * power(be - top, am.dtype), top


@triton.jit
def shifted(m, e, by: tl.constexpr, BLOCK: tl.constexpr):
    """Cell n is cell n - by of before; what comes in is zero."""
    n = tl.arange(0, BLOCK) - by
    inside = (n >= 0) & (n < BLOCK)
    n = tl.where(inside, n, 0)
    return tl.where(inside, tl.gather(m, n, 0), 0.0), tl.where(inside, tl.gather(e, n, 0), float("-inf"))


@triton.jit
def share(m, e, total_m, total_e):
    """(m 2^e) / total as a plain number; 0 of a total of 0."""
    part = tl.where(total_m > 0, m / total_m, 0.0)
    return part * power(e - tl.maximum(total_e, LOWEST), m.dtype)
