"""A voice with an aligner beside a parallel decoder.

b utterances, s symbols, n states, t frames of the decoder, u frames of the aligner, m mel bins, d width.
Only where the durations come from differs between training and synthesis:

    ids, marks -> encoder -> h[b s d] -> states -> cells[b n d] -> by durations -> frames[b t d] -> pitch, decoder -> mel
    ids, acoustic -> aligner -> durations of the states, and log p(sound | text)
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.batch import Batch, Prediction
from hmmtts.nn import timing
from hmmtts.nn.aligners import Aligner
from hmmtts.nn.decoders import Decoder
from hmmtts.nn.durations import Duration, Spoken
from hmmtts.nn.embedding import Embedding
from hmmtts.nn.encoders import Encoder
from hmmtts.nn.lengths import Mean, mask
from hmmtts.nn.losses import spectral_error
from hmmtts.nn.pitch import Pitch
from hmmtts.nn.states import States
from hmmtts.speech_model import Heard, Sizes, SpeechModel, nothing


class TTSModel(SpeechModel):
    """Slots are given as what the sizes complete: a class, or a partial of one as conf/ makes them."""

    def __init__(
        self,
        sizes: Sizes,
        encoder: Encoder,
        aligner: Callable[..., Aligner],
        duration: Callable[..., Duration],
        decoder: Callable[..., Decoder],
        pitch: Callable[..., Pitch],
    ) -> None:
        width, voices = encoder.width, {"speakers": sizes.speakers, "languages": sizes.languages}
        super().__init__(sizes, aligner(kin=sizes.kin, features=sizes.features, **voices))
        self.embedding = Embedding(width, sizes.kin, **voices)
        self.encoder = encoder
        per_symbol = self.aligner.states_per_symbol
        self.duration = duration(width=width, states_per_symbol=per_symbol, hop=sizes.acoustic_hop)
        self.states = States(width, per_symbol)
        self.placed = nn.Linear(timing.PLACES, width)
        self.pitch = pitch(width=width)
        self.decoder = decoder(width=width, bins=sizes.bins)
        if not isinstance(self.decoder, Decoder):
            raise ValueError(
                f"decoder must be a {Decoder.__module__}.Decoder, which draws a mel from vectors of text, got "
                f"{type(self.decoder).__name__}; decoder=flow goes with aligner=neural_hmm"
            )

    def terms(self, batch: Batch) -> dict[str, Mean]:
        heard = self.aligner(batch)
        seconds = timing.state_seconds(heard.durations, self.sizes.acoustic_hop, self.sizes.acoustic_offset)
        h = self.encode(batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language)
        x = self.spread(h, seconds, batch.mel.shape[1])
        contour = self.pitch(x, batch.frames)
        mel = self.decoder(x + self.pitch.show(batch.f0), batch.frames)
        return {
            "nll": Mean(-heard.log_likelihood.sum(), batch.acoustic_frames.sum()),
            "mel": spectral_error(mel, batch.mel, batch.frames),
            **self.duration.losses(h, Spoken(seconds, batch.symbols)),
            **self.pitch.losses(contour, batch.f0, batch.frames),
        }

    def no_terms(self) -> dict[str, Mean]:
        return dict.fromkeys(("nll", "mel", *self.duration.TERMS, "f0", "voicing"), nothing(self))

    def hear(self, batch: Batch) -> Heard:
        return Heard(batch, batch.acoustic.new_zeros(len(batch.names)))

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
        h = self.encode(ids, symbols, marks, speaker, language)
        seconds = self.duration(h, symbols, generator).unflatten(1, (ids.shape[1], -1))
        if durations is not None:
            real = mask(symbols, ids.shape[1])
            own = seconds.sum(2)
            scale = torch.where(real, durations / own.clamp(min=1e-6), 0.0)
        else:
            scale = torch.ones_like(seconds[..., 0]) / rate
        seconds = seconds * scale[..., None]
        spoken = seconds.sum(2)
        frames = ((spoken.sum(1) - self.sizes.offset) / self.sizes.hop).floor().long().clamp(min=0) + 1
        x = self.spread(h, seconds.flatten(1), int(frames.max()))
        f0 = self.pitch.hertz(self.pitch(x, frames))
        mel = self.decoder(x + self.pitch.show(f0), frames).float()
        real = mask(frames, mel.shape[1])
        return Prediction(torch.where(real[..., None], mel, 0.0), frames, spoken, torch.where(real, f0, 0.0))

    def encode(
        self, ids: Int[Tensor, "b s"], symbols: Int[Tensor, "b"], marks: Int[Tensor, "b s"],
        speaker: Int[Tensor, "b"], language: Int[Tensor, "b"],
    ) -> Float[Tensor, "b s d"]:  # fmt: skip
        return self.encoder(self.embedding(ids, marks, speaker, language), symbols)

    def spread(
        self, h: Float[Tensor, "b s d"], seconds: Float[Tensor, "b n"], frames: int
    ) -> Float[Tensor, "b t d"]:
        """The states' vectors over the decoder's frames, and where in state and symbol each frame lies."""
        times = timing.frame_times(frames, self.sizes.hop, self.sizes.offset)
        placed = timing.place(seconds, self.states.count, times)
        cells = self.states(h)
        index = placed.state[..., None].expand(-1, -1, cells.shape[2])
        return cells.gather(1, index) + self.placed(placed.place)
