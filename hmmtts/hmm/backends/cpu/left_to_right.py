"""Left-to-right forward-backward and Viterbi for one utterance after another, in extended range (see cells.py).

Only cells that lie on some path are computed: with strides of one state a frame, state n is reached at frame n at the
earliest and must be left in time to reach the end. Rows are worked on in whole blocks, so some cells beside them are
computed too: none of them can reach a cell that counts, since the band moves as fast as a path can.

Where every state may be stayed in and none skipped, each path leaves each state exactly once. Its arcs then weigh
prod_t stay(state_t) * prod_n move(n) / stay(n): the first factor joins the emissions, the second is one constant, and
the recursion needs no arcs at all ("folded" below).
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu import cells, rows
from hmmtts.hmm.backends.cpu.cells import BLOCK, LANES, NEVER, PAD
from hmmtts.hmm.backends.cpu.compile import inner, kernel
from hmmtts.hmm.backends.cpu.lanes import packed, spread
from hmmtts.hmm.backends.cpu.rows import LOG2_E, F, nearest
from hmmtts.hmm.backends.cpu.turns import turns

# What became of an utterance.
DONE, BAD_VALUE, OUT_OF_RANGE, IMPRECISE = 0, 1, 2, 3  # imprecise: all is right but the last digits of log Z

LN_2 = math.log(2.0)
NORMALISE = 4  # frames between renormalisations: mantissas grow by less than 8 a frame
RESCALE = 8  # frames between corrections of the posteriors' rounding drift
LARGEST_SCORE = F(1.0e5)  # |score| of one cell that is split exactly
LARGEST_BITS = np.int32(LARGEST_SCORE.view(np.int32))
# Rounding adds about 1e-7 nats a frame, at random unless a frame repeats the one before: where log Z is smaller than this
# times the root of the frames, and the repeated ones, that is more than 1e-8 of it.
SMALL_LOG_Z = 12.0
ZERO, ONE = np.uint64(0), np.uint64(1)


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
    longest, widest = frames.max(), states.max()
    kept = longest if wanted > 0 else 2
    am, ae = cells.rows(kept, widest, log_obs), cells.rows(kept, widest, log_obs)  # alpha
    space = cells.rows(12, widest, log_obs)
    sums = np.zeros((3, widest))
    for b in turns(utterances):
        T, S = frames[b], states[b]
        x, arcs = log_obs[b], (stay[b], move[b], skip[b])
        folded = foldable(stay[b], S, per_frame, skips, np.inf)
        status[b], zm, ze, offset, repeated = _forward(
            x, T, S, arcs, per_frame, skips, folded, kept, am, ae, space
        )
        if status[b] != DONE:
            continue
        log_z[b] = -np.inf
        if zm > F(0.0):
            log_z[b] = math.log(np.float64(zm)) + (np.float64(ze) + offset) * LN_2
            if folded:
                log_z[b] += T * np.float64(stay[b, 0, 0])
                for n in range(S):
                    log_z[b] += np.float64(move[b, 0, n]) - np.float64(stay[b, 0, n])
            if abs(log_z[b]) < SMALL_LOG_Z * (math.sqrt(T) + repeated):
                status[b] = IMPRECISE
        if wanted == 0:
            continue
        possible = log_z[b] > -np.inf
        count = wanted == 2 and possible
        counts = stays[b], moves[b], leaps[b]
        sums[:] = 0.0
        if possible and not _backward(
            x, T, S, arcs, per_frame, skips, folded, count, am, ae, zm, ze, space, posterior[b], counts, sums
        ):
            status[b] = OUT_OF_RANGE
            continue
        posterior[b, T if possible else 0 :] = F(0.0)
        if wanted == 2:
            _finish_counts(T, S, per_frame, folded, count, counts, sums)


@inner
def arcs_are_scores(arcs, T, S, per_frame, skips):
    """Whether none is NaN or +inf."""
    for kind in range(3 if skips else 2):
        for t in range(T if per_frame else 1):
            if not rows.finite(arcs[kind][t], S):
                return False
    return True


@inner
def foldable(stay, states, per_frame, skips, limit):
    if per_frame or skips:
        return False
    within = True
    for n in range(states):
        within &= abs(stay[0, n]) < limit
    return within


@inner
def band(t, T, S, stride):
    """States on some path at frame t: from, to."""
    return np.uint64(max(0, S - 1 - stride * (T - 1 - t))), np.uint64(min(S, stride * t + 1))


@inner
def whole_blocks(n):
    return (np.uint64(n) + LANES - np.uint64(1)) & BLOCK


@inner
def judge(x, T, S):
    """Of scores among which there are large ones: whether one is NaN or +inf, or finite and too large to be exact."""
    status = DONE
    for t in range(T):
        if not rows.finite(x[t], S):
            return BAD_VALUE
        if not rows.within(x[t], LARGEST_SCORE, np.uint64(S)):
            status = OUT_OF_RANGE
    return status


@inner
def _split_arcs(arcs, t, S, skips, space):
    """The arcs of frame t as cells, with empty ones on both sides; False if one is beyond the range, or no number."""
    fits, end = True, np.uint64(S)
    for kind in range(3 if skips else 2):
        m, e = space[2 * kind], space[2 * kind + 1]
        fits &= rows.within(arcs[kind][t], LARGEST_SCORE, end)
        cells.from_scores(arcs[kind][t], end, F(0.0), m, e, ZERO, end)
        cells.clear(m, e, ZERO)
        cells.clear(m, e, PAD + whole_blocks(end))
    return fits


@inner
def _stays(stay, S, folded, m, e, rest):
    """The stays as cells, with what their mantissas lack: the same at every frame, it would add up.

    Folded they are relative to that of state 0, whose part is not rounded at all.
    """
    rest[:] = F(0.0)
    for n in range(S):
        i = np.uint64(n) + PAD
        v = (np.float64(stay[n]) - (np.float64(stay[0]) if folded else 0.0)) / LN_2
        if v > -np.inf:
            whole = np.floor(v)
            mantissa = np.exp((v - whole) * LN_2)
            m[i], e[i] = F(mantissa), F(whole)
            rest[i] = F(mantissa - np.float64(m[i]))


@inner
def _shift(score):
    """A power of two near the emissions of a frame: taken out of them, it keeps exponents small."""
    return nearest(score * LOG2_E) if score > F(-1.0e6) else F(0.0)


@inner
def _repeats(x, t, n):
    return x[t, n] == x[t - 1, n]


@inner
def _forward(x, T, S, arcs, per_frame, skips, folded, kept, am, ae, space):
    """Fills alpha; returns what became of it, Z as mantissa, exponent and the power of two taken out, and how many frames
    look like the one before."""
    p, pe, q, qe, r, re, rest = space[0], space[1], space[2], space[3], space[4], space[5], space[10]
    failed, end, last = OUT_OF_RANGE, np.uint64(S), np.uint64(S - 1) + PAD
    if not _split_arcs(arcs, 0, S, skips, space):
        return failed, F(0.0), F(0.0), 0.0, 0
    if per_frame:
        rest[:] = F(0.0)  # what changes with the frame is rounded at random
    else:
        _stays(arcs[0][0], S, folded, p, pe, rest)
    offset = np.float64(_shift(x[0, 0]))
    before, before_e, reached, repeated = am[0], ae[0], LANES, 0
    cells.clear(before, before_e, ZERO)
    worst = cells.worst_score(x[0], end, ZERO, end, spread(np.int32(0)))
    cells.from_scores(x[0], ONE, F(offset), before, before_e, ZERO, ONE)
    if folded:
        before[PAD] *= p[PAD]
        before_e[PAD] += pe[PAD]
    for t in range(1, T):
        lo, hi = band(t, T, S, 2 if skips else 1)
        now, now_e = (am[t], ae[t]) if kept > 2 else (am[t & 1], ae[t & 1])
        if hi > reached:
            cells.clear(before, before_e, PAD + reached)
            reached += LANES
        shift = _shift(x[t, lo])
        offset += np.float64(shift)
        repeated += _repeats(x, t, lo) or (per_frame and t > 1 and _repeats(arcs[0], t - 1, lo))
        if folded:
            worst = cells.forward_plain(
                before, before_e, p, pe, rest, x[t], end, shift, now, now_e, lo, hi, worst
            )
        else:
            if per_frame and not _split_arcs(arcs, t - 1, S, skips, space):
                return failed, F(0.0), F(0.0), 0.0, 0
            worst = cells.forward_arcs(
                before,
                before_e,
                p,
                pe,
                rest,
                q,
                qe,
                r,
                re,
                skips,
                x[t],
                end,
                shift,
                now,
                now_e,
                lo,
                hi,
                worst,
            )
        cells.clear(now, now_e, lo & BLOCK)
        worst = cells.worst_score(x[t], end, ZERO, lo & BLOCK, worst)
        worst = cells.worst_score(x[t], end, whole_blocks(hi), end, worst)
        if t % NORMALISE == NORMALISE - 1 and not cells.normalise(now, now_e, lo, hi):
            return failed, F(0.0), F(0.0), 0.0, 0
        before, before_e = now, now_e
    if packed(worst > LARGEST_BITS):
        status = judge(x, T, S)
        if status != DONE:
            return status, F(0.0), F(0.0), 0.0, 0
    zm, ze = before[last], before_e[last]
    if not folded:
        if per_frame and not _split_arcs(arcs, T - 1, S, skips, space):
            return failed, F(0.0), F(0.0), 0.0, 0
        zm, ze = zm * q[last], ze + qe[last]
    return DONE, zm, ze, offset, repeated


@inner
def _backward(x, T, S, arcs, per_frame, skips, folded, count, am, ae, zm, ze, space, posterior, counts, sums):
    """Posteriors of every real frame, and arc counts (per frame, or summed in `sums`); False if out of range."""
    p, pe, q, qe, r, re = space[0], space[1], space[2], space[3], space[4], space[5]
    b, be, c, ce = space[6], space[7], space[8], space[9]  # beta, and beta times emission
    b[:], be[:], c[:], ce[:] = F(0.0), NEVER, F(0.0), NEVER
    end, width, last = np.uint64(S), np.uint64(posterior.shape[1]), np.uint64(S - 1) + PAD
    b[last], be[last] = (F(1.0), F(0.0)) if folded else (q[last], qe[last])
    scale, stride = F(1.0) / zm, 2 if skips else 1
    lo, hi = band(T - 1, T, S, stride)
    share = cells.state_share(am[T - 1], ae[T - 1], b, be, scale, ze, posterior[T - 1], width, lo, hi)
    for t in range(T - 1, -1, -1):
        gamma = posterior[t]
        if t % RESCALE == 0 or t == T - 1:
            scale *= F(1.0) / share
            cells.rescale(gamma, F(1.0) / share, width, lo, hi)
        cells.clear_outside(gamma, width, lo, hi)
        if folded and count:
            cells.accumulate(sums[0], gamma, end, lo, hi)
        if t == 0:
            break
        top, shift = hi, _shift(x[t, lo])
        if not folded:
            cells.emit(b, be, x[t], end, shift, c, ce, lo, hi)
        lo, hi = band(t - 1, T, S, stride)
        before, before_e, gamma = am[t - 1], ae[t - 1], posterior[t - 1]
        if folded:
            share = cells.backward_plain(
                b, be, p, pe, x[t], end, shift, before, before_e, scale, ze, gamma, width, lo, top
            )
        else:
            if per_frame:
                _split_arcs(arcs, t - 1, S, skips, space)
            cells.backward_arcs(c, ce, p, pe, q, qe, r, re, skips, b, be, lo, hi)
            for kind in range((3 if skips else 2) if count else 0):
                # The posterior of frame t - 1 is not there yet: its row lends its place.
                row = counts[kind][t - 1] if per_frame else gamma
                m, e, ahead = space[2 * kind], space[2 * kind + 1], np.uint64(kind)
                cells.arc_share(before, before_e, m, e, c, ce, ahead, scale, ze, row, width, lo, hi)
                if per_frame:
                    cells.clear_outside(row, width, lo, hi)
                else:
                    cells.accumulate(sums[kind], row, end, lo, hi)
            share = cells.state_share(before, before_e, b, be, scale, ze, gamma, width, lo, hi)
        if t % NORMALISE == 0 and not cells.normalise(b, be, lo, hi):
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
