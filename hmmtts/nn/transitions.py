"""How long the HMM stays in its states. b utterances, n states, d width."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmmtts.hmm import LeftToRight, left_to_right_from_logits


class Transitions(nn.Module, ABC):
    """cells [b n d] -> logit of leaving each state after a frame [b n].

    Logits, and never a clamped probability, so that no gradient dies.
    """

    @abstractmethod
    def logits(self, cells: Float[Tensor, "b n d"]) -> Float[Tensor, "b n"]: ...

    def forward(self, cells: Float[Tensor, "b n d"]) -> LeftToRight:
        return left_to_right_from_logits(self.logits(cells))


class Predicted(Transitions):
    """Linear in the cell: every state in its context lasts as long as it does in the data."""

    def __init__(self, width: int, frames_per_state: float = 4.0) -> None:
        super().__init__()
        self.leave = nn.Linear(width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.constant_(self.leave.bias, logit_of(frames_per_state))

    def logits(self, cells: Float[Tensor, "b n d"]) -> Float[Tensor, "b n"]:
        return self.leave(cells).squeeze(-1)


class Learned(Transitions):
    """One probability for all states: only the emissions place the boundaries."""

    def __init__(self, width: int, frames_per_state: float = 4.0) -> None:
        super().__init__()
        self.leave = nn.Parameter(torch.tensor(logit_of(frames_per_state)))

    def logits(self, cells: Float[Tensor, "b n d"]) -> Float[Tensor, "b n"]:
        return self.leave.expand(cells.shape[:2])


def logit_of(frames_per_state: float) -> float:
    """The logit of leaving a state that lasts so many frames on average."""
    if frames_per_state <= 1:
        raise ValueError(f"frames_per_state must be more than 1, got {frames_per_state}: no state lasts less")
    return -math.log(frames_per_state - 1)
