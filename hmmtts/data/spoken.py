"""A corpus spoken by espeak-ng: sentences in, audio files and utterances with exact times of phones and words out."""

import logging
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import soundfile
from lhotse.supervision import AlignmentItem

from hmmtts.data.manifest import Utterance
from hmmtts.text.espeak import Espeak
from hmmtts.text.espeak_speech import Spoken, speak
from hmmtts.text.frontend import NO_WORD, Transcript

log = logging.getLogger(__name__)


def speak_corpus(
    sentences: Mapping[str, str], folder: Path, language: str, words_per_minute: int = 175
) -> list[Utterance]:
    """`sentences`: id -> text. Writes folder/ID.flac; a sentence without a time for each phone is left out and named.

    espeak-ng gives other samples when it has spoken something before. Hence a fresh process and a fixed order: two
    runs give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        spoken, refused = process.submit(
            _speak_all, dict(sentences), folder, language, words_per_minute
        ).result()
    for name, reason in refused.items():
        log.warning("%s is left out: %s", name, reason)
    return spoken


def _speak_all(
    sentences: dict[str, str], folder: Path, language: str, words_per_minute: int
) -> tuple[list[Utterance], dict[str, str]]:
    frontend = Espeak(language)
    utterances: list[Utterance] = []
    refused: dict[str, str] = {}
    for name, text in sentences.items():
        transcript = frontend(text)
        try:
            spoken = speak(text, language, transcript, words_per_minute)
        except ValueError as error:
            refused[name] = str(error)
            continue
        path = folder / f"{name}.flac"
        soundfile.write(path, spoken.samples, spoken.sample_rate, subtype="PCM_16")
        utterances.append(_utterance(name, path, text, language, transcript, spoken))
    return utterances, refused


def _utterance(
    name: str, path: Path, text: str, language: str, transcript: Transcript, spoken: Spoken
) -> Utterance:
    phones = [
        AlignmentItem(symbol, start / spoken.sample_rate, (end - start) / spoken.sample_rate)
        for symbol, (start, end) in zip(
            transcript.symbols, pairwise([*spoken.starts, len(spoken.samples)]), strict=True
        )
    ]
    duration = len(spoken.samples) / spoken.sample_rate
    return Utterance(
        id=name,
        audio=path,
        rate=spoken.sample_rate,
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
