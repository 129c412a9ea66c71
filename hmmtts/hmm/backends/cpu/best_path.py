"""The best left-to-right path of one utterance after another, in the precision of the emissions.

The best score of a row is taken out of it now and then, so that it stays near zero however unlikely the others are (a
mask of -1e9 is a score like any other), and the path's score is summed once more in float64, so it is that path's
true score. A back pointer is a bit, one word of them for a block of lanes.
"""

import numpy as np

from hmmtts.hmm.backends.cpu import cells
from hmmtts.hmm.backends.cpu.cells import BLOCK, LANES, PAD
from hmmtts.hmm.backends.cpu.compile import inner, kernel
from hmmtts.hmm.backends.cpu.lanes import (
    WIDTH,
    largest,
    load,
    load_until,
    lower,
    magnitude,
    packed,
    spread,
    store,
    top,
    where,
)
from hmmtts.hmm.backends.cpu.left_to_right import (
    BAD_VALUE,
    DONE,
    ZERO,
    arcs_are_scores,
    band,
    foldable,
    judge,
    whole_blocks,
)
from hmmtts.hmm.backends.cpu.turns import turns

NORMALISE = 16  # frames between normalisations
UNLIKELY = 16.0  # nats: what is folded is added to every path, whose digits it takes if it is large
NONE = -np.inf
BLOCKS = np.uint64(WIDTH.bit_length() - 1)  # a state's block is its number shifted by this


@kernel
def viterbi(utterances, log_obs, stay, move, skip, per_frame, skips, frames, states, path, score, status):
    """Arcs are [b, 1 or t, n]."""
    longest, widest = frames.max(), states.max()
    moved = np.empty((longest, -(-widest // WIDTH)), np.uint16)
    skipped = np.empty(moved.shape if skips else (1, 1), np.uint16)
    space = cells.rows(4, widest, log_obs)
    for b in turns(utterances):
        T, S = frames[b], states[b]
        arcs = stay[b], move[b], skip[b]
        score[b], status[b] = NONE, BAD_VALUE
        if not arcs_are_scores(arcs, T, S, per_frame, skips):
            continue
        folded = foldable(stay[b], S, per_frame, skips, UNLIKELY)
        status[b], end = _recurse(log_obs[b], T, S, arcs, per_frame, skips, folded, moved, skipped, space)
        if status[b] == DONE and end > NONE:
            score[b] = _trace(log_obs[b], T, S, arcs, per_frame, skips, moved, skipped, path[b])
        path[b, T if score[b] > NONE else 0 :] = -1


@inner
def _recurse(x, T, S, arcs, per_frame, skips, folded, moved, skipped, space):
    space[:] = NONE
    d, end = space[0], np.uint64(S)
    d[PAD] = x[0, 0]
    worst = cells.worst_score(x[0], end, ZERO, end, magnitude(spread(x[0, 0])))
    if folded:
        worst = _recurse_plain(x, T, S, arcs[0][0], moved, d, space[1], worst)
    else:
        worst = _recurse_arcs(x, T, S, arcs, per_frame, skips, moved, skipped, space, worst)
    if packed(worst >= magnitude(spread(x.dtype.type(NONE)))) and judge(x, T, S) == BAD_VALUE:
        return BAD_VALUE, NONE
    last = np.float64(d[np.uint64(S - 1) + PAD])
    if not folded:
        return DONE, last + np.float64(arcs[1][T - 1 if per_frame else 0, S - 1])
    possible = True
    for n in range(S):  # each state is left once, by its move
        possible &= arcs[1][0, n] > NONE
    return DONE, last if possible else NONE


@inner
def _recurse_plain(x, T, S, stay, moved, d, w, worst):
    end = np.uint64(S)
    for n in range(end):
        w[n + PAD] = stay[n]
    for t in range(1, T):
        lo, hi = band(t, T, S, 1)
        worst = _stay_or_move(d, w, x[t], end, moved[t], lo, hi, worst)
        worst = _finish(d, x[t], t, T, S, lo, hi, worst)
    return worst


@inner
def _recurse_arcs(x, T, S, arcs, per_frame, skips, moved, skipped, space, worst):
    d, stay, move, skip = space[0], space[1], space[2], space[3]
    _load(arcs, 0, S, skips, stay, move, skip)
    end = np.uint64(S)
    for t in range(1, T):
        lo, hi = band(t, T, S, 2 if skips else 1)
        if per_frame:
            _load(arcs, t - 1, S, skips, stay, move, skip)
        worst = _stay_move_or_skip(
            d, stay, move, skip, skips, x[t], end, moved[t], skipped[t if skips else 0], lo, hi, worst
        )
        worst = _finish(d, x[t], t, T, S, lo, hi, worst)
    return worst


@inner
def _finish(d, x, t, T, S, lo, hi, worst):
    """Of a frame: scores that no path can use must be numbers too, and those that are kept stay near zero."""
    if t < S or t > T - S:
        end = np.uint64(S)
        worst = cells.worst_score(x, end, ZERO, lo & BLOCK, worst)
        worst = cells.worst_score(x, end, whole_blocks(hi), end, worst)
    if t % NORMALISE == 0:
        _normalise(d, lo, hi)
    return worst


@inner
def _stay_or_move(d, w, x, end, moved, lo, hi, worst):
    """In place. Of equal scores the lower state, that is the move, is taken."""
    n = lo & BLOCK
    before = load(d, n)
    while n < hi:
        here = load(d, n + PAD)
        score = load(x, n) if n + LANES <= end else load_until(x, n, end, 0.0)
        worst = largest(worst, magnitude(score))
        below = lower(before, here, 1)
        taken = below >= here
        moved[n >> BLOCKS] = packed(taken)
        store(d, n + PAD, where(taken, below, here) + (load(w, n + PAD) + score))
        before = here
        n += LANES
    return worst


@inner
def _stay_move_or_skip(d, stay, move, skip, skips, x, end, moved, skipped, lo, hi, worst):
    first = lo & BLOCK
    before = load(d, first)
    moving_before, skipping_before = before + load(move, first), before + load(skip, first)
    for n in range(first, hi, LANES):
        i = n + PAD
        here, score = load(d, i), load_until(x, n, end, 0.0)
        worst = largest(worst, magnitude(score))
        moving, best = here + load(move, i), here + load(stay, i)
        other = lower(moving_before, moving, 1)
        taken = other >= best
        moved[n >> BLOCKS] = packed(taken)
        best = where(taken, other, best)
        moving_before = moving
        if skips:
            skipping = here + load(skip, i)
            other = lower(skipping_before, skipping, 2)
            taken = other >= best
            skipped[n >> BLOCKS] = packed(taken)
            best = where(taken, other, best)
            skipping_before = skipping
        store(d, i, best + score)
    return worst


@inner
def _normalise(d, lo, hi):
    first, highest = lo & BLOCK, spread(d.dtype.type(NONE))
    for n in range(first, lo):  # no path that still reaches the end comes by here
        d[n + PAD] = NONE
    for n in range(first, hi, LANES):
        highest = largest(highest, load_until(d, n + PAD, hi + PAD, NONE))
    best = top(highest)
    if best == NONE:
        return
    for n in range(first, hi, LANES):
        store(d, n + PAD, load(d, n + PAD) - best)


@inner
def _load(arcs, t, S, skips, stay, move, skip):
    for n in range(np.uint64(S)):
        stay[n + PAD], move[n + PAD] = arcs[0][t, n], arcs[1][t, n]
        if skips:
            skip[n + PAD] = arcs[2][t, n]


@inner
def _trace(x, T, S, arcs, per_frame, skips, moved, skipped, path):
    """Follow the pointers from the end; the score is summed on the way, in float64.

    Block by block of states: within one, a frame's pointers can be loaded before the lane is known.
    """
    stay, move, skip = arcs
    t, step, score = T - 1, 1, 0.0
    lane = (S - 1) % WIDTH
    for block in range((S - 1) // WIDTH, -1, -1):
        while lane >= 0 and t >= 0:
            n = block * WIDTH + lane
            path[t] = n
            now = t if per_frame else 0
            arc = move[now, n] if step else stay[now, n]
            if skips and step == 2:
                arc = skip[now, n]
            score += np.float64(x[t, n]) + np.float64(arc)
            step = (np.int64(moved[t, block]) >> lane) & 1
            if skips and (np.int64(skipped[t, block]) >> lane) & 1:
                step = 2
            lane -= step
            t -= 1
        lane += WIDTH
    return score
