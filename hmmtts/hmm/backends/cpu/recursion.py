"""One frame forward or backward in float64 logarithms, dense or left-to-right: what streams and long sequences share.

A dense step exponentiates the row once and multiplies; a sum that comes out so small that underflow may have taken
part of it is done again in logarithms, cell by cell. Nothing depends on the frames before or after, so that results are
the same bits wherever a chunk ends.
"""

import numpy as np

from hmmtts.hmm.backends.cpu.compile import inner, reduction, row

NONE = -np.inf
TINY = 1e-280  # what underflow takes from a sum is below 1e-300: nothing, beside this


@row
def add_row(sums, weights, factor):
    for j in range(sums.shape[0]):
        sums[j] += weights[j] * factor


@row
def _add_four(sums, w0, w1, w2, w3, f0, f1, f2, f3):
    for j in range(sums.shape[0]):
        sums[j] += (w0[j] * f0 + w1[j] * f1) + (w2[j] * f2 + w3[j] * f3)


@inner
def _product(factors, weights, sums, S):
    """sums(j) = sum_i factors(i) weights(i, j), four rows at a time."""
    sums[:] = 0.0
    i = 0
    while i + 4 <= S:
        _add_four(
            sums, weights[i], weights[i + 1], weights[i + 2], weights[i + 3],
            factors[i], factors[i + 1], factors[i + 2], factors[i + 3],
        )  # fmt: skip
        i += 4
    while i < S:
        add_row(sums, weights[i], factors[i])
        i += 1


@reduction
def dot(x, y):
    s = 0.0
    for j in range(x.shape[0]):
        s += x[j] * y[j]
    return s


@row
def _multiply(x, y, out):
    for j in range(x.shape[0]):
        out[j] = x[j] * y[j]


@row
def _scale(x, factor):
    for j in range(x.shape[0]):
        x[j] *= factor


@row
def copy(x, out):
    for j in range(out.shape[0]):
        out[j] = x[j]


@inner
def best_of(x, S):
    """The lower state of equals."""
    top = 0
    for n in range(1, S):
        if x[n] > x[top]:
            top = n
    return top


@inner
def log_add(a, b):
    top, low = max(a, b), min(a, b)
    return top if low == NONE else top + np.log1p(np.exp(low - top))


@inner
def _through(x, scores, weights, top, linear, sums, out, S):
    """out(j) = log sum_i exp(x(i) + scores(i, j))"""
    largest = x[best_of(x, S)]
    out[:] = NONE
    if largest == NONE:
        return
    for i in range(S):
        linear[i] = np.exp(x[i] - largest)
    _product(linear, weights, sums, S)
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
    """What arrives in each state from the row x. arcs: of a dense model (scores, weights, top), else (stay, move, skip)."""
    scores, weights, top, stay, move, skip = arcs
    if dense:
        _through(x, scores, weights, top, space[0], space[1], out, S)
        return
    out[:] = NONE
    for n in range(S):
        arrived = x[n] + stay[n]
        if n >= 1:
            arrived = log_add(arrived, x[n - 1] + move[n - 1])
        if n >= 2:
            arrived = log_add(arrived, x[n - 2] + skip[n - 2])
        out[n] = arrived


@inner
def backward(x, arcs, dense, space, out, S):
    """What leaves each state towards the row x; of a dense model the arcs come transposed."""
    scores, weights, top, stay, move, skip = arcs
    if dense:
        _through(x, scores, weights, top, space[0], space[1], out, S)
        return
    out[:] = NONE
    for n in range(S):
        left = x[n] + stay[n]
        if n + 1 < S:
            left = log_add(left, x[n + 1] + move[n])
        if n + 2 < S:
            left = log_add(left, x[n + 2] + skip[n])
        out[n] = left


@inner
def exponentiate(x, out, S):
    """exp(x), the largest 1; zeros where all is impossible."""
    largest = x[best_of(x, S)]
    out[:] = 0.0
    for n in range(S):
        if largest > NONE:
            out[n] = np.exp(x[n] - largest)


@inner
def backward_linear(beta, likelihood, weights, space, S):
    """`backward` of a dense model without logarithms, the largest of beta 1; False where underflow may be felt."""
    product, sums = space[0], space[1]
    _multiply(beta, likelihood, product)
    _product(product, weights, sums, S)
    least, most = sums[0], sums[0]
    for n in range(1, S):
        least, most = min(least, sums[n]), max(most, sums[n])
    if not (most > 1e-100 and least > 1e-150 * most):
        return False
    _scale(sums, 1.0 / most)
    copy(sums, beta)
    return True


@inner
def share_linear(log_a, b, out, S):
    """out = exp(log_a) b, normalised; False where underflow may be felt."""
    s = 0.0
    for n in range(S):
        out[n] = np.exp(log_a[n]) * b[n]
        s += out[n]
    if not s > 1e-200:
        return False
    _scale(out, 1.0 / s)
    return True


@inner
def normalise(x, S):
    """Takes out the log of the row's sum, and returns it."""
    largest = x[best_of(x, S)]
    if largest == NONE:
        return NONE
    s = 0.0
    for n in range(S):
        s += np.exp(x[n] - largest)
    whole = largest + np.log(s)
    for n in range(S):
        x[n] -= whole
    return whole


@inner
def share(a, b, out, S):
    """out = exp(a + b), normalised; zeros where nothing has weight."""
    out[:] = 0.0
    largest = NONE
    for n in range(S):
        largest = max(largest, a[n] + b[n])
    if largest == NONE:
        return
    s = 0.0
    for n in range(S):
        out[n] = np.exp(a[n] + b[n] - largest)
        s += out[n]
    for n in range(S):
        out[n] /= s


@inner
def advance(x, t, begun, start, arcs, dense, space, before, now, S):
    """The row of frame t, normalised, from the row before; returns the log of what was taken out."""
    if begun:
        forward(before, arcs, dense, space, now, S)
    else:
        copy(start, now)
    for n in range(S):
        now[n] += x[t, n]
    whole = normalise(now, S)
    now[S:] = NONE
    return whole


@inner
def back(x, beta, worth, arcs, dense, space, S):
    """beta of the frame before that of x, relative to its largest."""
    for n in range(S):
        worth[n] = x[n] + beta[n]
    backward(worth, arcs, dense, space, beta, S)
    largest = beta[best_of(beta, S)]
    if largest > NONE:
        for n in range(S):
            beta[n] -= largest


@row
def _take_better(best, pointer, arcs, score, i):
    for j in range(best.shape[0]):
        value = score + arcs[j]
        better = value > best[j]  # of equal scores the lower state, which came first
        best[j] = value if better else best[j]
        pointer[j] = i if better else pointer[j]


@inner
def best_into(delta, arcs, dense, best, pointer, S):
    scores, _, _, stay, move, skip = arcs
    best[:] = NONE
    pointer[:] = 0
    if dense:
        for i in range(S):
            if delta[i] > NONE:
                _take_better(best[:S], pointer[:S], scores[i], delta[i], np.int16(i))
        return
    for n in range(S):
        if n >= 2 and delta[n - 2] + skip[n - 2] > NONE:
            best[n], pointer[n] = delta[n - 2] + skip[n - 2], n - 2
        if n >= 1 and delta[n - 1] + move[n - 1] > best[n]:
            best[n], pointer[n] = delta[n - 1] + move[n - 1], n - 1
        if delta[n] + stay[n] > best[n]:
            best[n], pointer[n] = delta[n] + stay[n], n
