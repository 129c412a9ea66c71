"""What every duration model promises. b utterances, s symbols, n states (n = s * states per symbol), d width."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.nn.lengths import Mean


class Spoken(NamedTuple):
    """Durations that an aligner found."""

    seconds: Float[Tensor, "b n"]  # of each state; zeros in the padding
    symbols: Int[Tensor, "b"]


class Duration(nn.Module, ABC):
    """h [b s d], symbols [b] -> seconds of every state [b n], all positive; zeros in the padding.

    A variant that is random draws from `generator`, and one that is not ignores it. `TERMS` names its losses.
    """

    TERMS: tuple[str, ...]

    @abstractmethod
    def forward(
        self, h: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n"]: ...

    @abstractmethod
    def losses(self, h: Float[Tensor, "b s d"], spoken: Spoken) -> dict[str, Mean]:
        """Named terms that teach it the aligner's durations."""
