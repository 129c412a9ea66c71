"""Covariances as parameters: any real numbers give a valid one above the floor. k states, m components, d features.

Matrices are floor I + A A', variances floor + exp(raw): no step of an optimiser leaves the valid ones, and EM's
solutions, which lie above the floor, can be written back.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmmtts.hmm import covariance
from hmmtts.hmm.covariance import Covariance


class CovarianceParameters(nn.Module, ABC):
    """`raw` is the one parameter; every component starts with variance 1 in every feature."""

    KIND: type[Covariance]

    def __init__(self, states: int, components: int, features: int, floor: float) -> None:
        super().__init__()
        if not 0 < floor < 1:
            raise ValueError(f"floor must lie between 0 and 1, the variance at the start, got {floor}")
        self.floor = floor
        first = self.KIND.alike(torch.ones(features), states, components)
        self.raw = nn.Parameter(torch.empty_like(first[0]))
        self.write(first)

    @abstractmethod
    def forward(self) -> Covariance: ...

    @abstractmethod
    def write(self, value: Covariance) -> None:
        """Take over a covariance that EM has found."""


class _Variances(CovarianceParameters):
    def forward(self) -> Covariance:
        return self.KIND(self.floor + wide(self.raw).exp())

    @torch.no_grad()
    def write(self, value: Covariance) -> None:
        self.raw.copy_((value[0].double() - self.floor).clamp(min=1e-5 * self.floor).log())


class Diagonal(_Variances):
    KIND = covariance.Diagonal


class Spherical(_Variances):
    KIND = covariance.Spherical


class _Matrices(CovarianceParameters):
    def forward(self) -> Covariance:
        raw = wide(self.raw)
        return self.KIND(
            raw @ raw.mT + self.floor * torch.eye(raw.shape[-1], dtype=raw.dtype, device=raw.device)
        )

    @torch.no_grad()
    def write(self, value: Covariance) -> None:
        matrix = value[0].double()
        above = matrix - self.floor * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        values, vectors = torch.linalg.eigh(above)
        self.raw.copy_(vectors * values.clamp(min=1e-5 * self.floor).sqrt()[..., None, :])


class Full(_Matrices):
    KIND = covariance.Full


class Tied(_Matrices):
    KIND = covariance.Tied


def wide(x: Tensor) -> Float[Tensor, "..."]:
    """At least float32, whatever precision the parameters are kept in."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
