"""The contract between the layers: what a batch holds and what an aligner and a decoder give back.

Letters, the same in every file: b utterances, s symbols, n states, t frames of the decoder, u frames of the
aligner, m mel bins, c acoustic features of the aligner, d width, k components. A count per utterance is named
after what it counts (`symbols`, `frames`); what lies beyond it is padding, which nothing may read as data.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """Utterances, padded at the end. Times are in seconds; where the corpus does not know them they are NaN."""

    names: list[str]  # the utterances' ids; "" for a repeat that only keeps the ranks in step (see `counted`)
    ids: Int[Tensor, "b s"]  # number of each symbol in the symbol table; 0 is padding
    symbols: Int[Tensor, "b"]
    marks: Int[Tensor, "b s"]  # place of the symbol in its word: hmmtts.text.Mark
    mel: Float[Tensor, "b t m"]  # normalised log-mel
    frames: Int[Tensor, "b"]
    f0: Float[Tensor, "b t"]  # Hz, 0 where unvoiced
    acoustic: Float[Tensor, "b u c"]  # what the aligner sees, perhaps at a finer hop than the mel
    acoustic_frames: Int[Tensor, "b"]
    speaker: Int[Tensor, "b"]
    language: Int[Tensor, "b"]
    starts: Float[Tensor, "b s"]  # true start of each symbol: for judging, never for training
    ends: Float[Tensor, "b s"]

    @property
    def counted(self) -> Bool[Tensor, "b"]:
        """False for the repeats of evaluation on several ranks: no loss and no metric may count them."""
        return torch.tensor([name != "" for name in self.names], device=self.frames.device)

    def take(self, which: Bool[Tensor, "b"]) -> "Batch":
        """Only these utterances, padded no further than they need: the batch as if the others had never been in it."""
        names = [name for name, wanted in zip(self.names, which.tolist(), strict=True) if wanted]
        fields = {name: value[which] for name, value in self._asdict().items() if name != "names"}
        lengths = {
            "symbols": ("ids", "marks", "starts", "ends"),
            "frames": ("mel", "f0"),
            "acoustic_frames": ("acoustic",),
        }
        for length, padded in lengths.items():
            longest = int(fields[length].max()) if names else 0
            fields |= {name: fields[name][:, :longest] for name in padded}
        return Batch(names=names, **fields)


class Alignment(NamedTuple):
    """How the frames of an aligner belong to its states."""

    log_likelihood: Float[Tensor, "b"]  # nats, float64
    posterior: Float[Tensor, "b u n"]
    path: Int[Tensor, "b u"]  # best state of every frame, -1 in the padding
    durations: Float[Tensor, "b n"]  # frames that the best path spends in each state


class Prediction(NamedTuple):
    """Speech made from text."""

    mel: Float[Tensor, "b t m"]
    frames: Int[Tensor, "b"]
    durations: Float[Tensor, "b s"]  # seconds of every symbol
    f0: Float[Tensor, "b t"]  # Hz, 0 where unvoiced
