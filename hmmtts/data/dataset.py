"""From an utterance of the manifest to one item of a batch. s symbols, t frames, m mel bins, u frames of the aligner."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from lhotse.supervision import AlignmentItem
from torch import Tensor
from torch.utils.data import Dataset

from hmmtts.audio.normaliser import Normaliser
from hmmtts.data.cache import FeatureCache
from hmmtts.data.manifest import Utterance
from hmmtts.text.frontend import NO_WORD, SILENCE, Frontend, Transcript, from_alignment, marks
from hmmtts.text.phones import Phones
from hmmtts.text.symbols import SymbolTable


class Draw(NamedTuple):
    """An utterance that a sampler chose."""

    utterance: Utterance
    epoch: int | None = None  # of training: the randomness of an item depends on it; None: there is none
    counted: bool = True  # False: a repeat, there only so that every rank does the same number of steps


class Item(NamedTuple):
    """One utterance of a Batch, whose fields are described there."""

    name: str
    ids: Int[Tensor, "s"]
    marks: Int[Tensor, "s"]
    mel: Float[Tensor, "t m"]
    f0: Float[Tensor, "t"]
    acoustic: Float[Tensor, "u c"]
    speaker: int
    language: int
    starts: Float[Tensor, "s"]
    ends: Float[Tensor, "s"]


Augmentation = Callable[[Item, torch.Generator], Item]


class Transcriber:
    """Utterance -> Transcript: the corpus's own phones where it gives them, else what the frontend reads in the text.

    `corpus_phones` False always reads the text, so that training spells as synthesis from text will.
    """

    def __init__(self, frontend: Frontend, corpus_phones: bool = True) -> None:
        self.frontend, self.corpus_phones = frontend, corpus_phones
        self.phones = Phones()

    def __call__(self, utterance: Utterance) -> Transcript:
        if self.corpus_phones and utterance.phone_times:
            return from_alignment(utterance.phone_times, utterance.word_times or [])
        if self.corpus_phones and utterance.phones:
            return self.phones(" ".join(utterance.phones))
        try:
            return self.frontend(utterance.text, utterance.language)
        except ValueError as error:
            raise ValueError(f"{utterance.where}: {error}") from error


class SpeechDataset(Dataset[Item]):
    """Draw -> Item. It holds no list of utterances: a sampler draws them, from memory or from a stream.

    `augment` changes an item of training; its generator is seeded by (seed, epoch, utterance), so that an item comes
    out the same in whichever worker, rank or life of a resumed run it is made.
    """

    def __init__(
        self,
        cache: FeatureCache,
        transcribe: Transcriber,
        symbols: SymbolTable,
        mel: Normaliser,
        acoustic: Normaliser,
        speakers: Sequence[str] = ("",),
        languages: Sequence[str] = ("",),
        augment: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.cache, self.transcribe, self.symbols = cache, transcribe, symbols
        self.mel, self.acoustic = mel, acoustic
        self.speakers = {name: number for number, name in enumerate(speakers)}
        self.languages = {name: number for number, name in enumerate(languages)}
        self.augment, self.seed = augment, seed

    def __getitem__(self, draw: Draw) -> Item:
        utterance = draw.utterance
        transcript, tracks = self.transcribe(utterance), self.cache(utterance)
        starts, ends = symbol_times(transcript, utterance.phone_times or [])
        item = Item(
            name=utterance.id if draw.counted else "",
            ids=torch.tensor(self.symbols.encode(transcript.symbols, utterance.where)),
            marks=torch.tensor([int(mark) for mark in marks(transcript)]),
            mel=self.mel(torch.from_numpy(tracks.mel)),
            f0=torch.from_numpy(tracks.f0),
            acoustic=self.acoustic(torch.from_numpy(tracks.acoustic)),
            speaker=number_of(self.speakers, utterance.speaker, "speaker", utterance),
            language=number_of(self.languages, utterance.language or "", "language", utterance),
            starts=torch.tensor(starts) - tracks.start,
            ends=torch.tensor(ends) - tracks.start,
        )
        if self.augment is None or draw.epoch is None:
            return item
        return self.augment(item, generator(self.seed, draw.epoch, utterance.id))


def generator(seed: int, epoch: int, name: str) -> torch.Generator:
    """A generator of its own for every utterance of every epoch."""
    digest = hashlib.blake2b(f"{seed} {epoch} {name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def number_of(numbers: dict[str, int], name: str, kind: str, utterance: Utterance) -> int:
    if name not in numbers:
        known = ", ".join(map(repr, numbers))
        raise ValueError(
            f"{utterance.where}: {kind} {name!r} was not in the training data, which has {known}"
        )
    return numbers[name]


def symbol_times(
    transcript: Transcript, intervals: Sequence[AlignmentItem]
) -> tuple[list[float], list[float]]:
    """Start and end of every symbol in seconds, NaN for those that the alignment does not hold.

    Either side may have pauses, and the transcript punctuation, that the other lacks. If the labels differ beyond
    that, nothing is known: a wrong time would be worse than none.
    """
    unknown = [math.nan] * len(transcript.symbols)
    starts, ends = unknown.copy(), unknown.copy()
    left = list(intervals)
    for index, (symbol, word) in enumerate(zip(transcript.symbols, transcript.word_of, strict=True)):
        if left and left[0].symbol == SILENCE != symbol and word != NO_WORD:
            left.pop(0)
        if left and left[0].symbol == symbol:
            interval = left.pop(0)
            starts[index], ends[index] = interval.start, interval.start + interval.duration
        elif word != NO_WORD:
            return unknown, unknown
    return (unknown, unknown) if any(interval.symbol != SILENCE for interval in left) else (starts, ends)
