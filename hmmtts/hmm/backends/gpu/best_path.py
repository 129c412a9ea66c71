# mypy: ignore-errors
"""The best path, left-to-right or dense: sums of float64, so that the score is exact whatever the length.

A forward kernel leaves pointers, a second one follows them back. Of equal scores the lower state is taken.
"""

import triton
import triton.language as tl

NONE = tl.constexpr(float("-inf"))


@triton.jit
def _arc(scores, b, t, longest, width, n, real, PER_FRAME: tl.constexpr):
    row = b * longest + t if PER_FRAME else b
    return tl.load(scores + row * width + n, mask=real, other=NONE).to(tl.float64)


@triton.jit
def _came(score, by: tl.constexpr, BLOCK: tl.constexpr):
    n = tl.arange(0, BLOCK) - by
    return tl.where(n >= 0, tl.gather(score, tl.maximum(n, 0), 0), NONE)


@triton.jit
def left_to_right(
    log_obs, stay, move, skip, frames, states, steps, score, last_state, longest, width,
    PER_FRAME: tl.constexpr, SKIPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """steps[b t n] (int8): how many states the best path into (t, n) came forward."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    T, S = tl.load(frames + b), tl.load(states + b)
    real = n < S
    start = b * longest * width + n
    best = tl.where(n == 0, tl.load(log_obs + start, mask=real, other=NONE).to(tl.float64), NONE)
    ahead = tl.load(log_obs + start + width, mask=real & (T > 1), other=NONE)
    stay_by = _arc(stay, b, 0, longest, width, n, real, PER_FRAME)
    move_by = _arc(move, b, 0, longest, width, n, real, PER_FRAME)
    if SKIPS:
        skip_by = _arc(skip, b, 0, longest, width, n, real, PER_FRAME)
    for t in range(1, T):
        x = ahead
        ahead = tl.load(log_obs + start + (t + 1) * width, mask=real & (t + 1 < T), other=NONE)
        if PER_FRAME:
            stay_by = _arc(stay, b, t - 1, longest, width, n, real, PER_FRAME)
            move_by = _arc(move, b, t - 1, longest, width, n, real, PER_FRAME)
        stayed, moved = best + stay_by, _came(best + move_by, 1, BLOCK)
        step = tl.where(moved >= stayed, 1, 0)
        top = tl.maximum(stayed, moved)
        if SKIPS:
            if PER_FRAME:
                skip_by = _arc(skip, b, t - 1, longest, width, n, real, PER_FRAME)
            skipped = _came(best + skip_by, 2, BLOCK)
            step = tl.where(skipped >= top, 2, step)
            top = tl.maximum(top, skipped)
        tl.store(steps + start + t * width, step.to(tl.int8), mask=real)
        best = top + x.to(tl.float64)
    end = best + _arc(move, b, T - 1, longest, width, n, real, PER_FRAME)
    tl.store(score + b + 0 * n, end, mask=n == S - 1)
    tl.store(last_state + b, S - 1)


@triton.jit
def dense(
    log_obs, initial, transition, final, frames, before, score, last_state, longest, k,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """before[b t k] (int32): the state from which the best path comes into (t, j)."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    T = tl.load(frames + b)
    real = j < k
    start = b * longest * k + j
    best = tl.load(initial + j, mask=real, other=NONE).to(tl.float64)
    best += tl.load(log_obs + start, mask=real, other=NONE).to(tl.float64)
    for t in range(1, T):
        x = tl.load(log_obs + start + t * k, mask=real, other=NONE).to(tl.float64)
        top, came = tl.full((BLOCK,), NONE, tl.float64), tl.zeros((BLOCK,), tl.int32)
        for first in range(0, k, ROWS):
            i = first + tl.arange(0, ROWS)
            arc = tl.load(
                transition + i[:, None] * k + j[None, :], mask=(i[:, None] < k) & real[None, :], other=NONE
            )
            terms = tl.gather(best, i, 0)[:, None] + arc.to(tl.float64)
            value, where = tl.max(terms, 0, return_indices=True, return_indices_tie_break_left=True)
            came = tl.where(value > top, first + where, came)
            top = tl.maximum(top, value)
        tl.store(before + start + t * k, came, mask=real)
        best = top + x
    best += tl.load(final + j, mask=real, other=NONE).to(tl.float64)
    value, where = tl.max(best, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(score + b, value)
    tl.store(last_state + b, where)


@triton.jit
def trace(pointers, score, last_state, frames, path, longest, width, STEPS: tl.constexpr):
    """path[b t], filled with -1 before; a path of weight zero stays so."""
    b = tl.program_id(0).to(tl.int64)
    T = tl.load(frames + b)
    state = tl.load(last_state + b)
    if tl.load(score + b) > NONE:
        for back in range(0, T):
            t = T - 1 - back
            tl.store(path + b * longest + t, state)
            if t > 0:
                pointer = tl.load(pointers + (b * longest + t) * width + state).to(tl.int64)
                state = state - pointer if STEPS else pointer
