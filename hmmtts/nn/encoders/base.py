"""What every encoder promises. b utterances, s symbols, d width."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """x [b s d], symbols [b] -> h [b s d]: the same width out as in.

    What stands in the padding of x is never read; what comes out there is not to be read either.
    """

    width: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"]) -> Float[Tensor, "b s d"]: ...
