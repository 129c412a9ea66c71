"""Recordings aligned by a voice. l samples, u frames of the aligner, s symbols, n states."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.audio import io
from hmmtts.audio.features import extract
from hmmtts.build.bundle import Bundle
from hmmtts.data.collate import collate
from hmmtts.data.dataset import Item
from hmmtts.speech_model import Aligned
from hmmtts.synthesis.result import Alignment, Interval, words_of
from hmmtts.text import SILENCE, Transcript, marks


class Recording(NamedTuple):
    name: str
    wave: io.Wave
    rate: int
    transcript: Transcript
    speaker: int
    language: int

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate


@torch.inference_mode()
def align(bundle: Bundle, recordings: Sequence[Recording]) -> list[Alignment | str]:
    """In the order given; a sentence where there is no alignment."""
    found: list[Alignment | str] = [""] * len(recordings)
    items, places = [], []
    for place, recording in enumerate(recordings):
        try:
            items.append(item_of(bundle, recording))
            places.append(place)
        except ValueError as failure:
            found[place] = str(failure)
    if not items:
        return found
    batch = collate([item for item, _ in items])
    aligned = bundle.model.align(batch)
    possible, fewest = (
        bundle.model.possible(batch).tolist(),
        bundle.model.aligner.fewest_frames(batch).tolist(),
    )
    for row, ((_, cut), place) in enumerate(zip(items, places, strict=True)):
        if possible[row]:
            found[place] = _times(bundle, recordings[place], aligned, row, cut)
        else:
            found[place] = (
                f"{recordings[place].seconds:.2f} s of sound for {len(recordings[place].transcript.symbols)} symbols, "
                f"which need at least {fewest[row] * bundle.model.sizes.acoustic_hop:.2f} s: "
                "is this the text of another recording?"
            )
    return found


def item_of(bundle: Bundle, recording: Recording) -> tuple[Item, float]:
    """What the model hears, and the seconds cut off before it. An aligner does not ask for the pitch."""
    features, facts = bundle.features, bundle.facts
    wave = io.resample(recording.wave, recording.rate, features.sample_rate)
    first = 0
    if features.trim is not None:
        first, last = io.speech_span(wave, features.sample_rate, *features.trim)
        wave = wave[first:last]
    sound = torch.from_numpy(wave)[None]
    mel = torch.from_numpy(extract(features.mel, sound))
    unknown = torch.full((len(recording.transcript.symbols),), torch.nan)
    item = Item(
        name=recording.name,
        ids=torch.tensor(facts.symbols.encode(recording.transcript.symbols)),
        marks=torch.tensor([int(mark) for mark in marks(recording.transcript)]),
        mel=facts.mel(mel),
        f0=torch.zeros(len(mel)),
        acoustic=facts.acoustic(torch.from_numpy(extract(features.acoustic, sound))),
        speaker=recording.speaker,
        language=recording.language,
        starts=unknown,
        ends=unknown,
    )
    return item, first / features.sample_rate


def _times(bundle: Bundle, recording: Recording, aligned: Aligned, row: int, cut: float) -> Alignment:
    """Phones over the whole recording: what was cut off is a pause, or part of the one that is there."""
    symbols = recording.transcript.symbols
    edges = cut + np.append(aligned.starts[row, : len(symbols)].numpy(), aligned.ends[row, len(symbols) - 1])
    edges = np.minimum(edges, recording.seconds)
    sure = _confidences(aligned.alignment.posterior[row], aligned.alignment.path[row], len(symbols), bundle)
    phones = [
        Interval(symbol, float(start), float(end), confidence)
        for symbol, start, end, confidence in zip(symbols, edges[:-1], edges[1:], sure, strict=True)
    ]
    words = words_of(recording.transcript, phones)
    phones = _from_edge_to_edge(phones, recording.seconds, bundle.model.sizes.hop)
    frames = int((aligned.alignment.path[row] >= 0).sum())
    return Alignment(phones, words, recording.seconds, float(aligned.alignment.log_likelihood[row]) / frames)


def _from_edge_to_edge(phones: list[Interval], seconds: float, hop: float) -> list[Interval]:
    first, last = phones[0], phones[-1]
    if first.start > 0:
        phones = [Interval(SILENCE, 0.0, first.start, first.confidence), *phones]
    if seconds - last.end > hop and last.label != SILENCE:
        return [*phones, Interval(SILENCE, last.end, seconds, last.confidence)]
    return [*phones[:-1], last._replace(end=seconds)]


def _confidences(posterior: Float[Tensor, "u n"], path: Tensor, symbols: int, bundle: Bundle) -> list[float]:
    """The mean posterior of each symbol over the frames that the best path spends in it."""
    per_symbol = bundle.model.aligner.states_per_symbol
    real = path >= 0
    symbol = path[real] // per_symbol
    belief = (
        posterior[real].unflatten(1, (-1, per_symbol)).sum(2).gather(1, symbol[:, None]).squeeze(1).double()
    )
    total = torch.zeros(symbols, dtype=torch.float64).index_add(0, symbol, belief)
    return (total / torch.bincount(symbol, minlength=symbols)).clamp(max=1.0).tolist()
