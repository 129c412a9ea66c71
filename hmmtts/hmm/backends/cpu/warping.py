"""Dynamic time warping: the best path through the cells of one pair of sequences after another.

A cell of the symmetric patterns waits for its left neighbour, so a row cannot be computed at once; an anti-diagonal
can. Rows are taken in strips, whose rows are the lanes of the diagonals: every step is a loop over the lanes, and the
strip below reads the last row of the one above.

The band is given as the columns first[i] <= j < last[i] of every row, both never falling.
"""

import numpy as np

from hmmtts.hmm.backends.cpu.compile import compiled_once, inner, kernel, reduction, row
from hmmtts.hmm.backends.cpu.turns import queue_of, turns

WIDTH = 32  # rows of a strip: more would be read from more places at once than a core can follow
DIAGONAL, DOWN, RIGHT = np.uint8(0), np.uint8(1), np.uint8(2)
SYMMETRIC1, SYMMETRIC2, ASYMMETRIC = 0, 1, 2
GIVEN, EUCLIDEAN, SQUARED, CITYBLOCK = 0, 1, 2, 3
NEVER = np.inf
REFUSED = -np.inf  # the cost of a pair that has NaN or -inf among its cells
INFINITE, MINUS_INFINITE = np.int64(0x7FF << 52), np.int64(-(1 << 52))  # as whole numbers; beyond both is NaN


@kernel
def best_path(pairs, cost, ref, hyp, metric, pattern, frames, first, last, ref_path, hyp_path, length, total):
    """Costs are given [b t u], or computed by the metric from ref [b t c] and hyp [b c u]; frames [b 2].

    A pair without a path has the cost inf and no length; that of an empty side is NaN.
    """
    lanes, costs = np.empty((3, WIDTH + 1)), np.empty(WIDTH)
    for b in turns(pairs):
        T, U = frames[b, 0], frames[b, 1]
        length[b], total[b] = 0, np.nan
        if T > 0 and U > 0:
            given = (cost[b].reshape(-1), cost.shape[2], ref[b], hyp[b], metric, np.empty(WIDTH * U))
            starts, edges = np.zeros(T + 1, np.int64), np.full((2, U + 2), NEVER)
            if pattern == ASYMMETRIC:
                for i in range(T):
                    starts[i + 1] = starts[i] + last[b, i] - first[b, i]
                steps = np.ones(starts[T], np.uint8)
                total[b] = _rows(given, T, U, first[b], last[b], edges, steps, starts)
                if abs(total[b]) < NEVER:
                    length[b] = _trace_rows(steps, starts, T, U, first[b], ref_path[b], hyp_path[b])
            else:
                _plan(T, first[b], last[b], starts)
                steps = np.empty(starts[-(-T // WIDTH)], np.uint8)
                space = edges, lanes, costs, costs.view(np.int64)
                total[b] = _strips(
                    given, pattern == SYMMETRIC2, T, U, first[b], last[b], space, steps, starts
                )
                if abs(total[b]) < NEVER:
                    length[b] = _trace(steps, starts, T, U, first[b], ref_path[b], hyp_path[b])
        ref_path[b, length[b] :] = -1
        hyp_path[b, length[b] :] = -1


@inner
def _plan(T, first, last, starts):
    """Where the steps of each strip begin."""
    for s in range(-(-T // WIDTH)):
        top, diagonals = s * WIDTH, 0
        for i in range(top, min(T, top + WIDTH)):
            diagonals = max(diagonals, last[i] - first[top] + i - top)
        starts[s + 1] = starts[s] + diagonals * WIDTH


@inner
def _strips(given, double, T, U, first, last, space, steps, starts):
    """The symmetric patterns: from the left, from above or diagonally, the latter of weight 2 if `double`.

    Lane k of diagonal d is row top + k and column base + d - k. `edges` holds the last row of the strip above and that
    of this one, column j at j + 1; `lanes` three diagonals, each after what the row above the strip has there.
    """
    edges, lanes, costs, bits = space
    above, below = edges[0], edges[1]
    for s in range(-(-T // WIDTH)):
        top, rows = s * WIDTH, min(WIDTH, T - s * WIDTH)
        base, bottom = first[top], rows - 1
        cells, width = _strip_costs(given, top, rows, U, first, last)
        older, old, new = lanes[0], lanes[1], lanes[2]
        _fill(older, NEVER)
        _fill(old, NEVER)
        older[0], old[0] = above[base], above[base + 1]
        _fill(below, NEVER)
        low, high = 0, 0  # lanes inside the band
        for d in range((starts[s + 1] - starts[s]) // WIDTH):
            j = base + d
            while low < rows and j - low >= last[top + low]:
                low += 1
            while high < rows and j - high >= first[top + high]:
                high += 1
            _take(cells, low * width + j - low, width - 1, low, high, costs)
            if _refused(bits):
                return REFUSED
            if (
                s == 0 and d == 0
            ):  # the first cell counts once, whatever the weight of the step that leads there
                older[0] = -costs[0] if double and costs[0] < NEVER else 0.0
            _diagonal(costs, older, old, new[1:], steps[starts[s] + d * WIDTH :], double)
            new[0] = above[j + 2] if j + 1 < U else NEVER
            if 0 <= j - bottom < U:
                below[j - bottom + 1] = new[bottom + 1]
            older, old, new = old, new, older
        above, below = below, above
    return above[U]


@inner
def _strip_costs(given, top, rows, U, first, last):
    """The costs of some rows, one row after another, and how far apart they are."""
    cost, width, ref, hyp, metric, scratch = given
    if metric == GIVEN:
        return cost[top * width :], width
    for k in range(rows):
        lo, hi = first[top + k], last[top + k]
        _distances(ref[top + k], hyp, metric, lo, hi, scratch[k * U + lo :])
    return scratch, U


@inner
def _take(cells, place, stride, low, high, costs):
    """One diagonal of cells: what lies outside the band is inf."""
    if low == 0 and high == WIDTH:
        _copy_all(cells[place:], stride, costs)
        return
    _fill(costs, NEVER)
    for k in range(low, high):
        costs[k] = cells[place + (k - low) * stride]


@row
def _copy_all(cells, stride, out):
    for k in range(WIDTH):
        out[k] = cells[k * stride]


@row
def _fill(out, value):
    for j in range(len(out)):
        out[j] = value


@reduction
def _refused(bits):
    """NaN or -inf, which fast arithmetic would not notice: told by their bits."""
    count = 0
    for j in range(len(bits)):
        count += (bits[j] > INFINITE) | ((bits[j] < 0) & (bits[j] >= MINUS_INFINITE))
    return count > 0


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
def _rows(given, T, U, first, last, edges, steps, starts):
    """The asymmetric pattern: a row down and none, one or two columns to the right. Column j is at j + 2."""
    old, new = edges[0], edges[1]
    for i in range(T):
        lo, hi = first[i], last[i]
        cells, _ = _strip_costs(given, i, 1, U, first, last)
        costs = cells[lo:hi]
        if _refused(costs.view(np.int64)):
            return REFUSED
        _fill(new, NEVER)
        if i == 0:
            new[2] = costs[0]
        else:
            _advance(costs, old[lo:], new[lo + 2 :], steps[starts[i] : starts[i + 1]])
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
def _distances(frame, others, metric, lo, hi, out):
    """From one frame to the frames lo to hi of the other side, which is [c u]."""
    out = out[: hi - lo]
    _fill(out, 0.0)
    if metric == CITYBLOCK:
        for c in range(len(frame)):
            _add_absolute(frame[c], others[c, lo:hi], out)
        return
    whole = len(frame) // 4 * 4
    for c in range(0, whole, 4):  # four at a time: fewer loads and stores
        y = others[c:]
        _add_squares(frame[c:], y[0, lo:hi], y[1, lo:hi], y[2, lo:hi], y[3, lo:hi], out)
    for c in range(whole, len(frame)):
        _add_square(frame[c], others[c, lo:hi], out)
    if metric == EUCLIDEAN:
        _root(out)


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


@compiled_once
def make_ready() -> None:
    """Call the kernel once, on the smallest input."""
    cost, one, paths = np.zeros((1, 1, 1)), np.ones((1, 1), np.int64), np.zeros((2, 1, 1), np.int64)
    frames, length, total = np.ones((1, 2), np.int64), np.zeros(1, np.int64), np.zeros(1)
    queue, _ = queue_of(one[0], None)
    best_path(queue, cost, cost, cost, GIVEN, SYMMETRIC1, frames, one - 1, one, *paths, length, total)
