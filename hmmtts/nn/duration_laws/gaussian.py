"""The Gaussian law: p(d) ~ exp(-(d - mean)^2 / (2 deviation^2)) at whole numbers."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.nn.duration_laws.base import Law


class Gaussian(Law):
    """Free: logarithms of the mean and of the deviation."""

    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        return torch.tensor([math.log(mean), math.log(max(mean / 2, 1.0))])

    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        mean, deviation = free.exp().unbind(-1)
        return -0.5 * ((d - mean[..., None]) / deviation[..., None]).square()
