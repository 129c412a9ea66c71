# mypy: ignore-errors
"""Left-to-right forward-backward, one program per utterance, its states side by side, frame after frame.

Letters: b utterances, t frames, n states. Arcs are [b, n] or (PER_FRAME) [b, t, n]; BLOCK is a power of two of at
least n. Rows are loaded one frame ahead of their use, since the recursion itself waits for nothing else.
"""

import triton
import triton.language as tl

from hmmtts.hmm.backends.gpu.cells import add, from_score, normal, power, scale, shifted


@triton.jit
def _arc(scores, b, t, longest, width, n, real, PER_FRAME: tl.constexpr):
    row = b * longest + t if PER_FRAME else b
    return from_score(tl.load(scores + row * width + n, mask=real, other=float("-inf")))


@triton.jit
def forward(
    log_obs, stay, move, skip, frames, states,
    alpha_m, alpha_e, z_m, z_e, longest, width,
    PER_FRAME: tl.constexpr, SKIPS: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Z as a cell in (z_m, z_e)[b]; with KEEP the cells of alpha [b t n]."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    T, S = tl.load(frames + b), tl.load(states + b)
    real = n < S
    start = b * longest * width + n
    x = tl.load(log_obs + start, mask=real, other=float("-inf"))
    m, e = from_score(tl.where(n == 0, x, float("-inf")))
    ahead = tl.load(log_obs + start + width, mask=real & (T > 1), other=float("-inf"))
    if not PER_FRAME:
        stay_m, stay_e = _arc(stay, b, 0, longest, width, n, real, PER_FRAME)
        move_m, move_e = _arc(move, b, 0, longest, width, n, real, PER_FRAME)
        if SKIPS:
            skip_m, skip_e = _arc(skip, b, 0, longest, width, n, real, PER_FRAME)
    for t in range(1, T):
        x = ahead
        ahead = tl.load(log_obs + start + (t + 1) * width, mask=real & (t + 1 < T), other=float("-inf"))
        if KEEP:
            tl.store(alpha_m + start + (t - 1) * width, m, mask=real)
            tl.store(alpha_e + start + (t - 1) * width, e, mask=real)
        if PER_FRAME:
            stay_m, stay_e = _arc(stay, b, t - 1, longest, width, n, real, PER_FRAME)
            move_m, move_e = _arc(move, b, t - 1, longest, width, n, real, PER_FRAME)
        moved_m, moved_e = shifted(m * move_m, e + move_e, 1, BLOCK)
        sum_m, sum_e = add(m * stay_m, e + stay_e, moved_m, moved_e)
        if SKIPS:
            if PER_FRAME:
                skip_m, skip_e = _arc(skip, b, t - 1, longest, width, n, real, PER_FRAME)
            skipped_m, skipped_e = shifted(m * skip_m, e + skip_e, 2, BLOCK)
            sum_m, sum_e = add(sum_m, sum_e, skipped_m, skipped_e)
        x_m, x_e = from_score(x)
        m, e = normal(sum_m * x_m, sum_e + x_e)
    if KEEP:
        tl.store(alpha_m + start + (T - 1) * width, m, mask=real)
        tl.store(alpha_e + start + (T - 1) * width, e, mask=real)
    end_m, end_e = _arc(move, b, T - 1, longest, width, n, real, PER_FRAME)
    last = n == S - 1
    tl.store(z_m + b + 0 * n, m * end_m, mask=last)
    tl.store(z_e + b + 0 * n, e + end_e, mask=last)


@triton.jit
def backward(
    log_obs, stay, move, skip, frames, states,
    alpha_m, alpha_e, longest, width,
    posterior, stays, moves, skips,
    PER_FRAME: tl.constexpr, SKIPS: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Posteriors and (COUNT) expected counts shaped as the arcs, of real frames and states only.

    Each frame is divided by its own sum, not by Z: right also where scores of 1e30 leave the exponents no digits.
    """
    b = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    T, S = tl.load(frames + b), tl.load(states + b)
    real = n < S
    last = n == S - 1
    start = b * longest * width + n
    stay_m, stay_e = _arc(stay, b, 0, longest, width, n, real, PER_FRAME)
    move_m, move_e = _arc(move, b, T - 1, longest, width, n, real, PER_FRAME)
    if SKIPS:
        skip_m, skip_e = _arc(skip, b, 0, longest, width, n, real, PER_FRAME)

    m, e = tl.where(last, move_m, 0.0), tl.where(last, move_e, float("-inf"))  # beta
    a_m = tl.load(alpha_m + start + (T - 1) * width, mask=real, other=0.0)
    a_e = tl.load(alpha_e + start + (T - 1) * width, mask=real, other=float("-inf"))
    by, top = scale(a_m * m, a_e + e)
    gamma = a_m * m * by * power(a_e + e - top)
    tl.store(posterior + start + (T - 1) * width, gamma, mask=real)
    if COUNT:
        # Every path ends by leaving the last state.
        stay_sum, move_sum, skip_sum = tl.zeros_like(gamma), gamma, tl.zeros_like(gamma)
        if PER_FRAME:
            tl.store(moves + start + (T - 1) * width, gamma, mask=real)

    for back in range(1, T):
        t = T - 1 - back
        x_m, x_e = from_score(tl.load(log_obs + start + (t + 1) * width, mask=real, other=float("-inf")))
        a_m = tl.load(alpha_m + start + t * width, mask=real, other=0.0)
        a_e = tl.load(alpha_e + start + t * width, mask=real, other=float("-inf"))
        if PER_FRAME:
            stay_m, stay_e = _arc(stay, b, t, longest, width, n, real, PER_FRAME)
            move_m, move_e = _arc(move, b, t, longest, width, n, real, PER_FRAME)
        m, e = normal(m * x_m, e + x_e)
        stayed_m, stayed_e = m * stay_m, e + stay_e
        moved_m, moved_e = shifted(m, e, -1, BLOCK)
        moved_m, moved_e = moved_m * move_m, moved_e + move_e
        sum_m, sum_e = add(stayed_m, stayed_e, moved_m, moved_e)
        if SKIPS:
            if PER_FRAME:
                skip_m, skip_e = _arc(skip, b, t, longest, width, n, real, PER_FRAME)
            skipped_m, skipped_e = shifted(m, e, -2, BLOCK)
            skipped_m, skipped_e = skipped_m * skip_m, skipped_e + skip_e
            sum_m, sum_e = add(sum_m, sum_e, skipped_m, skipped_e)
        m, e = normal(sum_m, sum_e)
        by, top = scale(a_m * m, a_e + e)
        tl.store(posterior + start + t * width, a_m * m * by * power(a_e + e - top), mask=real)
        if COUNT:
            stay_part = a_m * stayed_m * by * power(a_e + stayed_e - top)
            move_part = a_m * moved_m * by * power(a_e + moved_e - top)
            if PER_FRAME:
                tl.store(stays + start + t * width, stay_part, mask=real)
                tl.store(moves + start + t * width, move_part, mask=real)
            else:
                stay_sum += stay_part
                move_sum += move_part
            if SKIPS:
                skip_part = a_m * skipped_m * by * power(a_e + skipped_e - top)
                if PER_FRAME:
                    tl.store(skips + start + t * width, skip_part, mask=real)
                else:
                    skip_sum += skip_part
    if COUNT and not PER_FRAME:
        tl.store(stays + b * width + n, stay_sum, mask=real)
        tl.store(moves + b * width + n, move_sum, mask=real)
        if SKIPS:
            tl.store(skips + b * width + n, skip_sum, mask=real)
