"""The exact semi-Markov aligner: an HMM whose states last by an explicit law.

b utterances, s symbols, n states, u frames of the aligner, c acoustic features.
"""

from collections.abc import Callable, Sequence

from jaxtyping import Bool, Int
from torch import Tensor

from hmmtts.batch import Alignment, Batch
from hmmtts.nn.aligners.base import Aligner, Heard
from hmmtts.nn.aligners.hmm import HMMAligner
from hmmtts.nn.duration_laws import Predicted
from hmmtts.nn.emissions import Emission
from hmmtts.nn.encoders import Encoder


class SemiMarkovAligner(Aligner):
    """The HMM aligner with durations in the place of its transitions, and their hard limits."""

    def __init__(
        self,
        kin: Sequence[int],
        features: int,
        encoder: Encoder,
        emission: Callable[..., Emission],
        durations: Callable[..., Predicted],
        speakers: int = 1,
        languages: int = 1,
        states_per_symbol: int = 5,
    ) -> None:
        super().__init__()
        self.states_per_symbol = states_per_symbol
        law = durations(width=encoder.width)
        self.shortest, self.longest = law.shortest, law.longest
        self.hmm = HMMAligner(
            kin, features, encoder, emission, lambda width: law, speakers, languages, states_per_symbol
        )

    def fewest_frames(self, batch: Batch) -> Int[Tensor, "b"]:
        return batch.symbols * (self.states_per_symbol * self.shortest)

    def possible(self, batch: Batch) -> Bool[Tensor, "b"]:
        most = batch.symbols * (self.states_per_symbol * self.longest)
        return super().possible(batch) & (batch.acoustic_frames <= most)

    def forward(self, batch: Batch) -> Heard:
        return self.hmm(batch)

    def align(self, batch: Batch) -> Alignment:
        return self.hmm.align(batch)
