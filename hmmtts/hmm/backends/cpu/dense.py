"""Dense forward-backward and Viterbi, one utterance after another, in float32 or float64.

Rows of alpha are scaled to sum to one (Rabiner 1989, section V.A). A cell that underflows is lost, which is harmless
unless the future needs just that cell. The backward pass tells: of a frame whose row had the sum `mass` before it was
scaled, a lost cell was at most TINY / mass; with beta scaled so that sum(alpha beta) = 1, its part of Z was at most
TINY / mass * beta. Where that bound is not small (forbidden arcs, forced ends), the utterance is done again in the log
domain.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from hmmtts.hmm.backends.cpu import cells, doubles, rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, row
from hmmtts.hmm.backends.cpu.lanes import (
    WIDTH,
    largest,
    load,
    load_until,
    magnitude,
    multiply_add,
    packed,
    spread,
    store,
    store_until,
    top,
    total,
)
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, OUT_OF_RANGE
from hmmtts.hmm.backends.cpu.product import product
from hmmtts.hmm.backends.cpu.product import rows as rows_of
from hmmtts.hmm.backends.cpu.turns import turns

NONE = -np.inf
ZERO, BLOCK = np.uint64(0), np.uint64(WIDTH)


def _exp(x):
    """Of lanes."""


@overload(_exp, jit_options={"forceinline": True, "_nrt": False})
def _exp_of_either(x):
    if x.dtype == types.float32:
        return lambda x: cells.exp(x)
    return lambda x: doubles.exp(x)


@inner
def _emissions(x, end, out):
    """out = exp(x - top), zeros behind. Returns the top, and whether all scores are finite."""
    highest, worst = spread(x.dtype.type(NONE)), magnitude(spread(x.dtype.type(0.0)))
    for n in range(ZERO, end, BLOCK):
        highest = largest(highest, load_until(x, n, end, NONE))
        worst = largest(worst, magnitude(load_until(x, n, end, 0.0)))
    shift = top(highest)
    for n in range(ZERO, end, BLOCK):
        store(out, n, _exp(load_until(x, n, end, NONE) - shift))
    return shift, packed(worst >= magnitude(spread(x.dtype.type(NONE)))) == 0


@inner
def _multiply(a, b):
    """In place; returns the sum."""
    sums = spread(a.dtype.type(0.0))
    for n in range(ZERO, np.uint64(a.shape[0]), BLOCK):
        product = load(a, n) * load(b, n)
        store(a, n, product)
        sums = sums + product
    return total(sums)


@inner
def _dot(a, b):
    sums = spread(a.dtype.type(0.0))
    for n in range(ZERO, np.uint64(a.shape[0]), BLOCK):
        sums = multiply_add(load(a, n), load(b, n), sums)
    return total(sums)


@inner
def _scale(a, scale, out):
    for n in range(ZERO, np.uint64(a.shape[0]), BLOCK):
        store(out, n, load(a, n) * scale)


@inner
def _share(a, beta, scale, emission, gamma, weighted):
    """The posterior, and what beta is worth before the frame is heard. Returns the largest beta."""
    end, highest = np.uint64(gamma.shape[0]), spread(a.dtype.type(0.0))
    for n in range(ZERO, np.uint64(a.shape[0]), BLOCK):
        after = load(beta, n) * scale
        highest = largest(highest, after)
        store_until(gamma, n, end, load(a, n) * after)
        store(weighted, n, load(emission, n) * after)
    return top(highest)


@kernel
def forward_backward(
    utterances,
    log_obs,
    initial,
    transition,
    final,
    transposed,
    frames,
    wanted,
    lost,
    posterior,
    at_start,
    arcs,
    at_end,
    log_z,
    status,
):
    """initial[w], transition[k w], final[w], transposed[k w]: probabilities, padded with zeros to whole vectors.

    wanted: 0 log Z only, 1 and posteriors, 2 and expected counts at_start[b k], arcs[b k k], at_end[b k].
    `lost`: the largest part of Z that underflow may have cost before the log domain is asked, over TINY.
    """
    k, w = log_obs.shape[2], transition.shape[1]
    longest = frames.max()
    kept = longest if wanted > 0 else 2
    alpha, emission, space = rows_of(kept, w, log_obs), rows_of(kept, w, log_obs), rows_of(2, w, log_obs)
    taken = rows_of(k if wanted == 2 else 0, w, log_obs)
    masses = np.empty(longest)
    for b in turns(utterances):
        status[b], log_z[b] = _forward(
            log_obs[b], frames[b], initial, transition, final, lost, alpha, emission, masses
        )
        if status[b] != DONE or wanted == 0:
            continue
        gamma = posterior[b]
        gamma[frames[b] :] = 0.0
        if log_z[b] == NONE:
            # Either no path has weight, or underflow hid it.
            status[b] = OUT_OF_RANGE
            continue
        if not _backward(
            frames[b], transposed, final, lost, alpha, emission, masses, wanted == 2, space, gamma
        ):
            status[b] = OUT_OF_RANGE
            continue
        if wanted == 2:
            _count(frames[b], transition, alpha, emission, taken)
            arcs[b] = taken[:, :k]
            at_start[b], at_end[b] = gamma[0], gamma[frames[b] - 1]


@inner
def _forward(x, frames, initial, transition, final, lost, alpha, emission, masses):
    """Fills alpha and emission (scaled) and masses; returns what became of it, and log Z."""
    k, kept = x.shape[1], alpha.shape[0]
    log_z, scale = 0.0, 1.0
    for t in range(frames):
        a, e = alpha[t if kept > 2 else t & 1], emission[t if kept > 2 else t & 1]
        shift, finite = _emissions(x[t], np.uint64(k), e)
        if not finite and not rows.finite(x[t], k):
            return BAD_VALUE, NONE
        if shift == NONE:
            return OUT_OF_RANGE, NONE
        if t == 0:
            _scale(initial, a.dtype.type(1.0), a)
        else:
            product(alpha[t - 1 if kept > 2 else (t - 1) & 1], transition, a, k)
        mass = _multiply(a, e)
        if not np.float64(mass) * lost > 1.0:
            return OUT_OF_RANGE, NONE
        masses[t] = mass
        inverse = a.dtype.type(1.0) / mass
        _scale(a, inverse, a)
        log_z += np.float64(shift)
        scale /= np.float64(inverse)  # what was divided by, to the last digit
        if scale < 1e-15 or scale > 1e15:  # the next mass may be as small as 1 / lost
            log_z += math.log(scale)
            scale = 1.0
    mass = _dot(alpha[frames - 1 if kept > 2 else (frames - 1) & 1], final)
    if not np.float64(mass) * lost > 1.0:
        return OUT_OF_RANGE, NONE
    return DONE, log_z + math.log(scale) + math.log(np.float64(mass))


@inner
def _backward(frames, transposed, final, lost, alpha, emission, masses, count, space, gamma):
    """Posteriors; with `count`, emission[t] becomes what an arc into each state at t is worth. False: Z may lack a part."""
    k = gamma.shape[1]
    beta, weighted = space[0], space[1]
    _scale(final, beta.dtype.type(1.0), beta)
    for t in range(frames - 1, -1, -1):
        mass = _dot(alpha[t], beta)
        if not np.float64(mass) * lost > 1.0:
            return False
        scale = beta.dtype.type(1.0) / mass
        if count and t + 1 < frames:
            _scale(weighted, scale, emission[t + 1])
        highest = _share(alpha[t], beta, scale, emission[t], gamma[t], weighted)
        if not np.float64(highest) < lost * masses[t]:
            return False
        if t > 0:
            product(weighted, transposed, beta, k)
    return True


@inner
def _count(frames, transition, alpha, emission, taken):
    """taken[i, j] = transition[i, j] * sum_t alpha_t(i) worth_{t+1}(j)"""
    k, i = taken.shape[0], 0
    while i + 4 <= k:
        for j in range(ZERO, np.uint64(taken.shape[1]), BLOCK):
            _count_four(frames, transition, alpha, emission, taken, i, j)
        i += 4
    for rest in range(i, k):
        for j in range(ZERO, np.uint64(taken.shape[1]), BLOCK):
            sums = spread(taken.dtype.type(0.0))
            for t in range(1, frames):
                sums = multiply_add(spread(alpha[t - 1, rest]), load(emission[t], j), sums)
            store(taken[rest], j, sums * load(transition[rest], j))


@inner
def _count_four(frames, transition, alpha, emission, taken, i, j):
    zero = spread(taken.dtype.type(0.0))
    a, b, c, d = zero, zero, zero, zero
    for t in range(1, frames):
        worth, before = load(emission[t], j), alpha[t - 1]
        a = multiply_add(spread(before[i]), worth, a)
        b = multiply_add(spread(before[i + 1]), worth, b)
        c = multiply_add(spread(before[i + 2]), worth, c)
        d = multiply_add(spread(before[i + 3]), worth, d)
    store(taken[i], j, a * load(transition[i], j))
    store(taken[i + 1], j, b * load(transition[i + 1], j))
    store(taken[i + 2], j, c * load(transition[i + 2], j))
    store(taken[i + 3], j, d * load(transition[i + 3], j))


@kernel
def log_domain(
    utterances,
    log_obs,
    initial,
    transition,
    final,
    frames,
    wanted,
    posterior,
    at_start,
    arcs,
    at_end,
    log_z,
    status,
):
    """The same for log-probabilities, in float64 logarithms: slow and never wrong."""
    k = log_obs.shape[2]
    for b in turns(utterances):
        T = frames[b]
        status[b] = DONE
        for t in range(T):
            if not rows.finite(log_obs[b, t], k):
                status[b] = BAD_VALUE
        if status[b] != DONE:
            continue
        alpha, beta, terms = np.empty((T, k)), np.empty((T, k)), np.empty(k)
        for t in range(T):
            for j in range(k):
                if t == 0:
                    alpha[0, j] = np.float64(initial[j]) + log_obs[b, 0, j]
                    continue
                for i in range(k):
                    terms[i] = alpha[t - 1, i] + transition[i, j]
                alpha[t, j] = _log_sum(terms) + log_obs[b, t, j]
        for j in range(k):
            terms[j] = alpha[T - 1, j] + final[j]
        log_z[b] = _log_sum(terms)
        if wanted == 0:
            continue
        posterior[b] = 0.0
        if wanted == 2:
            at_start[b], arcs[b], at_end[b] = 0.0, 0.0, 0.0
        if log_z[b] == NONE:
            continue
        beta[T - 1] = final[:k]
        for t in range(T - 2, -1, -1):
            for i in range(k):
                for j in range(k):
                    terms[j] = beta[t + 1, j] + transition[i, j] + log_obs[b, t + 1, j]
                beta[t, i] = _log_sum(terms)
        for t in range(T):
            for i in range(k):
                posterior[b, t, i] = np.exp(alpha[t, i] + beta[t, i] - log_z[b])
        if wanted == 2:
            at_start[b], at_end[b] = posterior[b, 0], posterior[b, T - 1]
            for t in range(1, T):
                for i in range(k):
                    for j in range(k):
                        arcs[b, i, j] += np.exp(
                            alpha[t - 1, i] + transition[i, j] + log_obs[b, t, j] + beta[t, j] - log_z[b]
                        )


@inner
def _log_sum(x):
    top = NONE
    for i in range(x.shape[0]):
        top = max(top, x[i])
    if top == NONE:
        return NONE
    total = 0.0
    for i in range(x.shape[0]):
        total += np.exp(x[i] - top)
    return top + np.log(total)


@row
def _take_better(best, pointer, arcs, score, i):
    for j in range(best.shape[0]):
        value = score + arcs[j]
        better = value > best[j]  # of equal scores the lower state, which came first
        best[j] = value if better else best[j]
        pointer[j] = i if better else pointer[j]


@row
def _add_to(best, x):
    for j in range(best.shape[0]):
        best[j] += x[j]


@row
def _minus(x, value):
    for j in range(x.shape[0]):
        x[j] -= value


@kernel
def viterbi(utterances, log_obs, initial, transition, final, frames, path, score, status):
    """initial[k], transition[k k], final[k] as log-probabilities in the dtype of the emissions."""
    k = log_obs.shape[2]
    longest = frames.max()
    pointers = np.empty((longest, k), np.int32)
    d, n = np.empty(k, log_obs.dtype), np.empty(k, log_obs.dtype)
    for b in turns(utterances):
        T, x = frames[b], log_obs[b]
        path[b, :] = -1
        score[b], status[b] = NONE, DONE
        for t in range(T):
            if not rows.finite(x[t], k):
                status[b] = BAD_VALUE
        if status[b] != DONE:
            continue
        for j in range(k):
            d[j] = initial[j] + x[0, j]
        for t in range(1, T):
            n[:] = NONE
            pointers[t] = 0
            for i in range(k):
                _take_better(n, pointers[t], transition[i], d[i], np.int32(i))
            _add_to(n, x[t])
            if t % 16 == 15:
                top = rows.most(n)
                if top > NONE:
                    _minus(n, top)
            d, n = n, d
        last = 0
        for j in range(k):
            d[j] += final[j]
            if d[j] > d[last]:
                last = j
        if d[last] == NONE:
            continue
        total, s = np.float64(final[last]), last
        for t in range(T - 1, -1, -1):
            path[b, t] = s
            before = pointers[t, s] if t > 0 else -1
            total += np.float64(x[t, s]) + (
                np.float64(transition[before, s]) if t > 0 else np.float64(initial[s])
            )
            s = before
        score[b] = total
