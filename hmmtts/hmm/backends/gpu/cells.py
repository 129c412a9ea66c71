# mypy: ignore-errors
"""Cells m 2^e of extended range in Triton: a mantissa in [1, 2) and a whole exponent, both float64; zero is (0, -inf).

No cell can overflow or vanish, whatever the scores (also the -1e30 that many write for "never"), so there is no log
and no exp in a recursion, nothing to be done again elsewhere, and no rounding worth a correction. A recursion waits
for its own results far longer than for arithmetic: on data-centre GPUs float64 costs little here. Graphics cards for
games compute it 32 to 64 times slower than float32 and take a few milliseconds for a batch of speech.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(-1e307)  # keeps -inf minus -inf out of the exponents


@triton.jit
def from_score(x):
    """The cell e^x."""
    y = x.to(tl.float64) * LOG2_E
    e = tl.floor(y)
    return tl.exp2(y - tl.maximum(e, LOWEST)), e


@triton.jit
def power(d):
    """2^d for whole d, from the bits; 0 and 2^1023 beyond the range."""
    k = tl.minimum(tl.maximum(d, -1023.0), 1023.0).to(tl.int64)
    return ((k + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def normal(m, e):
    """The same cell with its mantissa in [1, 2)."""
    bits = m.to(tl.int64, bitcast=True)
    grown = (bits >> 52) - 1023
    mantissa = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    return tl.where(m > 0, mantissa, 0.0), tl.where(m > 0, e + grown.to(tl.float64), float("-inf"))


@triton.jit
def add(am, ae, bm, be):
    top = tl.maximum(tl.maximum(ae, be), LOWEST)
    return am * power(ae - top) + bm * power(be - top), top


@triton.jit
def shifted(m, e, by: tl.constexpr, BLOCK: tl.constexpr):
    """Cell n is cell n - by of before; what comes in is zero."""
    n = tl.arange(0, BLOCK) - by
    inside = (n >= 0) & (n < BLOCK)
    n = tl.where(inside, n, 0)
    return tl.where(inside, tl.gather(m, n, 0), 0.0), tl.where(inside, tl.gather(e, n, 0), float("-inf"))


@triton.jit
def scale(m, e):
    """(by, top): times `by` 2^-top the cells sum to one, or to zero where all are zero."""
    top = tl.maximum(tl.max(e, 0), LOWEST)
    total = tl.sum(m * power(e - top), 0)
    return tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0), top
