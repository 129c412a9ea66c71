"""The best segmentation, left-to-right and dense, in float64: one addition and comparison per frame, state and duration.

C_n(t), the sum of state n's emissions up to frame t, turns the score of a segment into a difference: entering after frame t
offers  entry - C_n(t) + log dur(d)  to frame t + d, where C_n(t + d) is added. A tie takes the later beginning, then the
lower state.
"""

import numpy as np

from hmmtts.hmm.backends.cpu.compile import inner, kernel, row
from hmmtts.hmm.backends.cpu.left_to_right import DONE
from hmmtts.hmm.backends.cpu.semi_markov_left_to_right import check, limits, support
from hmmtts.hmm.backends.cpu.turns import turns

NONE = -np.inf


@row
def _offer(best, pointer, start, scores, value, count):
    for i in range(count):
        j = start + i
        v = value + scores[i]
        better = v >= best[j]
        best[j] = v if better else best[j]
        pointer[j] = np.int32(i + np.uint64(1)) if better else pointer[j]


@inner
def _cumulate(x, n, T, cumulated, until):
    """Sums of the finite scores, and the last frame that a segment can reach before an impossible one."""
    cumulated[0] = 0.0
    for t in range(T):
        cumulated[t + 1] = cumulated[t] + (x[t, n] if x[t, n] > NONE else 0.0)
    free = T
    for t in range(T - 1, -1, -1):
        if not x[t, n] > NONE:
            free = t
        until[t] = free


@kernel
def left_to_right(utterances, log_obs, durations, frames, states, path, score, status):
    longest, widest, D = frames.max(), states.max(), durations.shape[2]
    best, cumulated, until = (
        np.empty((2, longest + 1)),
        np.empty(longest + 1),
        np.empty(longest + 1, np.int64),
    )
    pointer, band = np.empty((widest, longest + 1), np.int32), np.empty((2, widest + 1), np.int64)
    for b in turns(utterances):
        T, S, x = frames[b], states[b], log_obs[b]
        path[b, :], score[b] = -1, NONE
        status[b] = check(x, T, S)
        if status[b] != DONE:
            continue
        limits(durations[b], T, S, band)
        before, after = best[0], best[1]
        before[0] = 0.0
        for n in range(S):
            _cumulate(x, n, T, cumulated, until)
            after[:] = NONE
            _, most = support(durations[b, n], D)
            for t in range(band[0, n], band[1, n] + 1):
                count = min(min(t + most, until[t]), band[1, n + 1]) - t if t < T else 0
                if before[t] > NONE and count > 0:
                    _offer(
                        after,
                        pointer[n],
                        np.uint64(t + 1),
                        durations[b, n],
                        before[t] - cumulated[t],
                        np.uint64(count),
                    )
            for t in range(band[0, n + 1], band[1, n + 1] + 1):
                after[t] += cumulated[t]
            before, after = after, before
        if before[T] == NONE:
            continue
        t, total = T, 0.0
        for n in range(S - 1, -1, -1):
            d = pointer[n, t]
            total += durations[b, n, d - 1]
            for u in range(t - d, t):
                path[b, u] = n
                total += x[u, n]
            t -= d
        score[b] = total


@kernel
def dense(utterances, log_obs, initial, transition, durations, final, frames, path, score, status):
    longest, (K, D) = frames.max(), durations.shape
    best, cumulated = np.empty((K, longest + 1)), np.empty((K, longest + 1))
    until, pointer = np.empty((K, longest + 1), np.int64), np.empty((K, longest + 1), np.int32)
    origin, ended = np.empty((longest + 1, K), np.int32), np.empty(K)
    for b in turns(utterances):
        T, x = frames[b], log_obs[b]
        path[b, :], score[b] = -1, NONE
        status[b] = check(x, T, K)
        if status[b] != DONE:
            continue
        for k in range(K):
            _cumulate(x, k, T, cumulated[k], until[k])
            best[k, :] = NONE
        for t in range(T):
            if t > 0:
                for k in range(K):
                    ended[k] = best[k, t] + cumulated[k, t]
            for k in range(K):
                value, origin[t, k] = initial[k], -1
                if t > 0:
                    value, origin[t, k] = ended[0] + transition[0, k], 0
                    for j in range(1, K):
                        offered = ended[j] + transition[j, k]
                        if offered > value:
                            value, origin[t, k] = offered, j
                count = min(D, until[k, t] - t)
                if value > NONE and count > 0:
                    _offer(
                        best[k],
                        pointer[k],
                        np.uint64(t + 1),
                        durations[k],
                        value - cumulated[k, t],
                        np.uint64(count),
                    )
        last = 0
        for k in range(K):
            ended[k] = best[k, T] + cumulated[k, T] + final[k]
            if ended[k] > ended[last]:
                last = k
        if ended[last] == NONE:
            continue
        t, k, total = T, last, final[last]
        while t > 0:
            d = pointer[k, t]
            total += durations[k, d - 1]
            for u in range(t - d, t):
                path[b, u] = k
                total += x[u, k]
            t -= d
            j = origin[t, k]
            total += transition[j, k] if t > 0 else initial[k]
            k = j
        score[b] = total
