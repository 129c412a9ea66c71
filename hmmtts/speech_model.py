"""What a voice promises, whatever it is made of. No Lightning, no files, no audio.

b utterances, s symbols, n states, t frames of the mel, u frames of the aligner, m mel bins.

    means(batch), losses(batch)   what training weighs and sums
    align(batch)                  recordings with their text -> the time of every symbol
    synthesize(ids, marks, ...)   text -> mel, with the time of every symbol

hmmtts.model has an aligner beside a parallel decoder; in hmmtts.autoregressive the aligner itself speaks.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hmmtts.batch import Alignment, Batch, Prediction
from hmmtts.nn import timing
from hmmtts.nn.aligners import Aligner
from hmmtts.nn.lengths import Mean, mask


class Sizes(NamedTuple):
    """What only the data knows. Plain data, so that a bundle keeps it."""

    kin: tuple[int, ...]  # of every symbol, the number of the one it resembles: hmmtts.build.objects.kin
    bins: int  # of the mel
    features: int  # that the aligner sees
    hop: float  # of the mel's frames, in seconds
    acoustic_hop: float
    offset: float = 0.0  # seconds: the centre of the mel's frame 0
    acoustic_offset: float = 0.0
    speakers: int = 1
    languages: int = 1


class Aligned(NamedTuple):
    """A batch aligned with its text. An utterance without an alignment has zeros, path -1 and NaN times."""

    alignment: Alignment
    starts: Float[Tensor, "b s"]  # seconds; NaN in the padding
    ends: Float[Tensor, "b s"]


class Heard(NamedTuple):
    """What the aligner is to explain, in `batch.acoustic`, and what its density owes to the recording's."""

    batch: Batch
    log_determinant: Float[Tensor, "b"]


class SpeechModel(nn.Module, ABC):
    def __init__(self, sizes: Sizes, aligner: Aligner) -> None:
        super().__init__()
        self.sizes = sizes
        self.aligner = aligner

    @abstractmethod
    def terms(self, batch: Batch) -> dict[str, Mean]:
        """Named losses of a batch that counts and can be aligned, each a mean over what is real; `nll` is one."""

    @abstractmethod
    def no_terms(self) -> dict[str, Mean]:
        """The same names: zeros that every parameter takes part in, as data-parallel training asks of each rank."""

    @abstractmethod
    def hear(self, batch: Batch) -> Heard:
        """What the aligner explains in place of the recordings: themselves, or what a flow makes of them."""

    @abstractmethod
    def synthesize(
        self,
        ids: Int[Tensor, "b s"],
        symbols: Int[Tensor, "b"],
        marks: Int[Tensor, "b s"],
        speaker: Int[Tensor, "b"],
        language: Int[Tensor, "b"],
        rate: float | Float[Tensor, "b s"] = 1.0,
        generator: torch.Generator | None = None,
        durations: Float[Tensor, "b s"] | None = None,
    ) -> Prediction:
        """Speech with the model's own durations, `rate` times as fast, or with `durations` in seconds per symbol.

        The model must be in eval mode. `generator` feeds what is random in it, if anything is.
        """

    def losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """`means`, divided."""
        return {name: mean.value for name, mean in self.means(batch).items()}

    def means(self, batch: Batch) -> dict[str, Mean]:
        """Named terms to weigh and sum, each a mean over what is real; `nll` in nats per acoustic frame.

        `impossible` counts the utterances that have fewer frames than states. They and the repeats that a batch may
        hold (Batch.counted) change no other term and no gradient.
        """
        enough = self.possible(batch)
        impossible = (batch.counted & ~enough).sum()
        kept = batch.counted & enough
        if not bool(kept.all()):
            batch = batch.take(kept)
        terms = self.terms(batch) if batch.names else self.no_terms()
        return {**terms, "impossible": Mean(impossible, torch.ones_like(impossible))}

    def possible(self, batch: Batch) -> Bool[Tensor, "b"]:
        """Which utterances have acoustic frames enough for their states."""
        return self.aligner.possible(batch)

    @torch.no_grad()
    def align(self, batch: Batch) -> Aligned:
        """The aligner's path through the recordings, and the time of every symbol that follows from it."""
        possible = self.possible(batch)
        b, s = batch.ids.shape
        u, n = batch.acoustic.shape[1], s * self.aligner.states_per_symbol
        new = batch.acoustic.new_zeros
        path = torch.full((b, u), -1, device=batch.ids.device)
        whole = Alignment(new(b, dtype=torch.float64), new(b, u, n), path, new(b, n))
        if bool(possible.any()):
            heard = self.hear(batch.take(possible))
            found = self.aligner.align(heard.batch)
            density = found.log_likelihood + heard.log_determinant
            fill(whole, possible, found._replace(log_likelihood=density))
        starts, ends = timing.boundaries(
            whole.durations,
            self.aligner.states_per_symbol,
            self.sizes.acoustic_hop,
            self.sizes.acoustic_offset,
        )
        known = possible[:, None] & mask(batch.symbols, s)
        return Aligned(whole, starts.where(known, torch.nan), ends.where(known, torch.nan))


def fill(whole: Alignment, possible: Bool[Tensor, "b"], part: Alignment) -> None:
    """Put the alignment of some utterances, padded less, in its places in that of all."""
    whole.log_likelihood[possible] = part.log_likelihood
    whole.posterior[possible, : part.posterior.shape[1], : part.posterior.shape[2]] = part.posterior
    whole.path[possible, : part.path.shape[1]] = part.path
    whole.durations[possible, : part.durations.shape[1]] = part.durations


def nothing(model: nn.Module) -> Mean:
    """The mean of no data, which every parameter takes part in, as data-parallel training asks of each rank's every step."""
    zero = torch.stack([parameter.flatten()[0] * 0 for parameter in model.parameters()]).sum()
    return Mean(zero, torch.zeros((), dtype=torch.long, device=zero.device))
