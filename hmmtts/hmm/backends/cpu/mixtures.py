"""Log-densities of Gaussian mixtures with diagonal covariances, as sums of (x - mean)^2, in float32.

Letters: n frames, d features, k states, m components of each. Component c of state s is lane c * k + s, so that the
sum over the components of sixteen states is a few operations on whole vectors; p is k * m rounded up to whole vectors.
The squares are taken after the subtraction: nothing cancels, as it does in x^2 - 2 x mean + mean^2, however far the
data lie from zero in units of their deviation.
"""

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from hmmtts.hmm.backends.cpu import rows
from hmmtts.hmm.backends.cpu.compile import FAST, compiled_once, inner, kernel, row
from hmmtts.hmm.backends.cpu.pool import over_batch
from hmmtts.hmm.backends.cpu.turns import turns

F = np.float32
LANES = 16
BLOCK = 512  # frames that one thread takes at a time
LOWEST = F(-1e38)  # of a log-density: finite, so that no difference of two is undefined
NEVER = -1e37  # of a component without weight
LEAST = F(1e-37)
SQRT_2 = F(1.41421356)


@row
def _distances(a, b, m0, m1, m2, m3, w0, w1, w2, w3, x0, x1, x2, x3, y0, y1, y2, y3):
    """Four features of two frames, to all components."""
    for j in range(a.shape[0]):
        d0, d1, d2, d3 = x0 - m0[j], x1 - m1[j], x2 - m2[j], x3 - m3[j]
        a[j] += d0 * d0 * w0[j] + d1 * d1 * w1[j] + d2 * d2 * w2[j] + d3 * d3 * w3[j]
        e0, e1, e2, e3 = y0 - m0[j], y1 - m1[j], y2 - m2[j], y3 - m3[j]
        b[j] += e0 * e0 * w0[j] + e1 * e1 * w1[j] + e2 * e2 * w2[j] + e3 * e3 * w3[j]


@row
def _distance(a, b, m, w, x, y):
    for j in range(a.shape[0]):
        a[j] += (x - m[j]) * (x - m[j]) * w[j]
        b[j] += (y - m[j]) * (y - m[j]) * w[j]


@row
def _copy(x, out):
    for j in range(out.shape[0]):
        out[j] = x[j]


@njit(inline="always", fastmath=FAST)
def _log(x):
    """log(x) of a positive, normal number (Cephes, relative error 1e-7)."""
    bits = rows.to_bits(x)
    e = F((bits >> 23) - 127)
    m = rows.from_bits(np.int32((bits & 0x7FFFFF) | 0x3F800000))
    large = m > SQRT_2
    z = (m * F(0.5) if large else m) - F(1.0)
    e = e + F(1.0) if large else e
    p = F(7.0376836292e-2)
    p = p * z - F(1.1514610310e-1)
    p = p * z + F(1.1676998740e-1)
    p = p * z - F(1.2420140846e-1)
    p = p * z + F(1.4249322787e-1)
    p = p * z - F(1.6668057665e-1)
    p = p * z + F(2.0000714765e-1)
    p = p * z - F(2.4999993993e-1)
    p = p * z + F(3.3333331174e-1)
    return z + (p * z * z * z + e * rows.LN_2_LOW - F(0.5) * z * z) + e * rows.LN_2_HIGH


@row
def _take_higher(a, top, first):
    for s in range(top.shape[0]):
        top[s] = max(top[s], a[first + np.uint64(s)])


@row
def _add_exp(a, top, first, total, term):
    for s in range(total.shape[0]):
        term[s] = rows.exp(a[first + np.uint64(s)] - top[s])
        total[s] += term[s]


@row
def _log_sum(top, total, out):
    for s in range(out.shape[0]):
        out[s] = top[s] + _log(max(total[s], LEAST))


@row
def _shares(term, total, first, share):
    for s in range(total.shape[0]):
        share[first + np.uint64(s)] = term[s] / max(total[s], LEAST)


@inner
def _mix(a, k, m, top, total, terms, out, share, wanted):
    """out[k] = log sum over components of exp(a), and the share that each component has of it.

    Whole vectors: the lanes beyond the last state hold the next component, and what they write is written over.
    """
    if m == 1:
        for s in range(k):
            out[s] = max(a[s], LOWEST)
            if wanted:
                share[s] = F(1.0)
        return
    top[:] = LOWEST
    total[:] = F(0.0)
    for c in range(m):
        _take_higher(a, top, np.uint64(c * k))
    for c in range(m):
        _add_exp(a, top, np.uint64(c * k), total, terms[c])
    if wanted:
        for c in range(m):
            _shares(terms[c], total, np.uint64(c * k), share)
    _log_sum(top, total, top)
    for s in range(k):
        out[s] = top[s]


@kernel
def log_densities(blocks, x, mean, weight, offset, k, m, wanted, out, share):
    """x[n d]; mean, weight[d p] with weight = -precision / 2; offset[p]. out[n k]; where wanted, share[n, m k + LANES].

    A frame with NaN or +inf gets NaN, which whoever reads it will complain of, and shares of zero.
    """
    n, d = x.shape
    p = mean.shape[1]
    wide = -(-k // LANES) * LANES
    space = np.zeros((2, p + wide), F)
    a, b = space[0], space[1]
    top, total, terms = np.empty(wide, F), np.empty(wide, F), np.empty((m, wide), F)
    for block in turns(blocks):
        last = min(n, (block + 1) * BLOCK)
        for t in range(block * BLOCK, last, 2):
            u = min(t + 1, last - 1)
            _copy(offset, a[:p])
            _copy(offset, b[:p])
            v, w = x[t], x[u]
            i = 0
            while i + 4 <= d:
                _distances(
                    a[:p], b[:p], mean[i], mean[i + 1], mean[i + 2], mean[i + 3],
                    weight[i], weight[i + 1], weight[i + 2], weight[i + 3],
                    v[i], v[i + 1], v[i + 2], v[i + 3], w[i], w[i + 1], w[i + 2], w[i + 3],
                )  # fmt: skip
                i += 4
            while i < d:
                _distance(a[:p], b[:p], mean[i], weight[i], v[i], w[i])
                i += 1
            for f in (t, u):
                if rows.finite(x[f], d):
                    _mix(
                        a if f == t else b, k, m, top, total, terms, out[f], share[f if wanted else 0], wanted
                    )
                else:
                    out[f] = np.nan
                    if wanted:
                        share[f] = F(0.0)


@compiled_once
def make_ready() -> None:
    one = torch.zeros(1, 1, 1)
    score(one[0], one, one, one[0], shares=True)


Scored = tuple[Float[Tensor, "n k"], Float[Tensor, "n m k"] | None]


def score(
    x: Float[Tensor, "n d"],
    mean: Float[Tensor, "k m d"],
    precision: Float[Tensor, "k m d"],
    offset: Float[Tensor, "k m"],
    shares: bool,
) -> Scored:
    """log sum over m of exp(offset - precision (x - mean)^2 / 2), and the share of each component if asked for."""
    make_ready()
    (n, _), (k, m, d) = x.shape, mean.shape
    p = -(-k * m // LANES) * LANES
    log_obs = torch.empty(n, k)
    share = torch.empty(n if shares else 1, m * k + LANES)
    lanes = torch.zeros(2, d, p)
    lanes[0, :, : k * m] = mean.permute(2, 1, 0).reshape(d, m * k)
    lanes[1, :, : k * m] = -0.5 * precision.permute(2, 1, 0).reshape(d, m * k)
    start = torch.full((p,), NEVER)
    start[: k * m] = offset.T.reshape(-1).clamp(min=NEVER)
    arrays = (
        x.contiguous().numpy(),
        *lanes.numpy(),
        start.numpy(),
        k,
        m,
        shares,
        log_obs.numpy(),
        share.numpy(),
    )

    def run(blocks: np.ndarray) -> None:
        log_densities(blocks, *arrays)

    over_batch(run, np.full(-(-n // BLOCK), BLOCK * p))
    return log_obs, share[:, : m * k].unflatten(1, (m, k)) if shares else None
