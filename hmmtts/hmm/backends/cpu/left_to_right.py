"""Left-to-right forward-backward and Viterbi for one utterance after another, in extended range (see rows.py).

Only cells that lie on some path are computed: with strides of one state a frame, state n is reached at frame n at the
earliest and must be left in time to reach the end.

Where every state may be stayed in and none skipped, each path leaves each state exactly once. Its arcs then weigh
prod_t stay(state_t) * prod_n move(n) / stay(n): the first factor joins the emissions, the second is one constant, and
the recursion needs no arcs at all ("folded" below).
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, strict
from hmmtts.hmm.backends.cpu.rows import LOG2_E, NEVER, F, nearest

# What became of an utterance.
DONE, BAD_VALUE, OUT_OF_RANGE = 0, 1, 2

PAD = 2  # empty cells beside a row, for moves and skips from beyond its ends
LN_2 = math.log(2.0)
NORMALISE = 4  # frames between renormalisations: mantissas grow by less than 8 a frame
RESCALE = 8  # frames between corrections of the posteriors' rounding drift
LARGEST_SCORE = F(1.0e5)  # |score| of one cell that `split` takes exactly


@kernel
def forward_backward(
    utterances,
    log_obs,
    stay,
    move,
    skip,
    per_frame,
    skips,
    frames,
    states,
    wanted,
    posterior,
    stays,
    moves,
    leaps,
    log_z,
    status,
):
    """wanted: 0 log Z only, 1 and posteriors, 2 and expected counts. Arcs and counts are [b, 1 or t, n]."""
    longest, widest = 0, 0
    for b in utterances:
        longest, widest = max(longest, frames[b]), max(widest, states[b])
    kept = longest if wanted > 0 else 2
    am, ae = _cells(kept, widest)  # alpha
    cells = np.empty((10, widest + 2 * PAD), F)
    sums = np.zeros((3, widest))
    for b in utterances:
        T, S = frames[b], states[b]
        x, arcs = log_obs[b], (stay[b], move[b], skip[b])
        folded = foldable(stay[b, 0, :S], per_frame, skips)
        status[b], zm, ze, offset = _forward(x, T, S, arcs, per_frame, skips, folded, kept, am, ae, cells)
        if status[b] != DONE:
            continue
        log_z[b] = -np.inf
        if zm > F(0.0):
            log_z[b] = math.log(np.float64(zm)) + (np.float64(ze) + offset) * LN_2
            if folded:
                for n in range(S):
                    log_z[b] += np.float64(move[b, 0, n]) - np.float64(stay[b, 0, n])
        if wanted == 0:
            continue
        impossible = log_z[b] == -np.inf
        count = wanted == 2 and not impossible
        if impossible:
            for t in range(T):
                rows.fill(posterior[b, t], F(0.0))
        else:
            sums[:] = 0.0
            counts = stays[b], moves[b], leaps[b]
            if not _backward(
                x,
                T,
                S,
                arcs,
                per_frame,
                skips,
                folded,
                count,
                am,
                ae,
                zm,
                ze,
                cells,
                posterior[b],
                counts,
                sums,
            ):
                status[b] = OUT_OF_RANGE
                continue
        for t in range(T, posterior.shape[1]):
            rows.fill(posterior[b, t], F(0.0))
        if wanted == 2:
            _finish_counts(T, S, per_frame, folded, count, posterior[b], stays[b], moves[b], leaps[b], sums)


@inner
def foldable(stay, per_frame, skips):
    if per_frame or skips:
        return False
    finite = True
    for n in range(stay.shape[0]):
        finite &= stay[n] > -np.inf
    return finite


@inner
def _cells(rows_kept, widest):
    """Mantissas and exponents of empty cells."""
    return np.zeros((rows_kept, widest + 2 * PAD), F), np.full((rows_kept, widest + 2 * PAD), NEVER, F)


@inner
def band(t, T, S, stride):
    """States on some path at frame t: from, to."""
    return max(0, S - 1 - stride * (T - 1 - t)), min(S, stride * t + 1)


@inner
def _emission(x, lo, hi, folded, p, pe, m, e):
    """The cells of a row of emissions; returns the power of two taken out of them."""
    first = x[lo]
    shift = nearest(first * LOG2_E) if first > F(-1.0e6) else F(0.0)
    rows.split(x[lo:hi], shift, m[PAD + lo : PAD + hi], e[PAD + lo : PAD + hi])
    if folded:
        rows.multiply(
            m[PAD + lo : PAD + hi], e[PAD + lo : PAD + hi], p[PAD + lo : PAD + hi], pe[PAD + lo : PAD + hi]
        )
    return shift


@strict
def check(x):
    """DONE if every score of the row is one that `split` takes."""
    size = rows.magnitude(x)
    if size <= LARGEST_SCORE:
        return DONE
    if not np.isfinite(size):
        for i in range(x.shape[0]):
            if np.isnan(x[i]) or x[i] == np.inf:
                return BAD_VALUE
    return OUT_OF_RANGE if rows.largest(x) > LARGEST_SCORE else DONE


@inner
def _split_arcs(arcs, t, S, cells):
    """The arcs of frame t as cells, with empty ones on both sides; False if one is beyond the range."""
    fits = True
    for i in range(3):
        if arcs[i].shape[1] < S:  # no skips
            break
        arc, m, e = arcs[i][t, :S], cells[2 * i], cells[2 * i + 1]
        fits &= rows.largest(arc) <= LARGEST_SCORE
        rows.split(arc, F(0.0), m[PAD : PAD + S], e[PAD : PAD + S])
        for pad in range(PAD):
            m[pad], e[pad], m[PAD + S + pad], e[PAD + S + pad] = F(0.0), NEVER, F(0.0), NEVER
    return fits


@inner
def _forward(x, T, S, arcs, per_frame, skips, folded, kept, am, ae, cells):
    """Fills alpha; returns what became of it, and Z as mantissa, exponent and the power of two taken out."""
    stride = 2 if skips else 1
    p, pe, q, qe, r, re, m, e = cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7]
    failed = F(0.0), F(0.0), 0.0
    if not _split_arcs(arcs, 0, S, cells):
        return OUT_OF_RANGE, *failed
    offset = 0.0
    reached = 1
    for t in range(T):
        state = check(x[t, :S])
        if state != DONE:
            return state, *failed
        lo, hi = band(t, T, S, stride)
        offset += np.float64(_emission(x[t], lo, hi, folded, p, pe, m, e))
        now, then = (t, t - 1) if kept > 2 else (t & 1, (t - 1) & 1)
        a, aexp, n, nexp = am[then], ae[then], am[now], ae[now]
        at, to = PAD + lo, PAD + hi
        if t == 0:
            n[PAD], nexp[PAD] = m[PAD], e[PAD]
        else:
            a[PAD + reached : to] = F(0.0)
            aexp[PAD + reached : to] = NEVER
            if folded:
                rows.add_times(
                    a[at:to],
                    aexp[at:to],
                    a[at - 1 : to - 1],
                    aexp[at - 1 : to - 1],
                    m[at:to],
                    e[at:to],
                    n[at:to],
                    nexp[at:to],
                )
            else:
                if per_frame and not _split_arcs(arcs, t - 1, S, cells):
                    return OUT_OF_RANGE, *failed
                rows.weighted_add(
                    a[at:to], aexp[at:to], p[at:to], pe[at:to],
                    a[at - 1 : to - 1], aexp[at - 1 : to - 1], q[at - 1 : to - 1], qe[at - 1 : to - 1],
                    n[at:to], nexp[at:to],
                )  # fmt: skip
                if skips:
                    rows.add_weighted(
                        n[at:to],
                        nexp[at:to],
                        a[at - 2 : to - 2],
                        aexp[at - 2 : to - 2],
                        r[at - 2 : to - 2],
                        re[at - 2 : to - 2],
                    )
                rows.multiply(n[at:to], nexp[at:to], m[at:to], e[at:to])
        reached = hi
        if t % NORMALISE == NORMALISE - 1:
            rows.normalise(n[at:to], nexp[at:to])
            if rows.largest(nexp[at:to]) > rows.LARGEST:
                return OUT_OF_RANGE, *failed
    zm, ze = n[PAD + S - 1], nexp[PAD + S - 1]
    if not folded:
        if per_frame and not _split_arcs(arcs, T - 1, S, cells):
            return OUT_OF_RANGE, *failed
        zm, ze = zm * q[PAD + S - 1], ze + qe[PAD + S - 1]
    return DONE, zm, ze, offset


@inner
def _backward(x, T, S, arcs, per_frame, skips, folded, count, am, ae, zm, ze, cells, posterior, counts, sums):
    """Posteriors of every real frame, and arc counts (per frame, or summed in `sums`); False if out of range."""
    stride = 2 if skips else 1
    p, pe, q, qe, r, re, m, e = cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7]
    b, be = cells[8], cells[9]
    c, ce = m, e  # beta times emission takes the place of the emission
    scale = F(1.0) / zm
    if per_frame:
        _split_arcs(arcs, T - 1, S, cells)
    b[PAD + S - 1], be[PAD + S - 1] = F(1.0), F(0.0)
    if not folded:
        b[PAD + S - 1], be[PAD + S - 1] = q[PAD + S - 1], qe[PAD + S - 1]
    for t in range(T - 1, -1, -1):
        lo, hi = band(t, T, S, stride)
        at, to = PAD + lo, PAD + hi
        gamma = posterior[t]
        rows.ratio(am[t, at:to], ae[t, at:to], b[at:to], be[at:to], scale, ze, gamma[lo:hi])
        if t % RESCALE == 0 or t == T - 1:
            drift = F(1.0) / rows.total(gamma[lo:hi])
            scale *= drift
            for n in range(lo, hi):
                gamma[n] *= drift
        rows.fill(gamma[:lo], F(0.0))
        rows.fill(gamma[hi:], F(0.0))
        if folded and count:
            rows.accumulate(sums[0, lo:hi], gamma[lo:hi])
        if t == 0:
            break
        _emission(x[t], lo, hi, folded, p, pe, m, e)
        rows.multiply(c[at:to], ce[at:to], b[at:to], be[at:to])
        before_lo, before_hi = band(t - 1, T, S, stride)
        c[PAD + before_lo : at] = F(0.0)
        ce[PAD + before_lo : at] = NEVER
        c[to : to + 2] = F(0.0)
        ce[to : to + 2] = NEVER
        at, to = PAD + before_lo, PAD + before_hi
        if folded:
            rows.add(c[at:to], ce[at:to], c[at + 1 : to + 1], ce[at + 1 : to + 1], b[at:to], be[at:to])
        else:
            if per_frame:
                _split_arcs(arcs, t - 1, S, cells)
            rows.weighted_add(
                c[at:to],
                ce[at:to],
                p[at:to],
                pe[at:to],
                c[at + 1 : to + 1],
                ce[at + 1 : to + 1],
                q[at:to],
                qe[at:to],
                b[at:to],
                be[at:to],
            )
            if skips:
                rows.add_weighted(
                    b[at:to], be[at:to], c[at + 2 : to + 2], ce[at + 2 : to + 2], r[at:to], re[at:to]
                )
            if count:
                for i in range(3 if skips else 2):
                    # The row of the posterior at t - 1 is not filled yet and lends its place.
                    taken = posterior[t - 1, before_lo:before_hi]
                    rows.weighted_ratio(
                        am[t - 1, at:to], ae[t - 1, at:to], cells[2 * i, at:to], cells[2 * i + 1, at:to],
                        c[at + i : to + i], ce[at + i : to + i], scale, ze, taken,
                    )  # fmt: skip
                    if per_frame:
                        rows.fill(counts[i][t - 1], F(0.0))
                        counts[i][t - 1, before_lo:before_hi] = taken
                    else:
                        rows.accumulate(sums[i, before_lo:before_hi], taken)
        if t % NORMALISE == 0:
            rows.normalise(b[at:to], be[at:to])
            if rows.largest(be[at:to]) > rows.LARGEST:
                return False
    return True


@inner
def _finish_counts(T, S, per_frame, folded, count, posterior, stays, moves, leaps, sums):
    """Every path leaves the last state once, after the last frame; what was not counted is zero."""
    if per_frame:
        for t in range(T - 1 if count else 0, stays.shape[0]):
            rows.fill(stays[t], F(0.0))
            rows.fill(moves[t], F(0.0))
        for t in range(T - 1 if count else 0, leaps.shape[0]):
            rows.fill(leaps[t], F(0.0))
        if count:
            moves[T - 1, S - 1] = F(1.0)
        return
    rows.fill(stays[0], F(0.0))
    rows.fill(moves[0], F(0.0))
    rows.fill(leaps[0], F(0.0))
    if count:
        for n in range(S):
            if folded:
                stays[0, n], moves[0, n] = max(sums[0, n] - 1.0, 0.0), F(1.0)
            else:
                stays[0, n], moves[0, n] = sums[0, n], sums[1, n] + (n == S - 1)
        if leaps.shape[1] >= S and not folded:
            for n in range(S):
                leaps[0, n] = sums[2, n]
