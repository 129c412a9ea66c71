"""The Weibull law: p(d) ~ d^(a-1) exp(-(d / scale)^a), whose chance to end grows with the duration where a > 1."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.nn.duration_laws.base import Law


class Weibull(Law):
    """Free: logarithms of the scale, near the mean, and of the shape a."""

    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        return torch.tensor([math.log(mean), math.log(1.5)])

    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        log_scale, log_shape = free.unbind(-1)
        shape = log_shape.exp()[..., None]
        log_d = d.log()
        return (shape - 1) * log_d - (shape * (log_d - log_scale[..., None])).exp()
