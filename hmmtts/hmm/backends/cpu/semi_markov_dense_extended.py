"""Dense semi-Markov models in extended range (see extended.py): what scaling has lost, at three times the cost.

The future of an utterance is the past of the same one read backwards, by the transposed arcs: one recursion does both.
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu.compile import inner, kernel
from hmmtts.hmm.backends.cpu.extended import NEVER, add_multiple, add_shares, normalised, power_of_two
from hmmtts.hmm.backends.cpu.left_to_right import DONE
from hmmtts.hmm.backends.cpu.semi_markov_left_to_right import check, clear, segment_cells, split
from hmmtts.hmm.backends.cpu.turns import turns

LN_2 = math.log(2.0)
NONE = -np.inf
ZERO = np.uint64(0)


@kernel
def forward_backward(
    utterances, log_obs, initial, transition, durations, final, frames, counted,
    posterior, at_start, arcs, lasting, at_end, log_z, status,
):  # fmt: skip
    """Log-probabilities; the same results as semi_markov_dense.forward_backward."""
    longest, (K, D) = frames.max(), durations.shape
    n = longest + 1
    begin, end, spare = np.empty((4, K)), np.empty((4, K)), np.empty((4, K))
    onward, backward, weights = np.empty((4, K, K)), np.empty((4, K, K)), np.empty((K, 4, D))
    split(initial, begin)
    split(final, end)
    for k in range(K):
        split(durations[k], weights[k])
        split(transition[k], spare)
        for j in range(K):
            onward[0, k, j], onward[1, k, j] = spare[0, j], spare[1, j]
            backward[0, j, k], backward[1, j, k] = spare[0, j], spare[1, j]
    cells, reach, space = np.empty((K, 8, n)), np.empty((K, 2, n), np.int64), np.empty((2, K, n))
    turned, turned_reach = np.empty((K, 4, n)), np.empty((K, n), np.int64)
    past, future = np.empty((4, n, K)), np.empty((4, n, K))  # entered m e, ended m e
    for b in turns(utterances):
        T, x = frames[b], log_obs[b]
        status[b] = check(x, T, K)
        if status[b] != DONE:
            continue
        posterior[b, :, :] = 0.0
        if counted:
            at_start[b], arcs[b], lasting[b], at_end[b] = 0.0, 0.0, 0.0, 0.0
        for k in range(K):
            segment_cells(x, k, T, cells[k], reach[k])
            for t in range(T + 1):
                for part in range(4):  # growth and its inverse change places
                    turned[k, part, t] = cells[k, (part + 2) % 4, T - t]
                turned_reach[k, t] = T - reach[k, 1, T - t]
        _sweep(T, begin, onward, weights, cells, reach[:, 0], past, space)
        zm, ze = _total(past[2, T], past[3, T], end)
        log_z[b] = math.log(zm) + ze * LN_2 if zm > 0.0 else NONE
        if zm > 0.0:
            _sweep(T, end, backward, weights, turned, turned_reach, future, space)
            _posteriors(T, past, future, 1.0 / zm, -ze, posterior[b])
            if counted:
                for k in range(K):
                    at_start[b, k], at_end[b, k] = posterior[b, 0, k], posterior[b, T - 1, k]
                _count(
                    T, past, future, 1.0 / zm, -ze, onward, weights, cells, reach, space, arcs[b], lasting[b]
                )


@inner
def _sweep(T, initial, transition, weights, cells, reach, out, space):
    """What has entered and what has ended each state after 0 to T frames; nothing enters after the last."""
    K, D = weights.shape[0], weights.shape[2]
    m, e = space[0], space[1]
    for k in range(K):
        clear(m[k], e[k], 0, T)
        out[0, 0, k], out[1, 0, k] = initial[0, k], initial[1, k]
    for t in range(T + 1):
        if t > 0:
            clear(out[0, t], out[1, t], 0, K - 1)
            for k in range(K):
                v, w = normalised(m[k, t] * cells[k, 0, t], e[k, t] + cells[k, 1, t])
                out[2, t, k], out[3, t, k] = v, w
                if v > 0.0:
                    add_multiple(
                        out[0, t],
                        out[1, t],
                        ZERO,
                        transition[0, k],
                        transition[1, k],
                        ZERO,
                        v,
                        w,
                        np.uint64(K),
                    )
        for k in range(K):
            v, w = normalised(out[0, t, k], out[1, t, k])
            count = min(D, reach[k, t] - t)
            if v > 0.0 and count > 0:
                add_multiple(m[k], e[k], np.uint64(t + 1), weights[k, 0], weights[k, 1], ZERO,
                             v * cells[k, 2, t], w + cells[k, 3, t], np.uint64(count))  # fmt: skip


@inner
def _total(m, e, weights):
    zm, ze = 0.0, NEVER
    for k in range(m.shape[0]):
        vm, ve = m[k] * weights[0, k], e[k] + weights[1, k]
        top = max(ze, ve)
        zm, ze = zm * power_of_two(ze - top) + vm * power_of_two(ve - top), top
    return normalised(zm, ze)


@inner
def _share(am, ae, bm, be, scale, scale_e):
    return am * bm * scale * power_of_two(ae + be + scale_e)


@inner
def _posteriors(T, past, future, scale, scale_e, posterior):
    """Who is in a state at a frame has entered it before the frame, and did not leave it before."""
    for k in range(past.shape[2]):
        inside = 0.0
        for t in range(T):
            s = T - t
            inside += _share(past[0, t, k], past[1, t, k], future[2, s, k], future[3, s, k], scale, scale_e)
            if t > 0:
                inside -= _share(
                    past[2, t, k], past[3, t, k], future[0, s, k], future[1, s, k], scale, scale_e
                )
            posterior[t, k] = max(inside, 0.0)


@inner
def _count(T, past, future, scale, scale_e, onward, weights, cells, reach, space, arcs, lasting):
    K, D = weights.shape[0], weights.shape[2]
    vm, ve = space[0, 0], space[1, 0]
    for t in range(1, T):
        for k in range(K):
            if past[2, t, k] > 0.0:
                add_shares(arcs[k], onward[0, k], onward[1, k], future[2, T - t], future[3, T - t], ZERO, ZERO,
                           past[2, t, k] * scale, past[3, t, k] + scale_e, np.uint64(K))  # fmt: skip
    for k in range(K):
        for t in range(T + 1):
            vm[t], ve[t] = normalised(
                future[0, T - t, k] * cells[k, 0, t], future[1, T - t, k] + cells[k, 1, t]
            )
        for t in range(T):
            count = min(D, reach[k, 0, t] - t)
            if past[0, t, k] > 0.0 and count > 0:
                add_shares(lasting[k], weights[k, 0], weights[k, 1], vm, ve, np.uint64(t + 1), ZERO,
                           past[0, t, k] * cells[k, 2, t] * scale, past[1, t, k] + cells[k, 3, t] + scale_e,
                           np.uint64(count))  # fmt: skip
