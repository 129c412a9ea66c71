"""Left-to-right semi-Markov models, one utterance after another, in extended range (see extended.py).

Boundary n of an utterance is the number of frames before state n begins: 0 for the first, all frames for the last.
A_n(t), the weight of all ways in which the first n states can fill the first t frames, follows from A_{n-1} by whole
segments, whose emissions are a quotient of cumulated products G_n(t) = prod_{u <= t} b_u(n):

    A_{n+1}(t) = G_n(t) sum_d dur_n(d) A_n(t - d) / G_n(t - d)

That is one multiply-add for every frame, state and duration, and only A is kept. B_n(t), what the other states make of
the other frames, runs the same way back. A_n(t) B_n(t) / Z is the posterior of boundary n, and a state's posterior the
difference between those of its two boundaries, summed up to the frame.
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, row
from hmmtts.hmm.backends.cpu.extended import (
    NEVER,
    add_multiple,
    add_shares,
    exp_cell,
    exponentials,
    inverses,
    power_of_two,
    products,
)
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, OUT_OF_RANGE
from hmmtts.hmm.backends.cpu.turns import turns

LN_2 = math.log(2.0)
LARGEST_SCORE = 1e6  # beyond, cumulated sums would lose the digits of the others
LEAST = -1e15  # of an arc: below, a cell's exponent would have no digits
NONE = -np.inf


@kernel
def forward_backward(
    utterances, log_obs, durations, frames, states, wanted, posterior, counts, log_z, status
):
    """wanted: 0 log Z only, 1 and posteriors, 2 and expected counts of durations; all arrays float64."""
    longest, widest, D = frames.max(), states.max(), durations.shape[2]
    am, ae = np.empty((widest + 1, longest + 1)), np.empty((widest + 1, longest + 1))
    cells, weights, cumulated = np.empty((8, longest + 1)), np.empty((4, D)), np.empty((2, longest + 1))
    free, band = np.empty((2, longest + 1), np.int64), np.empty((2, widest + 1), np.int64)
    for b in turns(utterances):
        T, S, x = frames[b], states[b], log_obs[b]
        status[b] = check(x, T, S)
        if status[b] != DONE:
            continue
        if wanted > 0:
            posterior[b, :, :] = 0.0
        if wanted == 2:
            counts[b, :, :] = 0.0
        limits(durations[b], T, S, band)
        am[0, 0], ae[0, 0] = 1.0, 0.0
        for n in range(S):
            segment_cells(x, n, T, cells, free)
            split(durations[b, n], weights)
            _forward(n, band, am, ae, cells, free, weights)
        zm, ze = am[S, T], ae[S, T]
        log_z[b] = math.log(zm) + ze * LN_2 if zm > 0.0 else NONE
        if wanted > 0 and zm > 0.0:
            _posteriors(x, T, S, band, am, ae, cells, free, weights, cumulated, durations[b], posterior[b],
                        counts[b], wanted == 2)  # fmt: skip


@inner
def check(x, T, S):
    """DONE if every real score is one that the kernels can cumulate."""
    whole = x.shape[1] == S  # then all frames are one row
    width, height = (T * S, 1) if whole else (S, T)
    beyond = 0
    for t in range(height):
        scores = x.reshape(x.size) if whole else x[t]
        if not rows.finite(scores, width):
            return BAD_VALUE
        for n in range(np.uint64(width)):
            beyond += (abs(scores[n]) > LARGEST_SCORE) & (scores[n] > NONE)
    return DONE if beyond == 0 else OUT_OF_RANGE


@inner
def limits(durations, T, S, band):
    """First and last frame that each boundary can lie at, given the hard limits of the durations on its two sides."""
    D = durations.shape[1]
    first, last = band[0], band[1]
    first[0], last[0] = 0, 0
    for n in range(S):
        shortest, longest = support(durations[n], D)
        first[n + 1], last[n + 1] = first[n] + shortest, last[n] + longest
    fewest, most = first[S], last[S]
    for n in range(S + 1):
        first[n], last[n] = max(first[n], T - (most - last[n])), min(last[n], T - (fewest - first[n]))


@inner
def support(durations, D):
    shortest, longest = D + 1, 0
    for d in range(D):
        if durations[d] > NONE:
            shortest, longest = min(shortest, d + 1), d + 1
    return shortest, longest


@inner
def split(scores, weights):
    """exp(scores) as cells, in their order and backwards."""
    D = scores.shape[0]
    for d in range(D):
        possible = scores[d] > NONE
        m, e = exp_cell(max(scores[d], LEAST) if possible else 0.0)
        weights[0, d], weights[1, d] = (m, e) if possible else (0.0, NEVER)
        weights[2, D - 1 - d], weights[3, D - 1 - d] = weights[0, d], weights[1, d]


@inner
def segment_cells(x, n, T, cells, free):
    """G_n and 1 / G_n as cells; how far a segment from each boundary reaches before an impossible frame, and back."""
    total, since = 0.0, 0
    cells[4, 0] = 0.0
    free[1, 0] = 0
    for t in range(T):
        score = x[t, n]
        if score > NONE:
            total += score
        else:
            since = t + 1
        cells[4, t + 1] = total
        free[1, t + 1] = since
    until = T
    for t in range(T, 0, -1):
        free[0, t] = until
        if not x[t - 1, n] > NONE:
            until = t - 1
    free[0, 0] = until
    exponentials(cells[4], cells[0], cells[1], np.uint64(T + 1))
    inverses(cells[0], cells[1], cells[2], cells[3], np.uint64(T + 1))


@inner
def copy(m, e, to, toe, count):
    for t in range(count):
        to[t], toe[t] = m[t], e[t]


@inner
def clear(m, e, first, last):
    for t in range(first, last + 1):
        m[t], e[t] = 0.0, NEVER


@inner
def _forward(n, band, am, ae, cells, free, weights):
    """A_{n+1} from A_n."""
    gm, ge, im, ie = cells[0], cells[1], cells[2], cells[3]
    first, last = band[0, n + 1], band[1, n + 1]
    m, e = am[n + 1], ae[n + 1]
    shortest, longest = extent(weights)
    clear(m, e, first, last)
    for t in range(band[0, n], band[1, n] + 1):
        if am[n, t] > 0.0:
            start = max(t + shortest, first)
            stop = min(min(t + longest, free[0, t]), last)
            if stop >= start:
                add_multiple(m, e, np.uint64(start), weights[0], weights[1], np.uint64(start - t - 1),
                             am[n, t] * im[t], ae[n, t] + ie[t], np.uint64(stop + 1 - start))  # fmt: skip
    products(m, e, gm, ge, m, e, np.uint64(first), np.uint64(last + 1 - first))


@inner
def extent(weights):
    D = weights.shape[1]
    shortest, longest = D + 1, 0
    for d in range(D):
        if weights[0, d] > 0.0:
            shortest, longest = min(shortest, d + 1), d + 1
    return shortest, longest


@inner
def _backward(n, T, band, bm, be, cells, free, weights, nm, ne):
    """B_n (nm, ne) from B_{n+1} (bm, be), which is left multiplied by G_n."""
    gm, ge, im, ie = cells[0], cells[1], cells[2], cells[3]
    first, last, D = band[0, n], band[1, n], weights.shape[1]
    shortest, longest = extent(weights)
    start, count = band[0, n + 1], band[1, n + 1] + 1 - band[0, n + 1]
    products(bm, be, gm, ge, bm, be, np.uint64(start), np.uint64(count))
    clear(nm, ne, first, last)
    for t in range(start, start + count):
        if bm[t] > 0.0:
            begin = max(max(t - longest, free[1, t]), first)
            stop = min(t - shortest, last)
            if stop >= begin:
                add_multiple(nm, ne, np.uint64(begin), weights[2], weights[3], np.uint64(D - t + begin),
                             bm[t], be[t], np.uint64(stop + 1 - begin))  # fmt: skip
    products(nm, ne, im, ie, nm, ne, np.uint64(first), np.uint64(last + 1 - first))


@inner
def _posteriors(x, T, S, band, am, ae, cells, free, weights, cumulated, durations, posterior, counts, count):
    zm, ze = 1.0 / am[S, T], -ae[S, T]
    bm, be, nm, ne = cells[4], cells[5], cells[6], cells[7]
    after, before = cumulated[0], cumulated[1]  # P(boundary <= t) of the state's end, of its beginning
    after[:] = 0.0
    after[T] = 1.0
    clear(nm, ne, 0, T)
    nm[T], ne[T] = 1.0, 0.0
    for n in range(S - 1, -1, -1):
        segment_cells(x, n, T, cells, free)
        split(durations[n], weights)
        copy(nm, ne, bm, be, T + 1)
        _backward(n, T, band, bm, be, cells, free, weights, nm, ne)
        if count:
            _count(n, band, am, ae, zm, ze, bm, be, cells, free, weights, counts[n])
        first, last = band[0, n], band[1, n]
        before[:first] = 0.0
        _shares(am[n], ae[n], nm, ne, zm, ze, before, np.uint64(first), np.uint64(last + 1 - first))
        total = 0.0
        for t in range(first, last + 1):
            total += before[t]
            before[t] = total
        before[last : T + 1] = 1.0
        for t in range(first, band[1, n + 1]):
            posterior[t, n] = max(before[t] - after[t], 0.0)
        after, before = before, after


@row
def _shares(am, ae, bm, be, scale, scale_e, out, start, count):
    for i in range(count):
        j = start + i
        out[j] = (am[j] * bm[j]) * scale * power_of_two(ae[j] + be[j] + scale_e)


@inner
def _count(n, band, am, ae, zm, ze, vm, ve, cells, free, weights, counts):
    """Expected segments of each duration, B_{n+1} G_n being in v."""
    im, ie = cells[2], cells[3]
    first, last = band[0, n + 1], band[1, n + 1]
    shortest, longest = extent(weights)
    for t in range(band[0, n], band[1, n] + 1):
        if am[n, t] > 0.0:
            start = max(t + shortest, first)
            stop = min(min(t + longest, free[0, t]), last)
            if stop >= start:
                add_shares(counts, weights[0], weights[1], vm, ve, np.uint64(start), np.uint64(start - t - 1),
                           am[n, t] * im[t] * zm, ae[n, t] + ie[t] + ze, np.uint64(stop + 1 - start))  # fmt: skip
