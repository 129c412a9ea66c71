"""The negative binomial law: a Poisson law whose rate itself is gamma distributed, so its variance exceeds its mean."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.nn.duration_laws.base import Law


class NegativeBinomial(Law):
    """p(d) ~ binom(r + d - 1, d) (mean / (r + mean))^d. Free: logarithms of the mean and of r, where a larger r is nearer
    to Poisson."""

    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        return torch.tensor([math.log(mean), math.log(4.0)])

    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        mean, r = free.exp().unbind(-1)
        # log binom as a sum of logarithms: a difference of two lgamma loses all digits where r is large.
        before = torch.arange(int(d[-1]), dtype=d.dtype, device=d.device)
        chosen = ((r[..., None] + before).log() - (before + 1).log()).cumsum(-1)[..., int(d[0]) - 1 :]
        return chosen + (mean.log() - (r + mean).log())[..., None] * d
