"""One long utterance, piece by piece: what is needed of a piece is carried in from its ends. c frames, n states."""

from typing import NamedTuple

import numpy as np

from hmmtts.hmm.backends.cpu import doubles, recursion, rows
from hmmtts.hmm.backends.cpu.compile import compiled_once, inner, kernel

NONE = recursion.NONE
Row = np.ndarray


class Laws(NamedTuple):
    """A model of one stream as arrays."""

    start: Row
    end: Row
    dense: bool
    scores: np.ndarray  # [n n], or [3 n]: stay, move, skip
    weights: np.ndarray  # [n n] of a dense model
    top: float


class Counts(NamedTuple):
    """Sums over the frames so far, last frame first, in the order of the frames whatever the pieces."""

    shares: np.ndarray  # [n n] of a dense model: to be multiplied by its weights
    direct: np.ndarray  # [n n]: what underflow would have taken from these
    steps: np.ndarray  # [3 n] of a left-to-right model


@compiled_once
def make_ready() -> None:
    x, square = np.zeros((2, 2)), np.zeros((2, 2))
    for laws in (
        Laws(np.zeros(2), np.zeros(2), True, square, square + 1, 0.0),
        Laws(np.zeros(2), np.zeros(2), False, np.zeros((3, 2)), np.empty((0, 0)), 0.0),
    ):
        alphas, counts = np.empty((3, 2)), Counts(square.copy(), square.copy(), np.zeros((3, 2)))
        forward(*laws, x, 0, alphas)
        backward(*laws, x, alphas, True, np.zeros(2), *counts, x.copy())
        best(*laws, x, 0, np.zeros(2), np.zeros((2, 2), np.int16))


@kernel
def forward(start, end, dense, scores, weights, top, x, heard, alphas):
    """alphas[0]: the frame before the piece, `heard` frames into the utterance. Fills the rest; returns log weight taken out, -1
    and the first bad frame otherwise."""
    S = x.shape[1]
    arcs, space, log_z = (scores, doubles.padded(weights), top), doubles.rows(2, S), 0.0
    for t in range(x.shape[0]):
        if not rows.finite(x[t], S):
            return 0.0, t
        begun = heard + t > 0
        log_z += recursion.advance(x, t, begun, start, arcs, dense, space, alphas[t], alphas[t + 1], S)
    return log_z, -1


@kernel
def backward(
    start, end, dense, scores, weights, top, x, alphas, first, beta, shares, direct, steps, posterior
):  # fmt: skip
    """Posteriors and counts of a piece; `beta` is of its last frame, and then of the frame before it.

    `first`: the utterance begins here, and nothing comes before.
    """
    S = x.shape[1]
    space, back_arcs = doubles.rows(2, S), (scores, weights, top)
    if dense:
        back_arcs = scores.T.copy(), doubles.padded(weights.T), top
    worth, after = np.empty(S), np.empty(S)
    for t in range(x.shape[0] - 1, -1, -1):
        recursion.share(alphas[t + 1], beta, posterior[t], S)
        if t == 0 and first:
            break
        after[:] = beta
        recursion.back(x[t], beta, worth, back_arcs, dense, space, S)  # worth: x + what follows it
        _count(alphas[t], worth, scores, weights, dense, space, shares, direct, steps, S)


@inner
def _count(alpha, worth, scores, weights, dense, space, shares, direct, steps, S):
    """Adds the probability of every arc between two frames."""
    if not dense:
        stay, move, skip = scores[0], scores[1], scores[2]
        largest = NONE
        for n in range(S):
            largest = max(largest, alpha[n] + stay[n] + worth[n])
            if n + 1 < S:
                largest = max(largest, alpha[n] + move[n] + worth[n + 1])
            if n + 2 < S:
                largest = max(largest, alpha[n] + skip[n] + worth[n + 2])
        if largest == NONE:
            return
        whole = 0.0
        for n in range(S):
            whole += _steps(alpha, worth, scores, n, S, largest, 0.0, steps)
        for n in range(S):
            _steps(alpha, worth, scores, n, S, largest, 1.0 / whole, steps)
        return
    linear, sums = space[0], space[1]
    recursion.exponentiate(worth, linear, S)
    recursion.exponentiate(alpha, sums, S)
    whole = 0.0
    for i in range(S):
        whole += sums[i] * doubles.dot(weights[i], linear, S)
    if whole > 1e-200:
        for i in range(S):
            doubles.add_scaled(linear, sums[i] / whole, shares[i], S)
        return
    largest = NONE
    for i in range(S):
        for j in range(S):
            largest = max(largest, alpha[i] + scores[i, j] + worth[j])
    if largest == NONE:
        return
    whole = 0.0
    for i in range(S):
        for j in range(S):
            whole += np.exp(alpha[i] + scores[i, j] + worth[j] - largest)
    for i in range(S):
        for j in range(S):
            direct[i, j] += np.exp(alpha[i] + scores[i, j] + worth[j] - largest) / whole


@inner
def _steps(alpha, worth, scores, n, S, largest, scale, steps):
    """The weight of the arcs out of a state; `scale` of it is added to the counts."""
    stay, move, skip = scores[0], scores[1], scores[2]
    stayed = np.exp(alpha[n] + stay[n] + worth[n] - largest)
    moved = np.exp(alpha[n] + move[n] + worth[n + 1] - largest) if n + 1 < S else 0.0
    skipped = np.exp(alpha[n] + skip[n] + worth[n + 2] - largest) if n + 2 < S else 0.0
    steps[0, n] += stayed * scale
    steps[1, n] += moved * scale
    steps[2, n] += skipped * scale
    return stayed + moved + skipped


@kernel
def best(start, end, dense, scores, weights, top, x, heard, delta, before):
    """Best paths into each state: `delta` is of the frame before the piece, and then of its last; returns what was taken out."""
    S = x.shape[1]
    now, log_p = np.empty(S), 0.0
    for t in range(x.shape[0]):
        if not rows.finite(x[t], S):
            return 0.0, t
        if heard + t > 0:
            recursion.best_into(delta, scores, dense, now, before[t], S)
        else:
            now[:] = start
        doubles.add(now, x[t], now, S)
        largest = doubles.most(now, S)
        log_p += largest
        for n in range(S):
            delta[n] = now[n] - largest if largest > NONE else NONE
    return log_p, -1
