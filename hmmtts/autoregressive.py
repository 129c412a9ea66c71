"""A voice whose aligner is its decoder: the neural HMM models the mel itself, perhaps through a flow.

b utterances, s symbols, n states, t frames, m mel bins.

    ids, marks -> aligner -> cells;  mel -> flow -> z;  log p(mel | text) = log p(z | cells) + log |det dz/dmel|
    synthesis: cells -> z, frame by frame, until the last state is left -> inverse flow -> mel

There is no duration model, no pitch model and no spectral error: one exact likelihood, and nothing else, is trained.
"""

from collections.abc import Callable, Iterator
from itertools import tee
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.batch import Batch, Prediction
from hmmtts.nn import timing
from hmmtts.nn.aligners.neural_hmm import NeuralHMMAligner
from hmmtts.nn.decoders.flow import Flow, Mapped
from hmmtts.nn.lengths import Mean
from hmmtts.nn.neural_hmm.speech import Manner, speak, steps
from hmmtts.speech_model import Heard, Sizes, SpeechModel, nothing


class Frame(NamedTuple):
    """One frame of a stream."""

    mel: Float[Tensor, "m"]
    symbol: int
    begins: bool  # the first frame of its symbol


class Autoregressive(SpeechModel):
    aligner: NeuralHMMAligner
    flow: Flow | None

    def __init__(
        self,
        sizes: Sizes,
        aligner: Callable[..., NeuralHMMAligner],
        manner: Manner,
        decoder: Callable[..., Flow] | None = None,
    ) -> None:
        if (sizes.hop, sizes.offset) != (sizes.acoustic_hop, sizes.acoustic_offset):
            raise ValueError(
                f"acoustic_hop must be the mel's, {sizes.hop:g} s, got {sizes.acoustic_hop:g} s: a neural HMM that speaks "
                "hears the mel itself; choose features/acoustic=mel"
            )
        voices = {"speakers": sizes.speakers, "languages": sizes.languages}
        super().__init__(sizes, aligner(kin=sizes.kin, features=sizes.bins, **voices))
        self.manner = manner
        self.flow = None if decoder is None else decoder(bins=sizes.bins)

    def terms(self, batch: Batch) -> dict[str, Mean]:
        """Nats per frame of the mel."""
        heard = self.hear(batch)
        total = self.aligner.log_likelihood(heard.batch) + heard.log_determinant
        return {"nll": Mean(-total.sum(), batch.frames.sum())}

    def no_terms(self) -> dict[str, Mean]:
        if self.flow is not None:  # its statistics of the first batch are those of all processes together
            silence = next(self.parameters()).new_zeros(1, 2, self.sizes.bins)
            self.flow(silence, torch.zeros(1, dtype=torch.long, device=silence.device))
        return {"nll": nothing(self)}

    @torch.no_grad()
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
        """As of any model. `generator` gives the seed of what is drawn; without it, the same sound every time.

        The pitch is part of the mel and not known apart from it: NaN.
        """
        cells = self.aligner.cells(ids, symbols, marks, speaker, language)
        per_symbol, hop, offset = self.aligner.states_per_symbol, self.sizes.hop, self.sizes.offset
        made = speak(
            self.aligner.model,
            cells,
            symbols * per_symbol,
            self.aligner.keys(ids, symbols, seed_from(generator)),
            self.manner,
            rate=torch.as_tensor(rate).to(cells).expand(ids.shape).repeat_interleave(per_symbol, 1),
            durations=None if durations is None else state_frames(durations, per_symbol, hop, offset),
        )
        starts, ends = timing.boundaries(made.durations, per_symbol, hop, offset)
        mel = made.mel if self.flow is None else self.flow.inverse(made.mel, made.frames)
        return Prediction(mel.float(), made.frames, ends - starts, torch.full_like(mel[..., 0], torch.nan))

    @torch.no_grad()
    def stream(
        self, ids: Int[Tensor, "s"], marks: Int[Tensor, "s"], speaker: int = 0, language: int = 0, rate: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Frame]:  # fmt: skip
        """One utterance, frame by frame: the frames that `synthesize` gives, as soon as they are known.

        With a flow that is `flow.reach` frames later, for so many have to be known on either side.
        """
        symbols = torch.tensor([len(ids)], device=ids.device)
        voice = torch.tensor([[speaker], [language]], device=ids.device)
        cells = self.aligner.cells(ids[None], symbols, marks[None], voice[0], voice[1])
        per_symbol = self.aligner.states_per_symbol
        keys = self.aligner.keys(ids[None], symbols, seed_from(generator))
        paces = torch.full(cells.shape[:2], rate).to(cells)
        made = steps(self.aligner.model, cells, symbols * per_symbol, keys, self.manner, paces)
        events, sounds = tee(made)
        mels = (step.mel[0] for step in sounds)
        for step, mel in zip(
            events, mels if self.flow is None else self.flow.inverse_stream(mels), strict=True
        ):
            state = int(step.state)
            begins = bool(step.entered) and state % per_symbol == 0
            yield Frame(mel.float(), state // per_symbol, begins)

    def hear(self, batch: Batch) -> Heard:
        """The mel itself, whatever the acoustic features are, or what the flow makes of it."""
        if self.flow is None:
            z, log_determinant = Mapped(batch.mel, batch.mel.new_zeros(len(batch.mel)))
        else:
            z, log_determinant = self.flow(batch.mel, batch.frames)
        return Heard(batch._replace(acoustic=z, acoustic_frames=batch.frames), log_determinant)


def state_frames(
    seconds: Float[Tensor, "b s"], per_symbol: int, hop: float, offset: float
) -> Int[Tensor, "b n"]:
    """Frames of the states such that the symbols end where these durations say, a frame per state at least."""
    ends = ((seconds.nan_to_num(0.0).cumsum(1) - offset) / hop + 0.5).round().long()
    frames = torch.diff(ends, dim=1, prepend=torch.zeros_like(ends[:, :1])).clamp(min=per_symbol)
    cuts = torch.arange(per_symbol + 1, device=seconds.device) * frames[..., None] // per_symbol
    return torch.diff(cuts, dim=2).flatten(1)


def seed_from(generator: torch.Generator | None) -> int | None:
    return None if generator is None else int(torch.randint(2**31, (1,), generator=generator))
