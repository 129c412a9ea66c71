"""The best left-to-right path of one utterance after another, in the precision of the emissions.

Scores are kept near zero by taking the best of a row out of it now and then, and the path's score is summed once
more in float64, so it is that path's true score.
"""

import numpy as np

from hmmtts.hmm.backends.cpu.compile import inner, kernel, reduction, row, strict
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, PAD, band, foldable
from hmmtts.hmm.backends.cpu.rows import magnitude

NORMALISE = 16  # frames between normalisations
NONE = -np.inf


@row
def _stay_or_move(stay, move, x, best, pointer):
    """Of equal scores the lower state, that is the move, is taken."""
    for i in range(best.shape[0]):
        moved = move[i] >= stay[i]
        pointer[i] = np.uint8(1) if moved else np.uint8(0)
        best[i] = (move[i] if moved else stay[i]) + x[i]


@row
def _stay_move_or_skip(d, stay, d1, move, d2, skip, x, best, pointer):
    for i in range(best.shape[0]):
        top, taken = d[i] + stay[i], np.uint8(0)
        other = d1[i] + move[i]
        taken = np.uint8(1) if other >= top else taken
        top = other if other >= top else top
        other = d2[i] + skip[i]
        taken = np.uint8(2) if other >= top else taken
        top = other if other >= top else top
        pointer[i] = taken
        best[i] = top + x[i]


@row
def _plus(a, b, out):
    for i in range(out.shape[0]):
        out[i] = a[i] + b[i]


@row
def _minus(x, value):
    for i in range(x.shape[0]):
        x[i] -= value


@reduction
def _best(x):
    top = x[0]
    for i in range(1, x.shape[0]):
        top = max(top, x[i])
    return top


@strict
def bad_value(x):
    """Whether the row holds NaN or +inf."""
    if np.isfinite(magnitude(x)):
        return False
    for i in range(x.shape[0]):
        if np.isnan(x[i]) or x[i] == np.inf:
            return True
    return False


@kernel
def viterbi(utterances, log_obs, stay, move, skip, per_frame, skips, frames, states, path, score, status):
    """Arcs are [b, 1 or t, n]."""
    longest, widest = 0, 0
    for b in utterances:
        longest, widest = max(longest, frames[b]), max(widest, states[b])
    pointers = np.zeros((longest, widest), np.uint8)
    space = np.empty((7, widest + 2 * PAD), log_obs.dtype)
    for b in utterances:
        T, S = frames[b], states[b]
        arcs = stay[b], move[b], skip[b]
        path[b, :] = -1
        score[b] = NONE
        folded = foldable(stay[b, 0, :S], per_frame, skips)
        status[b], end = _recurse(log_obs[b], T, S, arcs, per_frame, skips, folded, pointers, space)
        if status[b] == DONE and end > NONE:
            _trace(T, S, pointers, path[b])
            score[b] = _rescore(log_obs[b], T, arcs, per_frame, path[b])


@inner
def _recurse(x, T, S, arcs, per_frame, skips, folded, pointers, space):
    stride = 2 if skips else 1
    d, n, p, q, r, scored = space[0], space[1], space[2], space[3], space[4], space[5]
    space[:] = NONE
    p[PAD : PAD + S], q[PAD : PAD + S] = arcs[0][0, :S], arcs[1][0, :S]
    if skips:
        r[PAD : PAD + S] = arcs[2][0, :S]
    if bad_value(x[0, :S]):
        return BAD_VALUE, NONE
    d[PAD] = x[0, 0]
    for t in range(1, T):
        if bad_value(x[t, :S]):
            return BAD_VALUE, NONE
        lo, hi = band(t, T, S, stride)
        at, to = PAD + lo, PAD + hi
        if folded:
            _plus(x[t, lo:hi], p[at:to], scored[at:to])
            _stay_or_move(d[at:to], d[at - 1 : to - 1], scored[at:to], n[at:to], pointers[t, lo:hi])
        else:
            if per_frame:
                p[PAD : PAD + S], q[PAD : PAD + S] = arcs[0][t - 1, :S], arcs[1][t - 1, :S]
                if skips:
                    r[PAD : PAD + S] = arcs[2][t - 1, :S]
            _stay_move_or_skip(
                d[at:to], p[at:to], d[at - 1 : to - 1], q[at - 1 : to - 1], d[at - 2 : to - 2], r[at - 2 : to - 2],
                x[t, lo:hi], n[at:to], pointers[t, lo:hi],
            )  # fmt: skip
        if t % NORMALISE == NORMALISE - 1:
            top = _best(n[at:to])
            if top > NONE:
                _minus(n[at:to], top)
        d, n = n, d
    end = d[PAD + S - 1]
    if folded:
        for s in range(S):
            end = end if arcs[1][0, s] > NONE else d.dtype.type(NONE)
    else:
        end += arcs[1][T - 1 if per_frame else 0, S - 1]
    return DONE, end


@inner
def _trace(T, S, pointers, path):
    s = S - 1
    for t in range(T - 1, -1, -1):
        path[t] = s
        if t > 0:
            s -= pointers[t, s]


@inner
def _rescore(x, T, arcs, per_frame, path):
    total = 0.0
    for t in range(T):
        s = path[t]
        step = path[t + 1] - s if t + 1 < T else 1
        total += np.float64(x[t, s]) + np.float64(arcs[step][t if per_frame else 0, s])
    return total
