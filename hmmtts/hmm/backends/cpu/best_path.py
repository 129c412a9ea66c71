"""The best left-to-right path of one utterance after another, in the precision of the emissions.

Scores are kept near zero by taking one of a row out of it now and then, and the path's score is summed once
more in float64, so it is that path's true score.
"""

import numpy as np

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, row
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, band, foldable
from hmmtts.hmm.backends.cpu.rows import ONE, PAD, TWO

NORMALISE = 16  # frames between normalisations
NONE = -np.inf


@row
def _stay_or_move(d, w, x, best, pointer, lo, hi):
    """Of equal scores the lower state, that is the move, is taken."""
    for first, last in rows.blocks(lo, hi):
        for n in range(first, last):
            i = n + TWO
            moved = d[i - ONE] >= d[i]
            pointer[n] = np.uint8(1) if moved else np.uint8(0)
            best[i] = (d[i - ONE] if moved else d[i]) + (w[i] + x[n])


@row
def _stay_move_or_skip(d, stay, move, skip, x, best, pointer, lo, hi):
    for n in range(lo, hi):
        i = n + TWO
        top, taken = d[i] + stay[i], np.uint8(0)
        other = d[i - ONE] + move[i - ONE]
        taken = np.uint8(1) if other >= top else taken
        top = other if other >= top else top
        other = d[i - TWO] + skip[i - TWO]
        taken = np.uint8(2) if other >= top else taken
        top = other if other >= top else top
        pointer[n] = taken
        best[i] = top + x[n]


@row
def _minus(x, value, lo, hi):
    for n in range(lo, hi):
        x[n + TWO] -= value


@kernel
def viterbi(utterances, log_obs, stay, move, skip, per_frame, skips, frames, states, path, score, status):
    """Arcs are [b, 1 or t, n]."""
    longest, widest = 0, 0
    for b in utterances:
        longest, widest = max(longest, frames[b]), max(widest, states[b])
    pointers = np.zeros((longest, widest), np.uint8)
    space = np.empty((5, widest + 2 * PAD), log_obs.dtype)
    for b in utterances:
        T, S = frames[b], states[b]
        arcs = stay[b], move[b], skip[b]
        score[b] = NONE
        folded = foldable(stay[b], S, per_frame, skips)
        status[b], end = _recurse(log_obs[b], T, S, arcs, per_frame, skips, folded, pointers, space)
        if status[b] == DONE and end > NONE:
            score[b] = _trace(log_obs[b], T, S, arcs, per_frame, pointers, path[b])
        path[b, T if score[b] > NONE else 0 :] = -1


@inner
def _recurse(x, T, S, arcs, per_frame, skips, folded, pointers, space):
    space[:] = NONE
    d, best, stay, move, skip = space[0], space[1], space[2], space[3], space[4]
    _load(arcs, 0, S, skips, stay, move, skip)
    if not rows.finite(x[0], S):
        return BAD_VALUE, NONE
    d[PAD] = x[0, 0]
    for t in range(1, T):
        if not rows.finite(x[t], S):
            return BAD_VALUE, NONE
        lo, hi = band(t, T, S, 2 if skips else 1)
        if folded:
            _stay_or_move(d, stay, x[t], best, pointers[t], lo, hi)
        else:
            if per_frame:
                _load(arcs, t - 1, S, skips, stay, move, skip)
            _stay_move_or_skip(d, stay, move, skip, x[t], best, pointers[t], lo, hi)
        if t % NORMALISE == 0:
            top = best[lo + TWO]
            if top > NONE:
                _minus(best, top, lo, hi)
        d, best = best, d
    end = np.float64(d[S - 1 + PAD])
    if not folded:
        return DONE, end + np.float64(arcs[1][T - 1 if per_frame else 0, S - 1])
    for n in range(S):  # each state is left once, by its move
        end = end if arcs[1][0, n] > NONE else NONE
    return DONE, end


@inner
def _load(arcs, t, S, skips, stay, move, skip):
    for n in range(S):
        stay[n + PAD], move[n + PAD] = arcs[0][t, n], arcs[1][t, n]
        if skips:
            skip[n + PAD] = arcs[2][t, n]


@inner
def _trace(x, T, S, arcs, per_frame, pointers, path):
    """Follow the pointers from the end; the score is summed on the way, in float64."""
    n, step, score = S - 1, 1, 0.0
    for t in range(T - 1, -1, -1):
        path[t] = n
        score += np.float64(x[t, n]) + np.float64(arcs[step][t if per_frame else 0, n])
        if t > 0:
            step = np.int64(pointers[t, n])
            n -= step
    return score
