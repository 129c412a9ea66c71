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
from hmmtts.hmm.backends.cpu.compile import inner, kernel
from hmmtts.hmm.backends.cpu.rows import LOG2_E, NEVER, ONE, PAD, TWO, F, nearest

# What became of an utterance.
DONE, BAD_VALUE, OUT_OF_RANGE, IMPRECISE = 0, 1, 2, 3  # imprecise: all is right but the last digits of log Z

LN_2 = math.log(2.0)
NORMALISE = 4  # frames between renormalisations: mantissas grow by less than 8 a frame
RESCALE = 8  # frames between corrections of the posteriors' rounding drift
LARGEST_SCORE = F(1.0e5)  # |score| of one cell that is split exactly
# Rounding adds about 1e-7 nats a frame, at random: where log Z is smaller than this times the root of the frames,
# that is more than 1e-8 of it.
SMALL_LOG_Z = 12.0


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
    width = widest + 2 * PAD
    am, ae = np.zeros((kept, width), F), np.full((kept, width), NEVER, F)  # alpha
    cells = np.zeros((12, width), F)
    sums = np.zeros((3, widest))
    none, end = np.uint64(0), np.uint64(log_obs.shape[2])
    for b in utterances:
        T, S = frames[b], states[b]
        x, arcs = log_obs[b], (stay[b], move[b], skip[b])
        folded = foldable(stay[b], S, per_frame, skips)
        status[b], zm, ze, offset = _forward(x, T, S, arcs, per_frame, skips, folded, kept, am, ae, cells)
        if status[b] != DONE:
            continue
        log_z[b] = -np.inf
        if zm > F(0.0):
            log_z[b] = math.log(np.float64(zm)) + (np.float64(ze) + offset) * LN_2
            if folded:
                log_z[b] += T * np.float64(stay[b, 0, 0])
                for n in range(S):
                    log_z[b] += np.float64(move[b, 0, n]) - np.float64(stay[b, 0, n])
            if abs(log_z[b]) < SMALL_LOG_Z * math.sqrt(T):
                status[b] = IMPRECISE
        if wanted == 0:
            continue
        possible = log_z[b] > -np.inf
        count = wanted == 2 and possible
        counts = stays[b], moves[b], leaps[b]
        sums[:] = 0.0
        if possible and not _backward(
            x, T, S, arcs, per_frame, skips, folded, count, am, ae, zm, ze, cells, posterior[b], counts, sums
        ):
            status[b] = OUT_OF_RANGE
            continue
        for t in range(T if possible else 0, posterior.shape[1]):
            rows.fill(posterior[b, t], F(0.0), none, end)
        if wanted == 2:
            _finish_counts(T, S, per_frame, folded, count, counts, sums)


@inner
def foldable(stay, states, per_frame, skips):
    if per_frame or skips:
        return False
    finite = True
    for n in range(states):
        finite &= stay[0, n] > -np.inf
    return finite


@inner
def band(t, T, S, stride):
    """States on some path at frame t: from, to."""
    return np.uint64(max(0, S - 1 - stride * (T - 1 - t))), np.uint64(min(S, stride * t + 1))


@inner
def check(x, states):
    """DONE if every score of the row is one that an exact cell can be made of."""
    if not rows.finite(x, states):
        return BAD_VALUE
    exact = rows.within(x, rows.LOWEST, LARGEST_SCORE, np.uint64(0), np.uint64(states))
    return DONE if exact else OUT_OF_RANGE


@inner
def _split_arcs(arcs, t, S, skips, cells):
    """The arcs of frame t as cells, with empty ones on both sides; False if one is beyond the range."""
    fits = True
    none, end = np.uint64(0), np.uint64(S)
    for kind in range(3 if skips else 2):
        scores, m, e = arcs[kind][t], cells[2 * kind], cells[2 * kind + 1]
        fits &= rows.within(scores, rows.LOWEST, LARGEST_SCORE, none, end)
        m[:PAD], e[:PAD] = F(0.0), NEVER
        rows.from_scores(scores, m, e, none, end)
        rows.clear(m, e, end, end + TWO)
    return fits


@inner
def _weights(stay, S, m, e):
    """Stays relative to that of state 0, as cells: the common part is not rounded once a frame."""
    for n in range(S):
        v = (np.float64(stay[n]) - np.float64(stay[0])) / LN_2
        whole = np.floor(v)
        m[n + PAD], e[n + PAD] = F(np.exp((v - whole) * LN_2)), F(whole)


@inner
def _shift(score):
    """A power of two near the emissions of a frame: taken out of them, it keeps exponents small."""
    return nearest(score * LOG2_E) if score > F(-1.0e6) else F(0.0)


@inner
def _forward(x, T, S, arcs, per_frame, skips, folded, kept, am, ae, cells):
    """Fills alpha; returns what became of it, and Z as mantissa, exponent and the power of two taken out."""
    p, pe, q, qe, r, re = cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]
    one, zero = cells[10], cells[11]
    one[:], zero[:] = F(1.0), F(0.0)
    failed = F(0.0), F(0.0), 0.0
    if not _split_arcs(arcs, 0, S, skips, cells):
        return OUT_OF_RANGE, failed[0], failed[1], failed[2]
    if folded:
        _weights(arcs[0][0], S, p, pe)
    state = check(x[0], S)
    if state != DONE:
        return state, failed[0], failed[1], failed[2]
    start, start_e = (p, pe) if folded else (one, zero)
    offset = np.float64(_shift(x[0, 0]))
    before, before_e = am[0], ae[0]
    rows.from_scores(x[0], before, before_e, np.uint64(0), ONE)
    before[PAD] *= start[PAD]
    before_e[PAD] += start_e[PAD] - F(offset)
    reached = ONE
    for t in range(1, T):
        state = check(x[t], S)
        if state != DONE:
            return state, failed[0], failed[1], failed[2]
        lo, hi = band(t, T, S, 2 if skips else 1)
        now, now_e = (am[t], ae[t]) if kept > 2 else (am[t & 1], ae[t & 1])
        rows.clear(before, before_e, reached, hi)
        shift = _shift(x[t, lo])
        offset += np.float64(shift)
        if folded:
            rows.forward_plain(before, before_e, p, pe, x[t], shift, now, now_e, lo, hi)
        else:
            if per_frame and not _split_arcs(arcs, t - 1, S, skips, cells):
                return OUT_OF_RANGE, failed[0], failed[1], failed[2]
            if skips:
                rows.forward_skips(before, before_e, p, pe, q, qe, r, re, x[t], shift, now, now_e, lo, hi)
            else:
                rows.forward_arcs(before, before_e, p, pe, q, qe, x[t], shift, now, now_e, lo, hi)
        if t % NORMALISE == NORMALISE - 1:
            rows.normalise(now, now_e, lo, hi)
            if not rows.within(now_e, rows.NOT_ZERO, rows.LARGEST, lo + TWO, hi + TWO):
                return OUT_OF_RANGE, failed[0], failed[1], failed[2]
        before, before_e, reached = now, now_e, hi
    zm, ze = before[S - 1 + PAD], before_e[S - 1 + PAD]
    if not folded:
        if per_frame and not _split_arcs(arcs, T - 1, S, skips, cells):
            return OUT_OF_RANGE, failed[0], failed[1], failed[2]
        zm, ze = zm * q[S - 1 + PAD], ze + qe[S - 1 + PAD]
    return DONE, zm, ze, offset


@inner
def _backward(x, T, S, arcs, per_frame, skips, folded, count, am, ae, zm, ze, cells, posterior, counts, sums):
    """Posteriors of every real frame, and arc counts (per frame, or summed in `sums`); False if out of range."""
    p, pe, q, qe, r, re = cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]
    b, be, c, ce = (cells[6], cells[7], cells[8], cells[9])  # beta, and beta times emission
    one, zero = cells[10], cells[11]
    weight, weight_e = (p, pe) if folded else (one, zero)
    scale = F(1.0) / zm
    none, width = np.uint64(0), np.uint64(posterior.shape[1])
    b[S - 1 + PAD], be[S - 1 + PAD] = (F(1.0), F(0.0)) if folded else (q[S - 1 + PAD], qe[S - 1 + PAD])
    for t in range(T - 1, -1, -1):
        lo, hi = band(t, T, S, 2 if skips else 1)
        gamma = posterior[t]
        rows.state_share(am[t], ae[t], b, be, scale, ze, gamma, lo, hi)
        if t % RESCALE == 0 or t == T - 1:
            drift = F(1.0) / rows.total(gamma, lo, hi)
            scale *= drift
            rows.scale(gamma, drift, lo, hi)
        rows.fill(gamma, F(0.0), none, lo)
        rows.fill(gamma, F(0.0), hi, width)
        if folded and count:
            rows.accumulate(sums[0], gamma, lo, hi)
        if t == 0:
            break
        rows.emit(b, be, weight, weight_e, x[t], _shift(x[t, lo]), c, ce, lo, hi)
        before_lo, before_hi = band(t - 1, T, S, 2 if skips else 1)
        rows.clear(c, ce, before_lo, lo)
        rows.clear(c, ce, hi, hi + TWO)
        lo, hi = before_lo, before_hi
        if folded:
            rows.backward_plain(c, ce, b, be, lo, hi)
        else:
            if per_frame:
                _split_arcs(arcs, t - 1, S, skips, cells)
            if skips:
                rows.backward_skips(c, ce, p, pe, q, qe, r, re, b, be, lo, hi)
            else:
                rows.backward_arcs(c, ce, p, pe, q, qe, b, be, lo, hi)
            if count:
                for kind in range(3 if skips else 2):
                    # The posterior of frame t - 1 is not there yet: its row lends its place.
                    row = counts[kind][t - 1] if per_frame else posterior[t - 1]
                    arc, arc_e = cells[2 * kind], cells[2 * kind + 1]
                    rows.arc_share(
                        am[t - 1], ae[t - 1], arc, arc_e, c, ce, np.uint64(kind), scale, ze, row, lo, hi
                    )
                    if per_frame:
                        rows.fill(row, F(0.0), none, lo)
                        rows.fill(row, F(0.0), hi, width)
                    else:
                        rows.accumulate(sums[kind], row, lo, hi)
        if t % NORMALISE == 0:
            rows.normalise(b, be, lo, hi)
            if not rows.within(be, rows.NOT_ZERO, rows.LARGEST, lo + TWO, hi + TWO):
                return False
    return True


@inner
def _finish_counts(T, S, per_frame, folded, count, counts, sums):
    """Every path leaves the last state once, after the last frame; what was not counted is zero."""
    for kind in range(3):
        counts[kind][T - 1 if per_frame and count else 0 :] = F(0.0)
    if not count:
        return
    if per_frame:
        counts[1][T - 1, S - 1] = F(1.0)
        return
    for n in range(S):
        counts[0][0, n] = max(sums[0, n] - 1.0, 0.0) if folded else sums[0, n]
        counts[1][0, n] = 1.0 if folded else sums[1, n] + (n == S - 1)
    for n in range(min(S, counts[2].shape[1])):
        counts[2][0, n] = sums[2, n]
