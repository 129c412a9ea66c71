"""Dynamic time warping: the best path and soft-DTW through the cells of one pair of sequences after another.

A cell of the symmetric patterns waits for its left neighbour, so a row cannot be computed at once; an anti-diagonal
can. Rows are taken in strips of WIDTH, whose costs are first laid out along the diagonals: then every step is a loop
over the lanes of one diagonal, and the strip below reads the last row of the one above.

The band is given as the columns first[i] <= j < last[i] of every row, both never falling.
"""

from functools import cache

import numpy as np

from hmmtts.hmm.backends.cpu.compile import inner, kernel, row, warm

WIDTH = 64
BLOCK = 32  # diagonals whose costs are laid out while they are in the nearest cache
DIAGONAL, DOWN, RIGHT = np.uint8(0), np.uint8(1), np.uint8(2)
SYMMETRIC1, SYMMETRIC2, ASYMMETRIC = 0, 1, 2
GIVEN, EUCLIDEAN, SQUARED, CITYBLOCK = 0, 1, 2, 3
NEVER = np.inf


@kernel
def best_path(pairs, cost, ref, hyp, metric, pattern, frames, first, last, ref_path, hyp_path, length, total):
    """Costs are given [b t u], or computed by the metric from ref [b t c] and hyp [b c u]; frames [b 2].

    A pair without a path has the cost inf and no length; of an empty side the cost is NaN.
    """
    for b in pairs:
        T, U = frames[b, 0], frames[b, 1]
        length[b], total[b] = 0, np.nan
        if T > 0 and U > 0:
            x, r, h, lo, hi = cost[b], ref[b], hyp[b], first[b], last[b]
            starts, edges = np.zeros(T + 1, np.int64), np.full((2, U + 2), NEVER)
            scratch = np.empty((0 if metric == GIVEN else WIDTH, U))
            if pattern == ASYMMETRIC:
                for i in range(T):
                    starts[i + 1] = starts[i] + hi[i] - lo[i]
                steps = np.ones(starts[T], np.uint8)
                total[b] = _rows(x, r, h, metric, T, U, lo, hi, scratch, edges, steps, starts)
                if total[b] < NEVER:
                    length[b] = _trace_rows(steps, starts, T, U, lo, ref_path[b], hyp_path[b])
            else:
                longest = _plan(T, lo, hi, starts)
                steps = np.empty(starts[-(-T // WIDTH)], np.uint8)
                costs, lanes = np.empty((longest, WIDTH)), np.empty((3, WIDTH + 1))
                double = pattern == SYMMETRIC2
                total[b] = _strips(
                    x, r, h, metric, double, T, U, lo, hi, scratch, edges, costs, lanes, steps, starts
                )
                if total[b] < NEVER:
                    length[b] = _trace(steps, starts, T, U, lo, ref_path[b], hyp_path[b])
        ref_path[b, length[b] :] = -1
        hyp_path[b, length[b] :] = -1


@inner
def _plan(T, first, last, starts):
    """Where the steps of each strip begin, and the most diagonals of a strip."""
    longest = 0
    for s in range(-(-T // WIDTH)):
        top, diagonals = s * WIDTH, 0
        for i in range(top, min(T, top + WIDTH)):
            diagonals = max(diagonals, last[i] - first[top] + i - top)
        longest = max(longest, diagonals)
        starts[s + 1] = starts[s] + diagonals * WIDTH
    return longest


@inner
def _strips(cost, ref, hyp, metric, double, T, U, first, last, scratch, edges, costs, lanes, steps, starts):
    """The symmetric patterns: from the left, from above or diagonally, the latter of weight 2 if `double`.

    `edges` holds the last row of the strip above and that of this one, column j at j + 1; `lanes` three diagonals,
    each after what the row above the strip has there.
    """
    above, below = edges[0], edges[1]
    for s in range(-(-T // WIDTH)):
        top, end = s * WIDTH, min(T, (s + 1) * WIDTH)
        base, diagonals, bottom = first[top], (starts[s + 1] - starts[s]) // WIDTH, end - top - 1
        if metric == GIVEN:
            _lay_out(cost[top:end], top, base, diagonals, first, last, costs)
        else:
            for i in range(top, end):
                _distances(ref[i], hyp, metric, first[i], last[i], scratch[i - top])
            _lay_out(scratch[: end - top], top, base, diagonals, first, last, costs)
        if s == 0:  # the first cell counts once, whatever the weight of the diagonal that leads there
            above[0] = -costs[0, 0] if double and costs[0, 0] < NEVER else 0.0
        lanes[:] = NEVER
        older, old, new = lanes[0], lanes[1], lanes[2]
        older[0], old[0] = above[base], above[base + 1]
        below[:] = NEVER
        for d in range(diagonals):
            place, j = starts[s] + d * WIDTH, base + d
            _diagonal(costs[d], older, old, new[1:], steps[place : place + WIDTH], double)
            new[0] = above[j + 2] if j + 1 < U else NEVER
            if 0 <= j - bottom < U:
                below[j - bottom + 1] = new[bottom + 1]
            older, old, new = old, new, older
        above, below = below, above
    return above[U]


@row
def _diagonal(cost, older, old, new, step, double):
    """Of equal costs the diagonal is taken, then the step from above."""
    for k in range(WIDTH):
        best, by = older[k] + (cost[k] if double else 0.0), DIAGONAL
        down, right = old[k], old[k + 1]
        by = DOWN if down < best else by
        best = down if down < best else best
        by = RIGHT if right < best else by
        best = right if right < best else best
        new[k] = best + cost[k]
        step[k] = by


@inner
def _lay_out(rows, top, base, diagonals, first, last, costs):
    """costs[d, k] is that of row top + k and column base + d - k; what no path may enter is inf."""
    for begin in range(0, diagonals, BLOCK):
        stop = min(diagonals, begin + BLOCK)
        costs[begin:stop] = NEVER
        for k in range(len(rows)):
            lo, hi = max(first[top + k], base + begin - k), min(last[top + k], base + stop - k)
            for j in range(lo, hi):
                costs[j - base + k, k] = rows[k, j]


@inner
def _distances(frame, others, metric, lo, hi, out):
    """From one frame to the frames lo to hi of the other side, which is [c u]."""
    _fill(out[lo:hi], 0.0)
    done = 0
    if metric == CITYBLOCK:
        for c in range(len(frame)):
            _add_absolute(frame[c], others[c, lo:hi], out[lo:hi])
        return
    while done + 4 <= len(frame):  # four at a time: fewer loads and stores
        x, y = frame[done:], others[done:]
        _add_squares(x, y[0, lo:hi], y[1, lo:hi], y[2, lo:hi], y[3, lo:hi], out[lo:hi])
        done += 4
    for c in range(done, len(frame)):
        _add_square(frame[c], others[c, lo:hi], out[lo:hi])
    if metric == EUCLIDEAN:
        _root(out[lo:hi])


@row
def _fill(out, value):
    for j in range(len(out)):
        out[j] = value


@row
def _add_squares(x, first, second, third, fourth, out):
    for j in range(len(out)):
        a, b, c, d = x[0] - first[j], x[1] - second[j], x[2] - third[j], x[3] - fourth[j]
        out[j] += (a * a + b * b) + (c * c + d * d)


@row
def _add_square(x, others, out):
    for j in range(len(out)):
        difference = x - others[j]
        out[j] += difference * difference


@row
def _add_absolute(x, others, out):
    for j in range(len(out)):
        out[j] += abs(x - others[j])


@row
def _root(out):
    for j in range(len(out)):
        out[j] = np.sqrt(out[j])


@inner
def _rows(cost, ref, hyp, metric, T, U, first, last, scratch, edges, steps, starts):
    """The asymmetric pattern: a row down and none, one or two columns to the right. Column j is at j + 2."""
    old, new = edges[0], edges[1]
    for i in range(T):
        lo, hi = first[i], last[i]
        costs = cost[i] if metric == GIVEN else scratch[0]
        if metric != GIVEN:
            _distances(ref[i], hyp, metric, lo, hi, costs)
        new[:] = NEVER
        if i == 0:
            new[2] = costs[0]
        else:
            _advance(costs[lo:hi], old[lo:], new[lo + 2 :], steps[starts[i] : starts[i + 1]])
        old, new = new, old
    return old[U + 1]


@row
def _advance(cost, old, new, step):
    for j in range(len(cost)):
        best, by = old[j + 1], np.uint8(1)
        stay, leap = old[j + 2], old[j]
        by = np.uint8(0) if stay < best else by
        best = stay if stay < best else best
        by = np.uint8(2) if leap < best else by
        best = leap if leap < best else best
        new[j] = best + cost[j]
        step[j] = by


@inner
def _trace(steps, starts, T, U, first, ref_path, hyp_path):
    """Follow the steps back from the end, then turn the path round."""
    i, j, n = T - 1, U - 1, 0
    while True:
        ref_path[n], hyp_path[n] = i, j
        n += 1
        if i == 0 and j == 0:
            break
        k = i % WIDTH
        step = steps[starts[i // WIDTH] + (j - first[i - k] + k) * WIDTH + k]
        i -= step != RIGHT
        j -= step != DOWN
    _reverse(ref_path, n)
    _reverse(hyp_path, n)
    return n


@inner
def _trace_rows(steps, starts, T, U, first, ref_path, hyp_path):
    j = U - 1
    for i in range(T - 1, -1, -1):
        ref_path[i], hyp_path[i] = i, j
        j -= np.int64(steps[starts[i] + j - first[i]])
    return T


@inner
def _reverse(x, n):
    for i in range(n // 2):
        x[i], x[n - 1 - i] = x[n - 1 - i], x[i]


@cache
def make_ready() -> None:
    """Compile the kernels unless that was done before, by whichever process."""
    warm(__name__, compile_all)


def compile_all() -> None:
    """Call the kernel once, on the smallest input."""
    cost, one, paths = np.zeros((1, 1, 1)), np.ones((1, 1), np.int64), np.zeros((2, 1, 1), np.int64)
    frames, length, total = np.ones((1, 2), np.int64), np.zeros(1, np.int64), np.zeros(1)
    best_path(one[0] - 1, cost, cost, cost, GIVEN, SYMMETRIC1, frames, one - 1, one, *paths, length, total)
