"""The exact HMM aligner. b utterances, s symbols, n states, u frames of the aligner, c acoustic features."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from hmmtts import hmm
from hmmtts.batch import Alignment, Batch
from hmmtts.nn.aligners.base import Aligner, Heard
from hmmtts.nn.duration_laws import Predicted
from hmmtts.nn.embedding import KinEmbedding
from hmmtts.nn.emissions import Emission
from hmmtts.nn.encoders import Encoder
from hmmtts.nn.layer import HMMLayer, Trellis
from hmmtts.nn.states import States
from hmmtts.nn.transitions import Transitions


class HMMAligner(Aligner):
    """It has an embedding and a small encoder of its own: an alignment needs to know a symbol and its neighbours, and
    the more it knows of the sentence, the easier it explains the sound with a wrong segmentation.
    """

    def __init__(
        self,
        kin: Sequence[int],
        features: int,
        encoder: Encoder,
        emission: Callable[..., Emission],
        transitions: Callable[..., Transitions | Predicted],
        speakers: int = 1,
        languages: int = 1,
        states_per_symbol: int = 5,
    ) -> None:
        super().__init__()
        width = encoder.width
        self.states_per_symbol = states_per_symbol
        self.embedding = KinEmbedding(width, kin, speakers, languages)
        self.encoder = encoder
        self.layer = HMMLayer(
            States(width, states_per_symbol),
            emission(width=width, features=features),
            transitions(width=width),
        )

    def fewest_frames(self, batch: Batch) -> Int[Tensor, "b"]:
        return batch.symbols * self.states_per_symbol

    def trellis(self, batch: Batch) -> Trellis:
        with torch.autocast(batch.acoustic.device.type, enabled=False):
            x = self.embedding(batch.ids, batch.speaker, batch.language)
            h = self.encoder(x, batch.symbols)
        return self.layer(h, batch.symbols, batch.acoustic, batch.acoustic_frames)

    def forward(self, batch: Batch) -> Heard:
        trellis = self.trellis(batch)
        durations = hmm.hard_durations(trellis.path(), trellis.log_obs.shape[2])
        return Heard(trellis.log_likelihood(), durations.to(trellis.log_obs.dtype))

    def align(self, batch: Batch) -> Alignment:
        with torch.no_grad():
            return self.layer.align(self.trellis(batch))
