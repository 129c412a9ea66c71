"""Phones with their times while somebody speaks a known text, by a voice. u frames of the aligner, c features, n states."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.align import following
from hmmtts.align.following import Phone, Text
from hmmtts.audio.io import Wave
from hmmtts.audio.streaming import resampled
from hmmtts.build.bundle import Bundle
from hmmtts.hmm import streaming
from hmmtts.nn.aligners.hmm import HMMAligner
from hmmtts.text import SILENCE, Transcript


@torch.inference_mode()
def text_of(bundle: Bundle, transcript: Transcript, speaker: int, language: int) -> Text:
    """The states of the text, which the aligner's encoder knows before it hears anything."""
    aligner, sizes = bundle.model.aligner, bundle.model.sizes
    if not isinstance(aligner, HMMAligner):
        raise ValueError(
            f"aligner must be the HMM (aligner=hmm) to follow a speaker, this voice has {type(aligner).__name__}, which hears "
            "the past of the sound too: align the whole recording instead"
        )
    symbols, per_symbol = transcript.symbols, aligner.states_per_symbol
    ids, count = torch.tensor([bundle.facts.symbols.encode(symbols)]), torch.tensor([len(symbols)])
    h = aligner.encoder(aligner.embedding(ids, torch.tensor([speaker]), torch.tensor([language])), count)
    cells = aligner.layer.states(h.float())

    @torch.inference_mode()
    def log_obs(features: Float[Tensor, "u c"]) -> Float[Tensor, "u n"]:
        return aligner.layer.emission(cells, features[None])[0]

    def edge(frame: int) -> float:
        return max(0.0, sizes.acoustic_offset + (frame - 0.5) * sizes.acoustic_hop)

    owners = [i for i in range(len(symbols)) for _ in range(per_symbol)]
    return Text(streaming.prepare(aligner.layer.transitions(cells)), log_obs, symbols, owners, edge)


def follow(bundle: Bundle, text: Text, pieces: Iterable[Wave], rate: int, lag: float) -> Iterator[Phone]:
    """From 0 to the end of the sound without gaps, as hmmtts.synthesis.listening.align makes them of the whole."""
    features, samples = bundle.features, 0

    def counted() -> Iterator[Wave]:
        nonlocal samples
        for piece in pieces:
            samples += len(piece)
            yield piece

    def close(last: Phone) -> list[Phone]:
        seconds = samples / rate
        if seconds - last.end > bundle.model.sizes.hop and last.label != SILENCE:
            return [last, Phone(SILENCE, last.end, seconds)]
        return [last._replace(end=seconds)]

    sound = resampled(counted(), rate, features.sample_rate)
    return following.follow(text, features.acoustic, bundle.facts.acoustic, sound, lag, close)
