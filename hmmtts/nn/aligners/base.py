"""What every aligner promises. b utterances, s symbols, n states, u frames of the aligner, c acoustic features."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hmmtts.batch import Alignment, Batch


class Heard(NamedTuple):
    """What training takes from an aligner."""

    log_likelihood: Float[Tensor, "b"]  # nats of the utterance, with gradient
    durations: Float[Tensor, "b n"]  # frames of the aligner in each state, without gradient


class Aligner(nn.Module, ABC):
    """It reads the text and the sound of a batch, and nothing of their true times.

    Every utterance given to `forward` and `align` must be feasible: frames enough for its states.
    """

    states_per_symbol: int

    @abstractmethod
    def fewest_frames(self, batch: Batch) -> Int[Tensor, "b"]:
        """Acoustic frames that an utterance needs at least; with fewer there is no alignment."""

    def possible(self, batch: Batch) -> Bool[Tensor, "b"]:
        """Which utterances have an alignment."""
        return batch.acoustic_frames >= self.fewest_frames(batch)

    @abstractmethod
    def forward(self, batch: Batch) -> Heard: ...

    @abstractmethod
    def align(self, batch: Batch) -> Alignment: ...
