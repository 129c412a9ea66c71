"""The free law: a probability of its own for every duration."""

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.nn.duration_laws.base import Law
from hmmtts.nn.duration_laws.gamma import Gamma


class Table(Law):
    """Free: the logits of all durations. It fits anything, noise too: many examples, or a parametric law."""

    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        gamma = Gamma()
        return gamma.log_weights(gamma.start(mean, d), d).log_softmax(-1)

    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        return free

    def fit(
        self, free: Float[Tensor, "*n p"], counts: Float[Tensor, "*n d"], d: Float[Tensor, "d"]
    ) -> Float[Tensor, "*n p"]:
        """The shares themselves. What was never seen is made all but impossible, yet finite: the logits stay numbers."""
        total = counts.sum(-1, keepdim=True)
        shares = (counts / total.clamp(min=1e-300)).clamp(min=RAREST)
        return torch.where(total > 0, shares.log(), free)


RAREST = 1e-30
