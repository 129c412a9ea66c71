"""What a voice gives back: sound, and labelled stretches of time. t samples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hmmtts.align.panel import Aligned, Phone, Word
from hmmtts.text import NO_WORD, Transcript


class Interval(NamedTuple):
    """A phone or a word."""

    label: str
    start: float  # seconds
    end: float
    confidence: float  # mean posterior probability between the boundaries; 1 where the voice itself spoke


class Speech(NamedTuple):
    audio: Float[np.ndarray, "t"]
    sample_rate: int
    phones: list[Interval]  # without gaps, a pause is `sil`
    words: list[Interval]  # pauses left out

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate


class Alignment(NamedTuple):
    phones: list[Interval]  # from 0 to `seconds` without gaps
    words: list[Interval]
    seconds: float
    score: float  # nats per frame of the aligner; far below that of other utterances: another text is spoken


def words_of(transcript: Transcript, phones: Sequence[Interval]) -> list[Interval]:
    """The words that the phones, one for every symbol, make up. Confidence: that of the phones, by their length."""
    spans: dict[int, list[Interval]] = {}
    for phone, word in zip(phones, transcript.word_of, strict=True):
        if word != NO_WORD:
            spans.setdefault(word, []).append(phone)
    return [_word(transcript.words[word], span) for word, span in spans.items()]


def _word(label: str, span: Sequence[Interval]) -> Interval:
    lengths = np.array([phone.end - phone.start for phone in span]) + 1e-9
    confidence = float(np.average([phone.confidence for phone in span], weights=lengths))
    return Interval(label, span[0].start, span[-1].end, confidence)


def joined(parts: Sequence[Speech]) -> Speech:
    """One after the other, as one."""
    moved, start = [], 0.0
    for part in parts:
        moved.append(later(part, start))
        start += part.seconds
    return Speech(
        np.concatenate([part.audio for part in parts]),
        parts[0].sample_rate,
        [phone for part in moved for phone in part.phones],
        [word for part in moved for word in part.words],
    )


def later(speech: Speech, seconds: float) -> Speech:
    """The same sound, as part of a longer one that has begun this much earlier."""

    def move(interval: Interval) -> Interval:
        return interval._replace(start=interval.start + seconds, end=interval.end + seconds)

    return speech._replace(phones=[*map(move, speech.phones)], words=[*map(move, speech.words)])


def as_aligned(
    name: str, seconds: float, phones: Sequence[Interval], words: Sequence[Interval], score: float = 0.0
) -> Aligned:
    """What hmmtts.align.output writes as TextGrid, CTM, JSON or labels."""
    return Aligned(
        name,
        seconds,
        [Word(word.label, word.start, word.end) for word in words],
        [Phone(*p) for p in phones],
        score,
    )
