"""The neural HMM as an aligner. b utterances, s symbols, n states, u frames, c features."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts import hmm
from hmmtts.batch import Alignment, Batch
from hmmtts.nn.aligners.base import Aligner, Heard
from hmmtts.nn.neural_hmm import NeuralHMM, draws
from hmmtts.nn.neural_hmm.text import TextCells


class NeuralHMMAligner(Aligner):
    """It models `batch.acoustic`. Where that is the mel itself, it needs no decoder to speak: hmmtts.autoregressive.

    Outside training the prenet's dropout is drawn from `seed` and the symbols, so that an utterance is aligned and
    judged the same every time and in whatever batch.
    """

    def __init__(
        self,
        kin: Sequence[int],
        features: int,
        text: Callable[..., TextCells],
        model: Callable[..., NeuralHMM],
        speakers: int = 1,
        languages: int = 1,
        states_per_symbol: int = 2,
        width: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if states_per_symbol < 1:
            raise ValueError(f"states_per_symbol must be at least 1, got {states_per_symbol}")
        self.states_per_symbol, self.seed = states_per_symbol, seed
        self.text = text(
            kin=kin, speakers=speakers, languages=languages, states_per_symbol=states_per_symbol, width=width
        )
        self.model = model(bins=features, cell=width)

    def fewest_frames(self, batch: Batch) -> Int[Tensor, "b"]:
        return batch.symbols * self.states_per_symbol

    def cells(
        self, ids: Int[Tensor, "b s"], symbols: Int[Tensor, "b"], marks: Int[Tensor, "b s"],
        speaker: Int[Tensor, "b"], language: Int[Tensor, "b"],
    ) -> Float[Tensor, "b n d"]:  # fmt: skip
        return self.text(ids, symbols, marks, speaker, language)

    def log_likelihood(self, batch: Batch) -> Float[Tensor, "b"]:
        return self.model(self._cells_of(batch), *self._sound_of(batch), self._kept(batch))

    def forward(self, batch: Batch) -> Heard:
        """The durations cost a pass of their own; a model that does not ask for them takes `log_likelihood`."""
        total = self.log_likelihood(batch)
        return Heard(total, self.align(batch).durations)

    @torch.no_grad()
    def align(self, batch: Batch) -> Alignment:
        cells, (x, frames, states) = self._cells_of(batch), self._sound_of(batch)
        log_obs, topology = self.model.scores(cells, x, frames, states, self._kept(batch))
        path = hmm.viterbi(log_obs, topology, frames, states).path
        return Alignment(
            hmm.log_likelihood(log_obs, topology, frames, states),
            hmm.posteriors(log_obs, topology, frames, states),
            path,
            hmm.hard_durations(path, log_obs.shape[2]).to(log_obs.dtype),
        )

    def keys(self, ids: Int[Tensor, "b s"], symbols: Int[Tensor, "b"], seed: int | None = None) -> list[int]:
        """What the randomness of each utterance is drawn from."""
        return draws.keys(ids, symbols, self.seed if seed is None else seed)

    def _cells_of(self, batch: Batch) -> Float[Tensor, "b n d"]:
        return self.cells(batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language)

    def _sound_of(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return batch.acoustic, batch.acoustic_frames, batch.symbols * self.states_per_symbol

    def _kept(self, batch: Batch) -> Tensor | None:
        if self.training:
            return None
        memory = self.model.memory
        keys = self.keys(batch.ids, batch.symbols)
        return draws.kept_units(
            keys, batch.acoustic.shape[1], memory.prenet, memory.dropout, batch.acoustic.device
        )
