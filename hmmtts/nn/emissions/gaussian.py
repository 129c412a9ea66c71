"""One Gaussian with a diagonal covariance per state. b utterances, n states, d width, u frames, c features."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from hmmtts.nn.emissions.base import Emission


class Gaussians(NamedTuple):
    mean: Float[Tensor, "b n c"]
    deviation: Float[Tensor, "b n c"]


class Gaussian(Emission):
    """Means and deviations are linear in the cell. All states start equal (a flat start): mean 0 and deviation 1.

    The deviation is floor + softplus, so that its gradient lives at any size and no state can shrink onto one frame.
    """

    def __init__(self, width: int, features: int, floor: float = 0.5) -> None:
        super().__init__()
        if not 0 < floor < 1:
            raise ValueError(
                f"floor must lie between 0 and 1, the deviation of the normalised features, got {floor}"
            )
        self.floor = floor
        self.parameters_of = nn.Linear(width, 2 * features)
        nn.init.zeros_(self.parameters_of.weight)
        nn.init.zeros_(self.parameters_of.bias)
        self.parameters_of.bias.data[features:] = math.log(math.expm1(1 - floor))

    def gaussians(self, cells: Float[Tensor, "b n d"]) -> Gaussians:
        mean, raw = self.parameters_of(cells).chunk(2, -1)
        return Gaussians(mean, self.floor + softplus(raw))

    def forward(
        self, cells: Float[Tensor, "b n d"], acoustic: Float[Tensor, "b u c"]
    ) -> Float[Tensor, "b u n"]:
        return log_density(acoustic, self.gaussians(cells))


def log_density(acoustic: Float[Tensor, "b u c"], gaussians: Gaussians) -> Float[Tensor, "b u n"]:
    """log N(x; mean, deviation^2), the square written out so that two matrix products do the work.

    In float32 this keeps 1e-4 nats for features of deviation 1 and a floor of 0.1 or more.
    """
    mean, deviation = gaussians
    precision = deviation.square().reciprocal()
    constant = (mean.square() * precision + 2 * deviation.log()).sum(-1) + mean.shape[-1] * math.log(
        2 * math.pi
    )
    distance = acoustic.square() @ precision.mT - 2 * acoustic @ (mean * precision).mT
    return -0.5 * (distance + constant[:, None])
