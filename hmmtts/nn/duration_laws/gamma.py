"""The gamma law: p(d) ~ d^(a-1) exp(-a d / mean), from the exponential (a = 1) to ever narrower."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.nn.duration_laws.base import Law


class Gamma(Law):
    """Free: logarithms of the mean and of the shape a. The mean is that of the density before truncation."""

    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        return torch.tensor([math.log(mean), math.log(2.0)])

    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        mean, shape = free.exp().unbind(-1)
        return (shape[..., None] - 1) * d.log() - (shape / mean)[..., None] * d
