"""One frame forward or backward in float64 logarithms, dense or left-to-right: what streams and long sequences share.

A dense step exponentiates the row once and multiplies; a sum that comes out so small that underflow may have taken
part of it is done again in logarithms, cell by cell. Nothing depends on the frames before or after, so that results are
the same bits wherever a chunk ends.

n states. The arcs of a dense model are (scores [n n], weights = e^(scores - top), `padded` (doubles.py), top); of one from left
to right (scores [3 n]: stay, move, skip).
"""

import numpy as np

from hmmtts.hmm.backends.cpu import doubles
from hmmtts.hmm.backends.cpu.compile import inner
from hmmtts.hmm.backends.cpu.product import product

NONE = doubles.NONE
TINY = 1e-280  # what underflow takes from a sum is below 1e-300: nothing, beside this


@inner
def best_of(x, S):
    """The lower state of equals."""
    top = 0
    for n in range(1, S):
        if x[n] > x[top]:
            top = n
    return top


@inner
def _through(x, scores, weights, top, linear, sums, out, S):
    """out(j) = log sum_i exp(x(i) + scores(i, j))"""
    largest = doubles.most(x, S)
    out[:] = NONE
    if largest == NONE:
        return
    doubles.exponentiate(x, largest, linear, S)
    product(linear, weights, sums, S)
    for j in range(S):
        if sums[j] > TINY:
            out[j] = np.log(sums[j]) + (largest + top)
        else:
            out[j] = _log_sum(x, scores, j, S)


@inner
def _log_sum(x, scores, j, S):
    top = NONE
    for i in range(S):
        top = max(top, x[i] + scores[i, j])
    if top == NONE:
        return NONE
    s = 0.0
    for i in range(S):
        s += np.exp(x[i] + scores[i, j] - top)
    return top + np.log(s)


@inner
def forward(x, arcs, dense, space, out, S):
    """What arrives in each state from the row x."""
    scores, weights, top = arcs
    if dense:
        _through(x, scores, weights, top, space[0], space[1], out, S)
        return
    doubles.arrive(x, scores[0], scores[1], scores[2], out, S)


@inner
def backward(x, arcs, dense, space, out, S):
    """What leaves each state towards the row x; of a dense model the arcs come transposed."""
    scores, weights, top = arcs
    if dense:
        _through(x, scores, weights, top, space[0], space[1], out, S)
        return
    doubles.leave(x, scores[0], scores[1], scores[2], out, S)


@inner
def exponentiate(x, out, S):
    """exp(x), the largest 1; zeros where all is impossible."""
    out[:] = 0.0
    largest = doubles.most(x, S)
    if largest > NONE:
        doubles.exponentiate(x, largest, out, S)


@inner
def backward_linear(beta, likelihood, weights, space, S):
    """`backward` of a dense model without logarithms, in padded rows; False where underflow may be felt."""
    doubles.multiply_padded(beta, likelihood, space[0], S)
    product(space[0], weights, beta, S)
    if not doubles.none_below(beta, 1e-200, S):
        return False
    if doubles.some_above(beta, 1e50, S) or not doubles.some_above(beta, 1e-50, S):
        doubles.scale(beta, 1.0 / doubles.most(beta, S), S)
    return True


@inner
def share_linear(log_a, b, out, S):
    """out = exp(log_a) b, normalised; False where underflow may be felt."""
    doubles.exponentiate(log_a, 0.0, out, S)
    whole = doubles.multiply(out, b, out, S)
    if not whole > 1e-200:
        return False
    doubles.scale(out, 1.0 / whole, S)
    return True


@inner
def normalise(x, space, S):
    """Takes out the log of the row's sum, and returns it."""
    largest = doubles.most(x, S)
    if largest == NONE:
        return NONE
    whole = largest + np.log(doubles.exponentiate(x, largest, space[0], S))
    doubles.add_number(x, -whole, x, S)
    return whole


@inner
def share(a, b, out, S):
    """out = exp(a + b), normalised; zeros where nothing has weight."""
    out[:] = 0.0
    doubles.add(a, b, out, S)
    largest = doubles.most(out, S)
    if largest == NONE:
        out[:] = 0.0
        return
    whole = doubles.exponentiate(out, largest, out, S)
    doubles.scale(out, 1.0 / whole, S)


@inner
def advance(x, t, begun, start, arcs, dense, space, before, now, S):
    """The row of frame t, normalised, from the row before; returns the log of what was taken out."""
    if begun:
        forward(before, arcs, dense, space, now, S)
    else:
        doubles.copy(start, now)
    doubles.add(now, x[t], now, S)
    whole = normalise(now, space, S)
    now[S:] = NONE
    return whole


@inner
def back(x, beta, worth, arcs, dense, space, S):
    """beta of the frame before that of x, relative to its largest."""
    doubles.add(x, beta, worth, S)
    backward(worth, arcs, dense, space, beta, S)
    largest = doubles.most(beta, S)
    if largest > NONE:
        doubles.add_number(beta, -largest, beta, S)


@inner
def best_into(delta, scores, dense, best, pointer, S):
    best[:] = NONE
    pointer[:] = 0
    if dense:
        doubles.best_way(delta, scores, best, pointer, S)
        return
    stay, move, skip = scores[0], scores[1], scores[2]
    for n in range(S):
        if n >= 2 and delta[n - 2] + skip[n - 2] > NONE:
            best[n], pointer[n] = delta[n - 2] + skip[n - 2], n - 2
        if n >= 1 and delta[n - 1] + move[n - 1] > best[n]:
            best[n], pointer[n] = delta[n - 1] + move[n - 1], n - 1
        if delta[n] + stay[n] > best[n]:
            best[n], pointer[n] = delta[n] + stay[n], n
