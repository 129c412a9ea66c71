"""Dense semi-Markov models in the scaled domain, one utterance after another, in float64.

Forward, by residual durations: pending[k, t], times a factor of state k, is the weight of all paths in which a segment
of k that has begun will end with frame t. A frame multiplies only the factor; to enter a state adds a multiple of its
durations to what is pending. So a frame costs one multiply-add per state and duration. Backward, `ahead` holds the
weights of what can follow a segment, and the durations are summed against it.

Every few frames all is divided by its sum. What underflows is lost, which is harmless unless the future needs just that.
Then the weights of both directions are far beyond Z at some frame, or its posteriors do not sum to one, and the utterance
is done again in extended range.
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, reduction, row
from hmmtts.hmm.backends.cpu.extended import plain_exponentials
from hmmtts.hmm.backends.cpu.lanes import WIDTH, load, multiply_add, spread, store, total
from hmmtts.hmm.backends.cpu.left_to_right import DONE, OUT_OF_RANGE
from hmmtts.hmm.backends.cpu.product import product
from hmmtts.hmm.backends.cpu.semi_markov_left_to_right import check
from hmmtts.hmm.backends.cpu.turns import turns

RESCALE = 16  # frames between divisions by the sum
SMALL = 1e-50  # a factor below is multiplied into what is pending
LOST = 1e-8  # how far a sum of posteriors may be from one
# Forward and backward weights together, over Z, in nats. What underflows is below e^-708 where both are divided by their
# sums; until the next division it grows by at most (K e^10)^16, scores being below 5, and must stay far below Z.
FARTHEST = 350.0
NONE = -np.inf
BLOCK = np.uint64(WIDTH)


@inner
def _add(out, start, w, factor):
    for n in range(np.uint64(0), np.uint64(w.shape[0]), BLOCK):
        store(out, start + n, multiply_add(spread(factor), load(w, n), load(out, start + n)))


@row
def _add_window(out, x, start, factor):
    for i in range(np.uint64(out.shape[0])):
        out[i] += factor * x[start + i]


@row
def _multiply(x, start, factor, count):
    for i in range(count):
        x[start + i] *= factor


@reduction
def _sum(x, start, count):
    s = 0.0
    for i in range(count):
        s += x[start + i]
    return s


@inner
def _dot(w, x, start):
    sums = spread(0.0)
    for n in range(np.uint64(0), np.uint64(w.shape[0]), BLOCK):
        sums = multiply_add(load(w, n), load(x, start + n), sums)
    return total(sums)


@kernel
def forward_backward(
    utterances, log_obs, initial, transition, transposed, durations, final, frames, counted,
    posterior, at_start, arcs, lasting, at_end, log_z, status,
):  # fmt: skip
    """Probabilities, not logarithms: initial[k], transition[k w], transposed[k w], durations[k w], final[k], rows padded
    with zeros to whole vectors.

    Log Z and posteriors, and if `counted` the expected counts at_start[b k], arcs[b k k], lasting[b k d], at_end[b k].
    """
    longest, (K, W) = frames.max(), durations.shape
    emission, tops, scales = np.empty((longest, K)), np.empty(longest), np.empty(longest + 1)
    wide = transition.shape[1]
    entry, done = np.zeros((longest + 1, wide)), np.empty((longest + 1, K))
    pending, space = np.empty((K, longest + 1 + W)), np.zeros((4, wide))
    taken, lasted = np.empty((K, wide)), np.empty((K, W))
    for b in turns(utterances):
        T, x = frames[b], log_obs[b]
        posterior[b, T:] = 0.0
        status[b] = check(x, T, K)
        if status[b] != DONE:
            continue
        status[b] = OUT_OF_RANGE
        if not _emissions(x, T, emission, tops):
            continue
        log_z[b] = _forward(
            emission, tops, T, initial, transition, durations, final, entry, done, scales, pending, space[0]
        )
        if log_z[b] == NONE:
            continue
        if _backward(emission, tops, T, transposed, durations, final, entry, done, scales, log_z[b], pending, space,
                     counted, taken, lasted, posterior[b]):  # fmt: skip
            status[b] = DONE
        if counted and status[b] == DONE:
            for k in range(K):
                at_start[b, k], at_end[b, k] = posterior[b, 0, k], posterior[b, T - 1, k]
                for j in range(K):
                    arcs[b, k, j] = taken[k, j] * transition[k, j]
                for d in range(lasting.shape[2]):
                    lasting[b, k, d] = lasted[k, d] * durations[k, d]


@inner
def _emissions(x, T, emission, tops):
    """Emissions relative to the best of their frame; False if a frame is impossible."""
    K = x.shape[1]
    for t in range(T):
        top = rows.most(x[t])
        if top == NONE:
            return False
        tops[t] = top
        for k in range(K):
            emission[t, k] = x[t, k] - top
    flat = emission.reshape(emission.size)
    plain_exponentials(flat, flat, np.uint64(T * K))
    return True


@inner
def _forward(emission, tops, T, initial, transition, durations, final, entry, done, scales, pending, factor):
    """Fills entry, done and scales; returns log Z, or -inf where all has underflown."""
    K, W = durations.shape
    pending[:, : T + 1 + W] = 0.0
    factor[:] = 1.0
    scales[0] = 0.0
    for k in range(K):
        entry[0, k] = initial[k]
    for t in range(T + 1):
        now = np.uint64(t)
        if t > 0:
            scales[t] = scales[t - 1] + tops[t - 1]
            for k in range(K):
                factor[k] *= emission[t - 1, k]
                if factor[k] < SMALL:
                    _multiply(pending[k], now, factor[k], np.uint64(W))
                    factor[k] = 1.0
            if t % RESCALE == 0:
                mass = 0.0
                for k in range(K):
                    mass += factor[k] * _sum(pending[k], now, np.uint64(W))
                if not mass > 0.0:
                    return NONE
                for k in range(K):
                    _multiply(pending[k], now, factor[k] / mass, np.uint64(W))
                factor[:] = 1.0
                scales[t] += math.log(mass)
            for k in range(K):
                done[t, k] = pending[k, t] * factor[k]
            product(done[t], transition, entry[t], K)
        if t < T:
            for k in range(K):
                if entry[t, k] > 0.0:
                    _add(pending[k], now + np.uint64(1), durations[k], entry[t, k] / factor[k])
    whole = 0.0
    for k in range(K):
        whole += done[T, k] * final[k]
    return math.log(whole) + scales[T] if whole > 0.0 else NONE


@inner
def _backward(
    emission, tops, T, transposed, durations, final, entry, done, scales, log_z, ahead, space,
    counted, taken, lasted, posterior,
):  # fmt: skip
    """Posteriors; with `counted`, sums for the arcs and the durations. False where mass was lost on the way."""
    K, W = durations.shape
    factor, after, value, inside = space[0], space[1], space[2], space[3]
    ahead[:, : T + 1 + W] = 0.0
    taken[:], lasted[:] = 0.0, 0.0
    factor[:] = 1.0
    scale = 0.0
    worth = math.exp(scales[T] - log_z)  # of a product of a forward and a backward weight
    for k in range(K):
        ahead[k, T] = final[k]
        inside[k] = done[T, k] * final[k] * worth
    for t in range(T - 1, -1, -1):
        now = np.uint64(t + 1)
        scale += tops[t]
        for k in range(K):
            posterior[t, k] = max(inside[k], 0.0)
            factor[k] *= emission[t, k]
            if factor[k] < SMALL:
                _multiply(ahead[k], now, factor[k], np.uint64(W))
                factor[k] = 1.0
        if abs(_sum(inside, np.uint64(0), np.uint64(K)) - 1.0) > LOST:
            return False
        if t % RESCALE == 0:
            mass = 0.0
            for k in range(K):
                mass += factor[k] * _sum(ahead[k], now, np.uint64(W))
            if not mass > 0.0:
                return False
            for k in range(K):
                _multiply(ahead[k], now, factor[k] / mass, np.uint64(W))
            factor[:] = 1.0
            scale += math.log(mass)
        exponent = scales[t] + scale - log_z
        if exponent > FARTHEST:
            return False
        worth = math.exp(exponent)
        for k in range(K):
            value[k] = factor[k] * _dot(durations[k], ahead[k], now)  # of entering the state after frame t
            inside[k] -= entry[t, k] * worth * value[k]
            if counted and entry[t, k] > 0.0:
                _add_window(lasted[k], ahead[k], now, entry[t, k] * worth * factor[k])
        if t == 0:
            break
        product(value, transposed, after, K)
        for k in range(K):
            ahead[k, t] = after[k] / factor[k]
            share = done[t, k] * worth
            inside[k] += share * after[k]
            if counted and share > 0.0:
                _add(taken[k], np.uint64(0), value, share)
    return abs(_sum(inside, np.uint64(0), np.uint64(K))) < LOST
