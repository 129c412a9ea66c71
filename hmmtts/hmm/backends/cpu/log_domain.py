"""Left-to-right forward-backward in float64 logarithms: five times slower, for float64 input and for scores so large
that extended range would lose digits (beyond 1e5 nats in one cell, or 3e6 between two cells of a frame).
"""

import numpy as np

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, arcs_are_scores, band
from hmmtts.hmm.backends.cpu.turns import turns

NEVER = -np.inf


@inner
def _add(a, b):
    """log(e^a + e^b)"""
    top, low = max(a, b), min(a, b)
    return top if low == NEVER else top + np.log1p(np.exp(low - top))


@inner
def _arc(arcs, kind, t, n, per_frame):
    return np.float64(arcs[kind][t if per_frame else 0, n])


@kernel
def forward_backward(
    utterances,
    log_obs,
    stay,
    move,
    skip,
    per_frame,
    skips,
    frames,
    states,
    wanted,
    posterior,
    stays,
    moves,
    leaps,
    log_z,
    status,
):
    """The same contract as left_to_right.forward_backward."""
    kinds = 3 if skips else 2
    for b in turns(utterances):
        T, S, x = frames[b], states[b], log_obs[b]
        arcs, counts = (stay[b], move[b], skip[b]), (stays[b], moves[b], leaps[b])
        status[b] = DONE if arcs_are_scores(arcs, T, S, per_frame, skips) else BAD_VALUE
        for t in range(T):
            if not rows.finite(x[t], S):
                status[b] = BAD_VALUE
        if status[b] != DONE:
            continue
        if wanted > 0:
            posterior[b, :, :] = 0.0
        if wanted == 2:
            for i in range(kinds):
                counts[i][:, :] = 0.0
        alpha = np.full((T if wanted > 0 else 2, S), NEVER)
        log_z[b] = _forward(x, T, S, arcs, per_frame, kinds, alpha)
        if wanted > 0 and log_z[b] > NEVER:
            _backward(
                x,
                T,
                S,
                arcs,
                per_frame,
                kinds,
                alpha,
                np.empty((2, S + 2)),
                log_z[b],
                wanted == 2,
                posterior[b],
                counts,
            )


@inner
def _forward(x, T, S, arcs, per_frame, kinds, alpha):
    kept = alpha.shape[0]
    for t in range(T):
        lo, hi = band(t, T, S, kinds - 1)
        now, before = alpha[t % kept], alpha[(t - 1) % kept]
        now[:] = NEVER
        if t == 0:
            now[0] = x[0, 0]
            continue
        for n in range(lo, hi):
            stayed = before[n] + _arc(arcs, 0, t - 1, n, per_frame)
            moved = before[n - 1] + _arc(arcs, 1, t - 1, n - 1, per_frame) if n >= 1 else NEVER
            skipped = (
                before[n - 2] + _arc(arcs, 2, t - 1, n - 2, per_frame) if n >= 2 and kinds == 3 else NEVER
            )
            now[n] = x[t, n] + _add(_add(stayed, moved), skipped)
    return alpha[(T - 1) % kept, S - 1] + _arc(arcs, 1, T - 1, S - 1, per_frame)


@inner
def _backward(x, T, S, arcs, per_frame, kinds, alpha, space, log_z, count, posterior, counts):
    beta, after = space[0], space[1]  # after: emission and all that follows it
    space[:] = NEVER
    beta[S - 1] = _arc(arcs, 1, T - 1, S - 1, per_frame)
    if count:
        counts[1][T - 1 if per_frame else 0, S - 1] += 1.0
    for t in range(T - 1, -1, -1):
        total = 0.0
        for n in range(S):
            posterior[t, n] = np.exp(alpha[t, n] + beta[n] - log_z)
            total += posterior[t, n]
        for n in range(S):
            posterior[t, n] /= total
        if t == 0:
            return
        for n in range(S):
            after[n] = x[t, n] + beta[n]
        for n in range(S):
            stayed = _arc(arcs, 0, t - 1, n, per_frame) + after[n]
            moved = _arc(arcs, 1, t - 1, n, per_frame) + after[n + 1]
            skipped = _arc(arcs, 2, t - 1, n, per_frame) + after[n + 2] if kinds == 3 else NEVER
            beta[n] = _add(_add(stayed, moved), skipped)
            if count:
                place = t - 1 if per_frame else 0
                counts[0][place, n] += np.exp(alpha[t - 1, n] + stayed - log_z)
                counts[1][place, n] += np.exp(alpha[t - 1, n] + moved - log_z)
                if kinds == 3:
                    counts[2][place, n] += np.exp(alpha[t - 1, n] + skipped - log_z)
