"""Rows of cells in extended range, sixteen at a time (lanes.py).

A cell is a mantissa and an exponent, m * 2**e, both float32; the exponent is a whole number, exact below 2**24.
Sums and products of probabilities then need no logarithm and no exponential, and never underflow: docs/hmm.md has
the reasons. In the names, `a, ae` is a row of such cells.

A row of cells has PAD empty ones on both sides, so state n is cell n + PAD; emissions, posteriors and counts have none,
and end after `end` states. Rows are worked on in whole blocks of lanes: of the cells from `lo` to `hi` and of those
around them, which no path can use (left_to_right.py says why they do no harm).
"""

import numpy as np
from numba import njit

from hmmtts.hmm.backends.cpu import product
from hmmtts.hmm.backends.cpu.compile import inner
from hmmtts.hmm.backends.cpu.lanes import (
    WIDTH,
    double,
    from_bits,
    higher,
    largest,
    load,
    load_until,
    lower,
    magnitude,
    multiply_add,
    nearest,
    packed,
    real,
    smallest,
    spread,
    store,
    store_until,
    to_bits,
    total,
    where,
    whole,
)
from hmmtts.hmm.backends.cpu.rows import LN_2_HIGH, LN_2_LOW, LOG2_E, F

LANES = np.uint64(WIDTH)
PAD = LANES
BLOCK = ~np.uint64(WIDTH - 1)
NEVER = F(-1.0e9)  # exponent of a cell that is zero
NOT_ZERO = F(-5.0e8)
LARGEST = F(2.0**22)  # exponents beyond are left to the log-domain kernel
IMPOSSIBLE = F(-np.inf)


@njit
def rows(count, states, like):
    """Rows of cells, not yet written, that begin where a vector may be loaded at once."""
    width = np.int64(BLOCK & np.uint64(states + WIDTH - 1)) + 2 * WIDTH
    return product.rows(count, width, like)


@inner
def exp_small(r):
    """exp(r) for |r| <= ln(2) / 2 (Cephes, relative error 6e-8)."""
    p = r * F(1.9875691500e-4) + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    return p * r * r + r + F(1.0)


@inner
def power_of_two(e):
    """2**e for whole numbers e up to 127; 0 below -126."""
    return from_bits((whole(largest(e, spread(F(-127.0)))) + 127) << 23)


@inner
def exp(x):
    """exp(x) for x up to 88; 0 below -87."""
    x = largest(x, spread(F(-88.0)))
    n = nearest(x * LOG2_E)
    return exp_small(x - n * LN_2_HIGH - n * LN_2_LOW) * power_of_two(n)


@inner
def sum_of(a, ae, b, be):
    apart = ae - be
    swapped = apart < F(0.0)
    smaller = where(swapped, a, b) * power_of_two(smallest(apart, be - ae))
    return where(swapped, b, a) + smaller, where(swapped, be, ae)


@inner
def from_score(score, shift):
    """exp(score) / 2**shift"""
    possible = score > F(-1.0e6)
    v = where(possible, score, spread(F(0.0)))
    n = nearest(v * LOG2_E)
    m = exp_small(v - n * LN_2_HIGH - n * LN_2_LOW)
    return where(possible, m, spread(F(0.0))), where(possible, n - shift, spread(NEVER))


@inner
def from_scores(x, end, shift, m, e, lo, hi):
    """m(n) = exp(x(n)) / 2**shift"""
    for n in range(lo & BLOCK, hi, LANES):
        mantissa, exponent = from_score(load_until(x, n, end, IMPOSSIBLE), shift)
        store(m, n + PAD, mantissa)
        store(e, n + PAD, exponent)


@inner
def worst_score(x, end, lo, hi, worst):
    """The largest size of the scores in the blocks from lo to hi, and of `worst`."""
    for n in range(lo & BLOCK, hi, LANES):
        worst = largest(worst, magnitude(load_until(x, n, end, F(0.0))))
    return worst


@inner
def forward_plain(a, ae, w, we, rest, x, end, shift, out, oute, lo, hi, worst):
    """out(n) = [a(n) + a(n-1)] w(n) emission(n), where w has a `rest` that its mantissa had no digits for."""
    first = lo & BLOCK
    before, before_e = load(a, first), load(ae, first)
    for n in range(first, hi, LANES):
        i = n + PAD
        here, here_e = load(a, i), load(ae, i)
        score = load_until(x, n, end, F(0.0))
        worst = largest(worst, magnitude(score))
        emission, emission_e = from_score(score, shift)
        s, se = sum_of(here, here_e, lower(before, here, 1), lower(before_e, here_e, 1))
        store(out, i, s * multiply_add(load(w, i), emission, load(rest, i) * emission))
        store(oute, i, se + load(we, i) + emission_e)
        before, before_e = here, here_e
    return worst


@inner
def forward_arcs(a, ae, p, pe, rest, q, qe, r, re, skips, x, end, shift, out, oute, lo, hi, worst):
    """out(n) = [a(n) p(n) + a(n-1) q(n-1) + a(n-2) r(n-2)] emission(n), the last term only with skips; p has a `rest`."""
    first = lo & BLOCK
    zero, never = spread(F(0.0)), spread(NEVER)
    above, above_e = load(a, first), load(ae, first)
    moved, moved_e = above * load(q, first), above_e + load(qe, first)
    skipped, skipped_e = zero, never
    if skips:
        skipped, skipped_e = above * load(r, first), above_e + load(re, first)
    for n in range(first, hi, LANES):
        i = n + PAD
        here, here_e = load(a, i), load(ae, i)
        score = load_until(x, n, end, F(0.0))
        worst = largest(worst, magnitude(score))
        emission, emission_e = from_score(score, shift)
        leaving, leaving_e = here * load(q, i), here_e + load(qe, i)
        staying = multiply_add(here, load(p, i), here * load(rest, i))
        s, se = sum_of(staying, here_e + load(pe, i), lower(moved, leaving, 1), lower(moved_e, leaving_e, 1))
        moved, moved_e = leaving, leaving_e
        if skips:
            leaving, leaving_e = here * load(r, i), here_e + load(re, i)
            s, se = sum_of(s, se, lower(skipped, leaving, 2), lower(skipped_e, leaving_e, 2))
            skipped, skipped_e = leaving, leaving_e
        store(out, i, s * emission)
        store(oute, i, se + emission_e)
    return worst


@inner
def backward_plain(b, be, w, we, x, end, shift, a, ae, scale, scale_e, gamma, width, lo, hi):
    """b(n) = c(n) + c(n+1) with c(n) = b(n) w(n) emission(n), in place; and then, as plain numbers,
    gamma(n) = a(n) b(n) scale / 2**scale_e. Returns the sum of gamma."""
    first = lo & BLOCK
    after, after_e, sums = spread(F(0.0)), spread(NEVER), spread(F(0.0))
    n = (hi - np.uint64(1)) & BLOCK
    while True:
        i = n + PAD
        emission, emission_e = from_score(load_until(x, n, end, F(0.0)), shift)
        c, ce = load(b, i) * (load(w, i) * emission), load(be, i) + load(we, i) + emission_e
        m, e = sum_of(c, ce, higher(c, after, 1), higher(ce, after_e, 1))
        store(b, i, m)
        store(be, i, e)
        sums = sums + _share(load(a, i), load(ae, i), m, e, scale, scale_e, gamma, n, width)
        after, after_e = c, ce
        if n == first:
            break
        n -= LANES
    return total(sums)


@inner
def emit(b, be, x, end, shift, c, ce, lo, hi):
    """c(n) = b(n) emission(n), and zero in the block behind"""
    for n in range(lo & BLOCK, hi, LANES):
        i = n + PAD
        emission, emission_e = from_score(load_until(x, n, end, F(0.0)), shift)
        store(c, i, load(b, i) * emission)
        store(ce, i, load(be, i) + emission_e)
    clear(c, ce, PAD + ((hi + LANES - np.uint64(1)) & BLOCK))


@inner
def backward_arcs(c, ce, p, pe, q, qe, r, re, skips, b, be, lo, hi):
    """b(n) = p(n) c(n) + q(n) c(n+1) + r(n) c(n+2), the last term only with skips"""
    for n in range(lo & BLOCK, hi, LANES):
        i = n + PAD
        here, here_e = load(c, i), load(ce, i)
        after, after_e = load(c, i + LANES), load(ce, i + LANES)
        m, e = sum_of(
            here * load(p, i),
            here_e + load(pe, i),
            higher(here, after, 1) * load(q, i),
            higher(here_e, after_e, 1) + load(qe, i),
        )
        if skips:
            m, e = sum_of(m, e, higher(here, after, 2) * load(r, i), higher(here_e, after_e, 2) + load(re, i))
        store(b, i, m)
        store(be, i, e)


@inner
def state_share(a, ae, b, be, scale, scale_e, gamma, end, lo, hi):
    """gamma(n) = a(n) b(n) scale / 2**scale_e, as plain numbers. Returns their sum."""
    sums = spread(F(0.0))
    for n in range(lo & BLOCK, hi, LANES):
        i = n + PAD
        sums = sums + _share(load(a, i), load(ae, i), load(b, i), load(be, i), scale, scale_e, gamma, n, end)
    return total(sums)


@inner
def arc_share(a, ae, p, pe, c, ce, ahead, scale, scale_e, count, end, lo, hi):
    """count(n) = a(n) p(n) c(n + ahead) scale / 2**scale_e, as plain numbers"""
    for n in range(lo & BLOCK, hi, LANES):
        i = n + PAD
        taken, taken_e = load(a, i) * load(p, i), load(ae, i) + load(pe, i)
        _share(taken, taken_e, load(c, i + ahead), load(ce, i + ahead), scale, scale_e, count, n, end)


@inner
def _share(a, ae, b, be, scale, scale_e, out, n, end):
    e = smallest(ae + be - scale_e, spread(F(127.0)))
    share = a * b * scale * power_of_two(e)
    store_until(out, n, end, share)
    return share


@inner
def normalise(m, e, lo, hi):
    """Mantissas back into [1, 2). Returns whether all exponents are in range."""
    extreme = spread(F(0.0))
    for n in range(lo & BLOCK, hi, LANES):
        i = n + PAD
        mantissa = load(m, i)
        bits, zero = to_bits(mantissa), mantissa < F(1.2e-38)
        exponent = load(e, i) + real((bits >> 23) - 127)
        extreme = largest(extreme, where(zero, spread(F(0.0)), largest(exponent, spread(F(0.0)) - exponent)))
        store(e, i, where(zero, spread(NEVER), exponent))
        store(m, i, where(zero, spread(F(0.0)), from_bits((bits & 0x7FFFFF) | 0x3F800000)))
    return packed(extreme > LARGEST) == 0


@inner
def clear(m, e, first):
    """The block of cells from `first` on holds nothing."""
    store(m, first, spread(F(0.0)))
    store(e, first, spread(NEVER))


@inner
def clear_outside(x, end, lo, hi):
    """Zeros in a row of plain numbers in front of the block of lo and behind the block of hi - 1."""
    for n in range(np.uint64(0), lo & BLOCK, LANES):
        store_until(x, n, end, spread(F(0.0)))
    for n in range((hi + LANES - np.uint64(1)) & BLOCK, end, LANES):
        store_until(x, n, end, spread(F(0.0)))


@inner
def rescale(x, factor, end, lo, hi):
    for n in range(lo & BLOCK, hi, LANES):
        store_until(x, n, end, load_until(x, n, end, F(0.0)) * factor)


@inner
def accumulate(sums, x, end, lo, hi):
    """Sums over many frames, in float64."""
    for n in range(lo & BLOCK, hi, LANES):
        store_until(sums, n, end, load_until(sums, n, end, 0.0) + double(load_until(x, n, end, F(0.0))))
