"""Four ways for the Gaussians of a mixture to spread: diagonal, spherical, full, and one matrix tied among all.

Letters: n frames, d features, k states, m components, j = m * k components of all states in the order of `weight`.
Every kind has the same functions, so that nothing else asks which it is:

* alike: the same for all components, with these variances of the features;
* standard: how a density comes to standard form;
* spread: white noise -> noise with the covariance of the components named;
* free: how many parameters it has;
* second: the sums over frames, x^2 or x x', that EM needs; moved: those sums for x + by;
* estimate: the likeliest covariance above the floor around given means. What saw no frame stays as it is.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

ABOVE = (
    1.0001  # a floored variance lies a little above the floor, so that log(variance - floor) is a parameter
)
FEWEST = 1e-6  # frames that a component must have seen to be estimated anew


class Standard(NamedTuple):
    """log N = -log_normaliser - distance / 2, with the distance sum of metric (x - mean)^2, or |metric (x - mean)|^2
    where the metric is a matrix."""

    x: Float[Tensor, "n d"]
    mean: Float[Tensor, "k m d"]
    metric: Float[Tensor, "k m d"] | Float[Tensor, "k m d d"]
    log_normaliser: Float[Tensor, "k m"]


class Moments(NamedTuple):
    """Sums over frames, float64: how often each component was there, of x, and of x^2 or x x' as the kind needs."""

    occupancy: Float[Tensor, "k m"]
    first: Float[Tensor, "k m d"]
    second: Tensor


class Diagonal(NamedTuple):
    """Every component has a variance of its own in every feature."""

    variance: Float[Tensor, "k m d"]

    @classmethod
    def alike(cls, variance: Float[Tensor, "d"], states: int, components: int) -> "Diagonal":
        return cls(variance.repeat(states, components, 1))

    def standard(self, x: Float[Tensor, "n d"], mean: Float[Tensor, "k m d"]) -> Standard:
        normaliser = 0.5 * (2 * math.pi * self.variance).log().sum(-1)
        return Standard(x, mean, self.variance.reciprocal(), normaliser)

    def free(self) -> int:
        return self.variance.numel()

    def spread(
        self, noise: Float[Tensor, "n d"], state: Int[Tensor, "n"], component: Int[Tensor, "n"]
    ) -> Tensor:
        return noise * self.variance[state, component].sqrt()

    def second(self, x: Float[Tensor, "n d"], weight: Float[Tensor, "n j"]) -> Tensor:
        return _by_state(weight.T @ x.square(), self.variance.shape[1])

    def moved(self, second: Tensor, count: Tensor, first: Tensor, by: Tensor) -> Tensor:
        return second + by * (2 * first + count[..., None] * by)

    def estimate(self, moments: Moments, mean: Float[Tensor, "k m d"], floor: float) -> "Diagonal":
        variance = _variances(moments, mean).clamp(min=ABOVE * floor)
        return Diagonal(torch.where(seen(moments.occupancy)[..., None], variance, self.variance.double()))


class Spherical(NamedTuple):
    """Every component has one variance, the same in all features."""

    variance: Float[Tensor, "k m"]

    @classmethod
    def alike(cls, variance: Float[Tensor, "d"], states: int, components: int) -> "Spherical":
        return cls(variance.mean().repeat(states, components))

    def standard(self, x: Float[Tensor, "n d"], mean: Float[Tensor, "k m d"]) -> Standard:
        return Diagonal(self.variance[..., None].expand_as(mean)).standard(x, mean)

    def free(self) -> int:
        return self.variance.numel()

    def spread(
        self, noise: Float[Tensor, "n d"], state: Int[Tensor, "n"], component: Int[Tensor, "n"]
    ) -> Tensor:
        return noise * self.variance[state, component, None].sqrt()

    def second(self, x: Float[Tensor, "n d"], weight: Float[Tensor, "n j"]) -> Tensor:
        return _by_state(weight.T @ x.square(), self.variance.shape[1])

    def moved(self, second: Tensor, count: Tensor, first: Tensor, by: Tensor) -> Tensor:
        return second + by * (2 * first + count[..., None] * by)

    def estimate(self, moments: Moments, mean: Float[Tensor, "k m d"], floor: float) -> "Spherical":
        variance = _variances(moments, mean).mean(-1).clamp(min=ABOVE * floor)
        return Spherical(torch.where(seen(moments.occupancy), variance, self.variance.double()))


class Full(NamedTuple):
    """Every component has a covariance matrix: d (d + 1) / 2 parameters each, and as much data is needed."""

    matrix: Float[Tensor, "k m d d"]

    @classmethod
    def alike(cls, variance: Float[Tensor, "d"], states: int, components: int) -> "Full":
        return cls(variance.diag().repeat(states, components, 1, 1))

    def standard(self, x: Float[Tensor, "n d"], mean: Float[Tensor, "k m d"]) -> Standard:
        whitening, normaliser = _whitening(self.matrix)
        return Standard(x, mean, whitening, normaliser)

    def free(self) -> int:
        return self.matrix[..., 0, 0].numel() * _triangle(self.matrix)

    def spread(
        self, noise: Float[Tensor, "n d"], state: Int[Tensor, "n"], component: Int[Tensor, "n"]
    ) -> Tensor:
        return (torch.linalg.cholesky(self.matrix)[state, component] @ noise[..., None])[..., 0]

    def second(self, x: Float[Tensor, "n d"], weight: Float[Tensor, "n j"]) -> Tensor:
        return _by_state(
            torch.stack([(w[:, None] * x).T @ x for w in weight.unbind(1)]), self.matrix.shape[1]
        )

    def moved(self, second: Tensor, count: Tensor, first: Tensor, by: Tensor) -> Tensor:
        cross = first[..., :, None] * by
        return second + cross + cross.mT + count[..., None, None] * torch.outer(by, by)

    def estimate(self, moments: Moments, mean: Float[Tensor, "k m d"], floor: float) -> "Full":
        count = moments.occupancy[..., None, None]
        cross = moments.first[..., :, None] * mean[..., None, :]
        around = moments.second - cross - cross.mT + count * mean[..., :, None] * mean[..., None, :]
        matrix = _floored(around / count.clamp(min=FEWEST), floor)
        return Full(torch.where(seen(count), matrix, self.matrix.double()))


class Tied(NamedTuple):
    """One covariance matrix for all components of all states: they differ by their means alone."""

    matrix: Float[Tensor, "d d"]

    @classmethod
    def alike(cls, variance: Float[Tensor, "d"], states: int, components: int) -> "Tied":
        return cls(variance.diag())

    def standard(self, x: Float[Tensor, "n d"], mean: Float[Tensor, "k m d"]) -> Standard:
        whitening, normaliser = _whitening(self.matrix)
        return Standard(
            x @ whitening.T,
            mean @ whitening.T,
            torch.ones_like(mean),
            normaliser.expand(mean.shape[:2]),
        )

    def free(self) -> int:
        return _triangle(self.matrix)

    def spread(
        self, noise: Float[Tensor, "n d"], state: Int[Tensor, "n"], component: Int[Tensor, "n"]
    ) -> Tensor:
        return noise @ torch.linalg.cholesky(self.matrix).T

    def second(self, x: Float[Tensor, "n d"], weight: Float[Tensor, "n j"]) -> Tensor:
        return (weight.sum(1)[:, None] * x).T @ x

    def moved(self, second: Tensor, count: Tensor, first: Tensor, by: Tensor) -> Tensor:
        cross = torch.outer(first.sum((0, 1)), by)
        return second + cross + cross.T + count.sum() * torch.outer(by, by)

    def estimate(self, moments: Moments, mean: Float[Tensor, "k m d"], floor: float) -> "Tied":
        j_mean, j_first = mean.flatten(0, 1), moments.first.flatten(0, 1)
        cross = j_first.T @ j_mean
        around = moments.second - cross - cross.T + (moments.occupancy.flatten()[:, None] * j_mean).T @ j_mean
        return Tied(_floored(around / moments.occupancy.sum(), floor))


Covariance = Diagonal | Spherical | Full | Tied


def seen(count: Tensor) -> Tensor:
    return count > FEWEST


def _by_state(sums: Float[Tensor, "j *d"], components: int) -> Float[Tensor, "k m *d"]:
    return sums.unflatten(0, (components, -1)).transpose(0, 1)


def _triangle(matrix: Float[Tensor, "*k d d"]) -> int:
    d = matrix.shape[-1]
    return d * (d + 1) // 2


def _variances(moments: Moments, mean: Float[Tensor, "k m d"]) -> Float[Tensor, "k m d"]:
    """Around `mean`, which need not be the mean of these frames."""
    count = moments.occupancy[..., None]
    around = moments.second - mean * (2 * moments.first - count * mean)
    return around / count.clamp(min=FEWEST)


def _whitening(matrix: Float[Tensor, "*k d d"]) -> tuple[Float[Tensor, "*k d d"], Float[Tensor, "*k"]]:
    """W with W' W the inverse of the matrix, and the normaliser; in float64, since matrices may be near singular."""
    factor = torch.linalg.cholesky(matrix.double())
    identity = torch.eye(matrix.shape[-1], dtype=torch.float64, device=matrix.device)
    whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    normaliser = diagonal.log().sum(-1) + 0.5 * matrix.shape[-1] * math.log(2 * math.pi)
    return whitening.to(matrix.dtype), normaliser.to(matrix.dtype)


def _floored(matrix: Float[Tensor, "*k d d"], floor: float) -> Float[Tensor, "*k d d"]:
    """No direction varies less than the floor: eigenvalues below are raised, which is the likeliest such matrix."""
    matrix = 0.5 * (matrix + matrix.mT)
    least = ABOVE * floor
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    if bool((torch.linalg.cholesky_ex(matrix - least * identity).info == 0).all()):
        return matrix
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=least)[..., None, :] @ vectors.mT
