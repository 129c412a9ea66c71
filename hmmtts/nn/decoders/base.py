"""What every decoder promises. b utterances, t frames, d width, m mel bins."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class Decoder(nn.Module, ABC):
    """x [b t d], frames [b] -> normalised log-mel [b t m], all frames at once.

    What stands in the padding of x is never read; what comes out there is not to be read either.
    """

    @abstractmethod
    def forward(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t m"]: ...
