"""A corpus spoken by espeak-ng: sentences in, audio files and utterances with exact times of phones and words out."""

import logging
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from lhotse.supervision import AlignmentItem

from hmmtts.data.manifest import Utterance
from hmmtts.text.espeak_speech import Recorded, record
from hmmtts.text.frontend import NO_WORD, Transcript

log = logging.getLogger(__name__)


def speak_corpus(
    sentences: Mapping[str, str], folder: Path, language: str, words_per_minute: int = 175
) -> list[Utterance]:
    """`sentences`: id -> text. Writes folder/ID.flac; a sentence without a time for each phone is left out and named."""
    folder.mkdir(parents=True, exist_ok=True)
    recorded = record(sentences, folder, language, words_per_minute)
    for name, sentence in recorded.items():
        if sentence.refused:
            log.warning("%s is left out: %s", name, sentence.refused)
    return [
        _utterance(name, folder / f"{name}.flac", sentences[name], language, sentence)
        for name, sentence in recorded.items()
        if not sentence.refused
    ]


def _utterance(name: str, path: Path, text: str, language: str, recorded: Recorded) -> Utterance:
    transcript, rate = recorded.transcript, recorded.sample_rate
    phones = [
        AlignmentItem(symbol, start / rate, (end - start) / rate)
        for symbol, (start, end) in zip(transcript.symbols, pairwise(recorded.boundaries), strict=True)
    ]
    duration = recorded.boundaries[-1] / rate
    return Utterance(
        id=name,
        audio=path,
        rate=rate,
        start=0.0,
        duration=duration,
        audio_duration=duration,
        text=text,
        speaker="espeak",
        language=language,
        phones=transcript.symbols,
        phone_times=phones,
        word_times=_words(transcript, phones),
    )


def _words(transcript: Transcript, phones: list[AlignmentItem]) -> list[AlignmentItem]:
    """A word lasts from the start of its first phone to the end of its last."""
    spans: dict[int, list[AlignmentItem]] = {}
    for phone, word in zip(phones, transcript.word_of, strict=True):
        if word != NO_WORD:
            spans.setdefault(word, []).append(phone)
    return [
        AlignmentItem(
            transcript.words[word], span[0].start, span[-1].start + span[-1].duration - span[0].start
        )
        for word, span in spans.items()
    ]
