"""Random mixtures of every kind of covariance, and their densities by torch.distributions."""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from hmmtts.hmm.covariance import Diagonal, Full, Spherical, Tied
from hmmtts.hmm.gaussian import Mixture

KINDS = [Diagonal, Spherical, Full, Tied]


def mixture(
    kind: type, k: int, m: int, d: int, seed: int = 0, dtype=torch.float64, spread: float = 2.0
) -> Mixture:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    root = 0.5 * draw(k, m, d, d)
    matrix = root @ root.mT + 0.3 * torch.eye(d, dtype=torch.float64)
    of_kind = {
        Diagonal: matrix.diagonal(dim1=-2, dim2=-1),
        Spherical: matrix[..., 0, 0],
        Full: matrix,
        Tied: matrix[0, 0],
    }[kind]
    return Mixture(
        draw(k, m).log_softmax(-1).to(dtype),
        (spread * draw(k, m, d)).to(dtype),
        kind(of_kind.contiguous().to(dtype)),
    )


def matrices(given: Mixture) -> Tensor:
    """The covariances as matrices [k m d d], float64."""
    k, m, d = given.mean.shape
    value = given.covariance[0].double()
    return {
        Diagonal: lambda: torch.diag_embed(value),
        Spherical: lambda: value[..., None, None] * torch.eye(d, dtype=torch.float64),
        Full: lambda: value,
        Tied: lambda: value.expand(k, m, d, d),
    }[type(given.covariance)]()


def true_log_densities(x: Tensor, given: Mixture) -> Tensor:
    normal = MultivariateNormal(given.mean.double(), matrices(given))
    joint = normal.log_prob(x.double()[..., None, None, :]) + given.log_weight.double()
    return joint.logsumexp(-1)
