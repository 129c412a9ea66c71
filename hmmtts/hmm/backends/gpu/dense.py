# mypy: ignore-errors
"""Dense forward-backward: one program per utterance, a matrix-vector product of cells per frame.

Letters: b utterances, t frames, k states. Matrices come as cells (m, e)[k k] and are read in tiles of ROWS rows;
BLOCK is a power of two of at least k. Sums are exact whatever the spread of the terms (each
column has its own exponent), which tensor cores cannot do: this is meant for models of up to a few hundred states.
"""

import triton
import triton.language as tl

from hmmtts.hmm.backends.gpu.cells import LOWEST, add, from_score, normal, power, scale


@triton.jit
def _row(matrix_m, matrix_e, i, j, k):
    inside = (i < k) & (j < k)
    m = tl.load(matrix_m + i * k + j, mask=inside, other=0.0)
    return m, tl.load(matrix_e + i * k + j, mask=inside, other=float("-inf")).to(tl.float64)


@triton.jit
def _product(m, e, matrix_m, matrix_e, k, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The vector times the matrix."""
    j = tl.arange(0, BLOCK)
    sum_m, sum_e = tl.zeros_like(m), tl.full((BLOCK,), float("-inf"), tl.float64)
    for first in range(0, k, ROWS):
        i = first + tl.arange(0, ROWS)
        arc_m, arc_e = _row(matrix_m, matrix_e, i[:, None], j[None, :], k)
        term_e = tl.gather(e, i, 0)[:, None] + arc_e
        top = tl.maximum(tl.max(term_e, 0), LOWEST)
        terms = tl.gather(m, i, 0)[:, None] * arc_m * power(term_e - top[None, :])
        sum_m, sum_e = normal(*add(sum_m, sum_e, tl.sum(terms, 0), top))
    return sum_m, sum_e


@triton.jit
def forward(
    log_obs, initial, transition_m, transition_e, final, frames,
    alpha_m, alpha_e, z_m, z_e, longest, k,
    KEEP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    T = tl.load(frames + b)
    real = j < k
    start = b * longest * k + j
    x_m, x_e = from_score(tl.load(log_obs + start, mask=real, other=float("-inf")))
    m, e = from_score(tl.load(initial + j, mask=real, other=float("-inf")))
    m, e = normal(m * x_m, e + x_e)
    for t in range(1, T):
        x_m, x_e = from_score(tl.load(log_obs + start + t * k, mask=real, other=float("-inf")))
        if KEEP:
            tl.store(alpha_m + start + (t - 1) * k, m, mask=real)
            tl.store(alpha_e + start + (t - 1) * k, e, mask=real)
        m, e = _product(m, e, transition_m, transition_e, k, ROWS, BLOCK)
        m, e = normal(m * x_m, e + x_e)
    if KEEP:
        tl.store(alpha_m + start + (T - 1) * k, m, mask=real)
        tl.store(alpha_e + start + (T - 1) * k, e, mask=real)
    end_m, end_e = from_score(tl.load(final + j, mask=real, other=float("-inf")))
    m, e = m * end_m, e + end_e
    top = tl.maximum(tl.max(e, 0), LOWEST)
    tl.store(z_m + b, tl.sum(m * power(e - top), 0))
    tl.store(z_e + b, top)


@triton.jit
def backward(
    log_obs, transposed_m, transposed_e, final, frames,
    alpha_m, alpha_e, longest, k,
    posterior, worth_m, worth_e, frame_by, frame_top,
    COUNT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Posteriors, and for `count` what an arc into each state is worth (emission and all that follows it) [b t k], and
    the scales of the frames [b t].

    Each frame is divided by its own sum, not by Z: right also where scores of 1e30 leave the exponents no digits.
    """
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    T = tl.load(frames + b)
    real = j < k
    start = b * longest * k + j
    m, e = from_score(tl.load(final + j, mask=real, other=float("-inf")))  # beta
    for back in range(0, T):
        t = T - 1 - back
        a_m = tl.load(alpha_m + start + t * k, mask=real, other=0.0)
        a_e = tl.load(alpha_e + start + t * k, mask=real, other=float("-inf"))
        by, top = scale(a_m * m, a_e + e)
        tl.store(posterior + start + t * k, a_m * m * by * power(a_e + e - top), mask=real)
        x_m, x_e = from_score(tl.load(log_obs + start + t * k, mask=real, other=float("-inf")))
        m, e = normal(m * x_m, e + x_e)
        if COUNT:
            tl.store(worth_m + start + t * k, m, mask=real)
            tl.store(worth_e + start + t * k, e, mask=real)
            tl.store(frame_by + b * longest + t, by)
            tl.store(frame_top + b * longest + t, top)
        m, e = _product(m, e, transposed_m, transposed_e, k, ROWS, BLOCK)


@triton.jit
def count(
    transition_m, transition_e, frames, alpha_m, alpha_e, worth_m, worth_e, frame_by, frame_top, longest, k, arcs,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Expected counts [b k k]; a program per utterance and tile of rows."""
    b = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    j = tl.arange(0, BLOCK)
    T = tl.load(frames + b)
    start = b * longest * k
    arc_m, arc_e = _row(transition_m, transition_e, i[:, None], j[None, :], k)
    taken = tl.zeros((ROWS, BLOCK), tl.float64)
    for t in range(1, T):
        before, after = start + (t - 1) * k + i, start + t * k + j
        a_m = tl.load(alpha_m + before, mask=i < k, other=0.0)
        a_e = tl.load(alpha_e + before, mask=i < k, other=float("-inf"))
        w_m = tl.load(worth_m + after, mask=j < k, other=0.0)
        w_e = tl.load(worth_e + after, mask=j < k, other=float("-inf"))
        by, top = tl.load(frame_by + b * longest + t - 1), tl.load(frame_top + b * longest + t - 1)
        e = (a_e - top)[:, None] + arc_e + w_e[None, :]
        taken += (a_m * by)[:, None] * arc_m * w_m[None, :] * power(e)
    inside = (i[:, None] < k) & (j[None, :] < k)
    tl.store(arcs + b * k * k + i[:, None] * k + j[None, :], taken, mask=inside)
