"""What every duration model promises. b utterances, s symbols, n states (n = s * states per symbol), d width."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.nn.lengths import Mean

Statistic = Literal["expected", "quantile", "sampled"]  # what synthesis takes of a law of durations


def check_statistic(statistic: Statistic, quantile: float) -> None:
    if statistic not in ("expected", "quantile", "sampled"):
        raise ValueError(f"statistic must be expected, quantile or sampled, got {statistic!r}")
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile}")


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
