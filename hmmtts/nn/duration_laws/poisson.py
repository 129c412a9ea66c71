"""The Poisson law: p(d) ~ rate^d / d!, whose variance is its mean."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.nn.duration_laws.base import Law


class Poisson(Law):
    """Free: the logarithm of the rate."""

    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        return torch.tensor([math.log(mean)])

    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        return free * d - torch.lgamma(d + 1)
