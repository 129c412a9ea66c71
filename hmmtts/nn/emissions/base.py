"""What every emission promises. b utterances, n states, d width, u frames of the aligner, c acoustic features."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Emission(nn.Module, ABC):
    """cells [b n d], acoustic [b u c] -> log_obs [b u n], the logarithm of a density that integrates to one over c."""

    @abstractmethod
    def forward(
        self, cells: Float[Tensor, "b n d"], acoustic: Float[Tensor, "b u c"]
    ) -> Float[Tensor, "b u n"]: ...
