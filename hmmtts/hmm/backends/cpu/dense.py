"""Dense forward-backward and Viterbi, one utterance after another, in float32 or float64.

Rows of alpha are scaled to sum to one (Rabiner 1989, section V.A). A cell that underflows is lost, which is harmless
unless the future needs just that cell. The backward pass tells: with beta scaled so that sum(alpha beta) = 1, a lost
cell was worth at most TINY * beta. Where that bound is not small (forbidden arcs, forced ends), the utterance is done
again in the log domain.
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, reduction, row
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, OUT_OF_RANGE
from hmmtts.hmm.backends.cpu.product import product

NONE = -np.inf


@reduction
def _add_four(a, r0, r1, r2, r3, w0, w1, w2, w3):
    for j in range(a.shape[0]):
        a[j] += w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]


@reduction
def _add_one(a, r, w):
    for j in range(a.shape[0]):
        a[j] += w * r[j]


@reduction
def _multiply_sum(a, b):
    s = a.dtype.type(0.0)
    for j in range(a.shape[0]):
        v = a[j] * b[j]
        a[j] = v
        s += v
    return s


@reduction
def _dot(a, b):
    s = a.dtype.type(0.0)
    for j in range(a.shape[0]):
        s += a[j] * b[j]
    return s


@reduction
def _best(x):
    top = x[0]
    for j in range(1, x.shape[0]):
        top = max(top, x[j])
    return top


@row
def _scaled_product(a, b, scale, out):
    for j in range(out.shape[0]):
        out[j] = a[j] * b[j] * scale


@row
def _scale(a, scale, out):
    for j in range(out.shape[0]):
        out[j] = a[j] * scale


@row
def _exp32(x, top, out):
    for j in range(x.shape[0]):
        out[j] = rows.exp(x[j] - top)


@inner
def _exp(x, top, out):
    """exp(x - top) into the first cells of `out`; its padding is zero."""
    if out.itemsize == 4:
        _exp32(x, top, out[: x.shape[0]])
    else:
        for j in range(x.shape[0]):
            out[j] = np.exp(x[j] - top)
    out[x.shape[0] :] = 0.0


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
    `lost`: the largest part of Z that underflow may have cost before the log domain is asked.
    """
    k, w = log_obs.shape[2], transition.shape[1]
    longest = 0
    for b in utterances:
        longest = max(longest, frames[b])
    dtype = log_obs.dtype
    alpha, emission = (
        np.empty((longest if wanted > 0 else 2, w), dtype),
        np.empty((longest if wanted > 0 else 2, w), dtype),
    )
    space = np.empty((2, w), dtype)
    taken = np.empty((k if wanted == 2 else 0, w), dtype)
    for b in utterances:
        status[b], log_z[b] = _forward(log_obs[b], frames[b], initial, transition, final, alpha, emission)
        if status[b] != DONE or wanted == 0:
            continue
        gamma = posterior[b]
        gamma[frames[b] :] = 0.0
        if log_z[b] == NONE:
            # Either no path has weight, or underflow hid it.
            status[b] = OUT_OF_RANGE
            continue
        if not _backward(frames[b], transposed, final, alpha, emission, wanted == 2, lost, space, gamma):
            status[b] = OUT_OF_RANGE
            continue
        if wanted == 2:
            _count(frames[b], transition, alpha, emission, taken)
            arcs[b] = taken[:, :k]
            at_start[b], at_end[b] = gamma[0], gamma[frames[b] - 1]


@inner
def _forward(x, frames, initial, transition, final, alpha, emission):
    """Fills alpha and emission (scaled); returns what became of it, and log Z."""
    k, kept = x.shape[1], alpha.shape[0]
    log_z, scale = 0.0, 1.0
    for t in range(frames):
        if not rows.finite(x[t], k):
            return BAD_VALUE, NONE
        a, e = alpha[t if kept > 2 else t & 1], emission[t if kept > 2 else t & 1]
        top = _best(x[t])
        if top == NONE:
            return OUT_OF_RANGE, NONE
        _exp(x[t], top, e)
        if t == 0:
            _scale(initial, a.dtype.type(1.0), a)
        else:
            product(alpha[t - 1 if kept > 2 else (t - 1) & 1], transition, a, k)
        mass = _multiply_sum(a, e)
        if not mass > 0.0:
            return OUT_OF_RANGE, NONE
        inverse = a.dtype.type(1.0) / mass
        _scale(a, inverse, a)
        log_z += np.float64(top)
        scale /= np.float64(inverse)  # what was divided by, to the last digit
        if scale < 1e-200 or scale > 1e200:
            log_z += math.log(scale)
            scale = 1.0
    mass = _dot(alpha[frames - 1 if kept > 2 else (frames - 1) & 1], final)
    if not mass > 0.0:
        return OUT_OF_RANGE, NONE
    return DONE, log_z + math.log(scale) + math.log(np.float64(mass))


@inner
def _backward(frames, transposed, final, alpha, emission, count, lost, space, gamma):
    """Posteriors; with `count`, emission[t] becomes what an arc into each state at t is worth. False: mass was lost."""
    k = gamma.shape[1]
    beta, weighted = space[0], space[1]
    _scale(final, beta.dtype.type(1.0), beta)
    largest = 0.0
    for t in range(frames - 1, -1, -1):
        a = alpha[t]
        scale = a.dtype.type(1.0) / _dot(a, beta)
        _scaled_product(a[:k], beta[:k], scale, gamma[t])
        largest = max(largest, np.float64(_best(beta)) * np.float64(scale))
        if t == 0:
            break
        _scaled_product(emission[t], beta, scale, weighted)
        product(weighted, transposed, beta, k)
        if count:
            _scale(weighted, a.dtype.type(1.0) / _dot(alpha[t - 1], beta), emission[t])
    return largest < lost


@inner
def _count(frames, transition, alpha, emission, taken):
    """taken[i, j] = transition[i, j] * sum_t alpha_t(i) worth_{t+1}(j)"""
    k = taken.shape[0]
    taken[:] = 0.0
    t = 1
    while t + 4 <= frames:
        for i in range(k):
            _add_four(
                taken[i], emission[t], emission[t + 1], emission[t + 2], emission[t + 3],
                alpha[t - 1, i], alpha[t, i], alpha[t + 1, i], alpha[t + 2, i],
            )  # fmt: skip
        t += 4
    while t < frames:
        for i in range(k):
            _add_one(taken[i], emission[t], alpha[t - 1, i])
        t += 1
    for i in range(k):
        _scaled_product(taken[i], transition[i], taken.dtype.type(1.0), taken[i])


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
    for b in utterances:
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
    longest = 0
    for b in utterances:
        longest = max(longest, frames[b])
    pointers = np.empty((longest, k), np.int32)
    d, n = np.empty(k, log_obs.dtype), np.empty(k, log_obs.dtype)
    for b in utterances:
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
                top = _best(n)
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
