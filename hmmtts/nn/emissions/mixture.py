"""A mixture of Gaussians per state. b utterances, n states, d width, u frames, c features, m components."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmmtts.nn.emissions.base import Emission
from hmmtts.nn.emissions.gaussian import Gaussians, log_density


class Mixture(Emission):
    """Weights, means and deviations are linear in the cell; as in the single Gaussian, the deviation is
    floor + softplus.

    All states start equal (a flat start), the components of a state a little apart: what starts equal stays equal.
    """

    def __init__(
        self, width: int, features: int, components: int = 2, floor: float = 0.5, apart: float = 0.2
    ) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        if not 0 < floor < 1:
            raise ValueError(
                f"floor must lie between 0 and 1, the deviation of the normalised features, got {floor}"
            )
        self.floor, self.components, self.features = floor, components, features
        self.parameters_of = nn.Linear(width, components * (1 + 2 * features))
        nn.init.zeros_(self.parameters_of.weight)
        nn.init.zeros_(self.parameters_of.bias)
        start = self.parameters_of.bias.data.view(components, 1 + 2 * features)
        start[:, 1 : 1 + features] = apart * torch.randn(components, features) if components > 1 else 0.0
        start[:, 1 + features :] = math.log(math.expm1(1 - floor))

    def components_of(self, cells: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n m"], Gaussians]:
        """Log-weights, and the Gaussians [b n * m c]."""
        given = self.parameters_of(cells).unflatten(-1, (self.components, 1 + 2 * self.features))
        logit, mean, raw = given.split([1, self.features, self.features], -1)
        deviation = self.floor + nn.functional.softplus(raw)
        return logit[..., 0].log_softmax(-1), Gaussians(mean.flatten(1, 2), deviation.flatten(1, 2))

    def forward(
        self, cells: Float[Tensor, "b n d"], acoustic: Float[Tensor, "b u c"]
    ) -> Float[Tensor, "b u n"]:
        log_weight, gaussians = self.components_of(cells)
        joint = log_density(acoustic, gaussians).unflatten(-1, (-1, self.components))
        return torch.logsumexp(joint + log_weight[:, None], -1)
