"""Arcs as parameters, shared by all utterances. b utterances, t frames, k states."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from hmmtts.hmm import Dense, LeftToRight, start
from hmmtts.hmm.em import Chain, Observed
from hmmtts.nn.covariances import wide


class Arcs(nn.Module, ABC):
    """Which state may follow which, and how EM begins: with a state for each frame, and arcs that follow from that."""

    @abstractmethod
    def forward(self) -> Chain:
        """Normalised arcs of one utterance; those of a left-to-right model are [1 k]."""

    @abstractmethod
    def write(self, arcs: Chain) -> None: ...

    @abstractmethod
    def label(self, observed: Observed, generator: torch.Generator | None) -> Int[Tensor, "b t"]: ...

    @abstractmethod
    def begin(self, observed: Observed, label: Int[Tensor, "b t"]) -> Chain: ...


class AnyOrder(Arcs):
    """Any state may follow any other; a path ends anywhere."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.initial = nn.Parameter(torch.zeros(states))
        self.transition = nn.Parameter(torch.zeros(states, states))

    def forward(self) -> Dense:
        return Dense(wide(self.initial).log_softmax(-1), wide(self.transition).log_softmax(-1))

    @torch.no_grad()
    def write(self, arcs: Chain) -> None:
        assert isinstance(arcs, Dense)
        self.initial.copy_(arcs.initial)
        self.transition.copy_(arcs.transition)

    def label(self, observed: Observed, generator: torch.Generator | None) -> Int[Tensor, "b t"]:
        return start.by_sound(observed, len(self.initial), generator)

    def begin(self, observed: Observed, label: Int[Tensor, "b t"]) -> Dense:
        return start.dense_arcs(label, len(self.initial))


class InOrder(Arcs):
    """Every utterance passes through all states in order; a state is left with one probability after each frame."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.leave = nn.Parameter(torch.full((states,), -1.0))

    def forward(self) -> LeftToRight:
        leave = wide(self.leave)[None]
        return LeftToRight(stay=logsigmoid(-leave), move=logsigmoid(leave))

    @torch.no_grad()
    def write(self, arcs: Chain) -> None:
        assert isinstance(arcs, LeftToRight)
        self.leave.copy_((arcs.move - arcs.stay)[0].clamp(-30, 30))  # a state that never stayed: -inf before

    def label(self, observed: Observed, generator: torch.Generator | None) -> Int[Tensor, "b t"]:
        return start.in_order(observed, len(self.leave))

    def begin(self, observed: Observed, label: Int[Tensor, "b t"]) -> LeftToRight:
        return start.ordered_arcs(observed.frames, len(self.leave))
