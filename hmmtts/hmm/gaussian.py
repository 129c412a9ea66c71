"""How likely each state, a mixture of Gaussians, makes each frame: exact, differentiable by all that enters.

Letters: n frames, d features, k states, m components of each. With r(n, k, m) the share that a component has of its
state's density, every gradient is a sum over frames of r times a power of x - mean: the sums that EM needs as well,
and matrix products both. Only r is kept for the backward pass.

Two ways lead to the squared distances. The direct one sums (x - mean)^2 and keeps 1e-4 nats in float32 wherever the
data lie; compiled, it is the faster too as long as all means fit into the first cache. The product of [x^2, x] with a
matrix, both centred on the mean of the means, loses 3e-3 nats at deviations of 0.1 around means that spread by 1. The
rule: direct for float32 on a CPU with at most DIRECT components in all, else the product.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm.covariance import Covariance, Standard

DIRECT = 256
CHUNK = 4096  # frames: what is made of them on the way stays in the cache


class Mixture(NamedTuple):
    """k states with m Gaussians each; the weights of a state sum to one."""

    log_weight: Float[Tensor, "k m"]
    mean: Float[Tensor, "k m d"]
    covariance: Covariance


class Scores(NamedTuple):
    """log p(frame | state), and the posterior of each component given frame and state (None: there is but one)."""

    log_obs: Float[Tensor, "n k"]
    share: Float[Tensor, "n m k"] | None


def log_densities(x: Float[Tensor, "*b d"], mixture: Mixture) -> Float[Tensor, "*b k"]:
    """log p(x | state) in nats, differentiable by x, weights, means and covariances.

    A frame that holds NaN gets NaN. Where gradients are wanted, frames of padding must be finite too.
    """
    standard, offset = _terms(x.flatten(0, -2), mixture)
    inputs = (standard.x, standard.mean, standard.metric, offset)
    if torch.is_grad_enabled() and any(value.requires_grad for value in inputs):
        log_obs = _LogDensities.apply(*inputs)
    else:
        log_obs = _score(*inputs, shares=False).log_obs
    return log_obs.unflatten(0, x.shape[:-1])


@torch.no_grad()
def scores(x: Float[Tensor, "n d"], mixture: Mixture) -> Scores:
    """The E step within the states."""
    standard, offset = _terms(x, mixture)
    return _score(standard.x, standard.mean, standard.metric, offset, shares=mixture.mean.shape[1] > 1)


def _terms(x: Tensor, mixture: Mixture) -> tuple[Standard, Tensor]:
    d = mixture.mean.shape[-1]
    if x.shape[-1] != d:
        raise ValueError(f"x must have the {d} features of the means, got {x.shape[-1]}")
    standard = mixture.covariance.standard(x, mixture.mean)
    return standard, mixture.log_weight - standard.log_normaliser


def _score(x: Tensor, mean: Tensor, metric: Tensor, offset: Tensor, shares: bool) -> Scores:
    if metric.ndim == 4:
        return _chunked(x, mean, lambda part: _whitened(part, mean, metric, offset), shares)
    k, m, _ = mean.shape
    if x.device.type == "cpu" and x.dtype == torch.float32 and k * m <= DIRECT:
        from hmmtts.hmm.backends.cpu import mixtures

        return Scores(*mixtures.score(x, mean, metric, offset, shares))
    centre = mean.mean((0, 1))
    near = mean - centre
    matrix = torch.cat([-0.5 * metric, near * metric], -1).transpose(0, 1).flatten(0, 1).T
    constant = (offset - 0.5 * (near.square() * metric).sum(-1)).T.reshape(-1)

    def product(part: Tensor) -> Tensor:
        y = part - centre
        return torch.addmm(constant, torch.cat([y.square(), y], -1), matrix).unflatten(1, (m, k))

    return _chunked(x, mean, product, shares)


def _whitened(x: Tensor, mean: Tensor, whitening: Tensor, offset: Tensor) -> Float[Tensor, "n m k"]:
    """|W (x - mean)|^2, the difference taken first."""
    k, m, _ = mean.shape
    out = x.new_empty(m, k, len(x))
    for s in range(k):
        for c in range(m):
            y = (x - mean[s, c]) @ whitening[s, c].T
            out[c, s] = offset[s, c] - 0.5 * y.square().sum(1)
    return out.permute(2, 0, 1)


def _chunked(x: Tensor, mean: Tensor, log_joint, shares: bool) -> Scores:
    k, m, _ = mean.shape
    log_obs = x.new_empty(len(x), k)
    share = x.new_empty(len(x), m, k) if shares else None
    for i in range(0, len(x), CHUNK):
        joint = log_joint(x[i : i + CHUNK])
        total = joint[:, 0] if m == 1 else joint.logsumexp(1)
        log_obs[i : i + CHUNK] = total
        if share is not None:
            torch.sub(joint, total[:, None], out=share[i : i + CHUNK]).exp_()
    return Scores(log_obs, share)


class _LogDensities(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mean, metric, offset):
        result = _score(x, mean, metric, offset, shares=mean.shape[1] > 1)
        ctx.save_for_backward(x, mean, metric, result.share)
        return result.log_obs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, mean, metric, share = ctx.saved_tensors
        weight = (grad[:, None] if share is None else grad[:, None] * share).flatten(1)
        gradients = _gradients_whitened if metric.ndim == 4 else _gradients
        with torch.autocast(x.device.type, enabled=False):
            return gradients(x, mean, metric, weight, ctx.needs_input_grad[0])


def _gradients(x: Tensor, mean: Tensor, precision: Tensor, weight: Float[Tensor, "n j"], by_x: bool):
    """j = m * k components. The sums are taken around the mean of the means."""
    k, m, _ = mean.shape
    centre = mean.mean((0, 1))
    near, metric = ((mean - centre).transpose(0, 1).flatten(0, 1), precision.transpose(0, 1).flatten(0, 1))
    count = weight.sum(0)[:, None]
    first, second = torch.zeros_like(near), torch.zeros_like(near)
    for i in range(0, len(x), CHUNK):
        y, w = x[i : i + CHUNK] - centre, weight[i : i + CHUNK].T
        first.addmm_(w, y)
        second.addmm_(w, y.square())
    difference = first - count * near
    spread = second - near * (2 * first - count * near)
    of_x = weight @ (near * metric) - (weight @ metric) * (x - centre) if by_x else None
    back = (difference * metric, -0.5 * spread, count[:, 0])
    return of_x, *(value.unflatten(0, (m, k)).transpose(0, 1) for value in back)


def _gradients_whitened(x: Tensor, mean: Tensor, whitening: Tensor, weight: Float[Tensor, "n j"], by_x: bool):
    k, m, _ = mean.shape
    difference, spread = torch.zeros_like(mean), torch.zeros_like(whitening)
    of_x = torch.zeros_like(x) if by_x else None
    for i in range(0, len(x), CHUNK):
        for s in range(k):
            for c in range(m):
                y = x[i : i + CHUNK] - mean[s, c]
                weighted = weight[i : i + CHUNK, c * k + s, None] * y
                difference[s, c] += weighted.sum(0)
                spread[s, c].addmm_(weighted.T, y)
                if of_x is not None:
                    of_x[i : i + CHUNK] -= weighted @ (whitening[s, c].T @ whitening[s, c])
    back = whitening.mT @ (whitening @ difference[..., None])
    return of_x, back[..., 0], -whitening @ spread, weight.sum(0).unflatten(0, (m, k)).T
