"""Soft-DTW of one pair of sequences after another: the smoothed least cost, and the share of the paths in each cell.

Cuturi and Blondel 2017, "Soft-DTW: a differentiable loss function for time-series", algorithms 1 and 2. The band is
given as in warping.py.
"""

import math

import numpy as np

from hmmtts.hmm.backends.cpu.compile import compiled_once, inner, kernel
from hmmtts.hmm.backends.cpu.turns import queue_of, turns

NEVER = np.inf


@kernel
def soft_path(pairs, cost, gamma, frames, first, last, wanted, total, share):
    """`share` is the gradient of `total` by the costs, computed if `wanted`."""
    for b in turns(pairs):
        T, U, x = frames[b, 0], frames[b, 1], cost[b]
        arrival = np.full((T + 1, U + 1), NEVER)  # of cell (i, j) at (i + 1, j + 1)
        arrival[0, 0] = 0.0
        for i in range(T):
            for j in range(first[b, i], last[b, i]):
                least = _soft_minimum(arrival[i, j], arrival[i, j + 1], arrival[i + 1, j], gamma)
                arrival[i + 1, j + 1] = least + x[i, j]
            arrival[0, 0] = NEVER
        total[b] = arrival[T, U]
        if not wanted:
            continue
        share[b] = 0.0
        if total[b] == NEVER:
            continue
        share[b, T - 1, U - 1] = 1.0
        for i in range(T - 1, -1, -1):
            for j in range(last[b, i] - 1, first[b, i] - 1, -1):
                if share[b, i, j] > 0.0:
                    _pass_back(arrival, x, i, j, gamma, share[b])


@inner
def _soft_minimum(a, b, c, gamma):
    least = min(a, min(b, c))
    if least == NEVER:
        return NEVER
    return least - gamma * math.log(
        math.exp((least - a) / gamma) + math.exp((least - b) / gamma) + math.exp((least - c) / gamma)
    )


@inner
def _pass_back(arrival, cost, i, j, gamma, share):
    """The share of a cell goes to the cells before it, as much as each contributed to the soft minimum."""
    least = arrival[i + 1, j + 1] - cost[i, j]
    if i > 0 and j > 0:
        share[i - 1, j - 1] += share[i, j] * math.exp((least - arrival[i, j]) / gamma)
    if i > 0:
        share[i - 1, j] += share[i, j] * math.exp((least - arrival[i, j + 1]) / gamma)
    if j > 0:
        share[i, j - 1] += share[i, j] * math.exp((least - arrival[i + 1, j]) / gamma)


@compiled_once
def make_ready() -> None:
    """Call the kernel once, on the smallest input."""
    cost, one = np.zeros((1, 1, 1)), np.ones((1, 1), np.int64)
    frames = np.ones((1, 2), np.int64)
    queue, _ = queue_of(one[0], None)
    soft_path(queue, cost, 1.0, frames, one - 1, one, True, np.zeros(1), cost.copy())
