"""Speech of espeak-ng with the exact time of every symbol that the frontend gives for the same text."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Int16

from hmmtts.text.espeak import Espeak
from hmmtts.text.espeak_library import NAME_BYTES, Phoneme, speech
from hmmtts.text.frontend import NO_WORD, Transcript

LEAD = 0.1  # seconds of silence before the first phone, where a recording has some too


class Spoken(NamedTuple):
    samples: Int16[np.ndarray, "t"]
    sample_rate: int
    starts: list[int]  # of every symbol of the transcript, in samples; the last one ends with the samples


class Recorded(NamedTuple):
    """A sentence that was spoken into a file, or why it was not."""

    transcript: Transcript
    boundaries: list[int]  # of the symbols, in samples: one more than symbols; empty if refused
    sample_rate: int = 0
    refused: str = ""


def record(
    sentences: Mapping[str, str], folder: Path, language: str, words_per_minute: int
) -> dict[str, Recorded]:
    """Speak every sentence into folder/ID.flac.

    espeak-ng gives other samples when it has spoken something before. Hence a fresh process and a fixed order: two
    runs give the same bytes.
    """
    request = json.dumps([dict(sentences), str(folder), language, words_per_minute])
    command = [sys.executable, "-m", "hmmtts.text.espeak_speech"]
    answer = subprocess.run(command, input=request, capture_output=True, text=True, encoding="utf-8")
    if answer.returncode:
        raise RuntimeError(f"the process that speaks failed with code {answer.returncode}:\n{answer.stderr}")
    recorded = json.loads(answer.stdout)
    return {name: Recorded(Transcript(*transcript), *rest) for name, (transcript, *rest) in recorded.items()}


def _record(
    sentences: Mapping[str, str], folder: str, language: str, words_per_minute: int
) -> dict[str, Recorded]:
    frontend = Espeak(language)
    recorded = {}
    for name, text in sentences.items():
        transcript = frontend(text)
        try:
            spoken = speak(text, language, transcript, words_per_minute)
        except ValueError as error:
            recorded[name] = Recorded(transcript, [], refused=str(error))
            continue
        soundfile.write(Path(folder) / f"{name}.flac", spoken.samples, spoken.sample_rate, subtype="PCM_16")
        recorded[name] = Recorded(transcript, [*spoken.starts, len(spoken.samples)], spoken.sample_rate)
    return recorded


def speak(text: str, language: str, transcript: Transcript, words_per_minute: int = 175) -> Spoken:
    """`transcript`: the frontend's, with stress, pauses as `sil`, and edges.

    Raises ValueError where the symbols and the speech do not fit each other one to one.
    """
    raw = speech(text, language, words_per_minute)
    samples = np.frombuffer(raw.samples, dtype=np.int16)
    starts = _starts(samples, raw.phonemes, transcript)
    for symbol, start, end in zip(transcript.symbols, starts, [*starts[1:], len(samples)], strict=True):
        if end <= start:
            raise ValueError(f"espeak-ng gives {symbol!r} no time of its own at sample {start} of {text!r}")
    lead = round(LEAD * raw.sample_rate)
    padded = np.concatenate([np.zeros(lead, np.int16), samples])
    return Spoken(padded, raw.sample_rate, [0, *(start + lead for start in starts[1:])])


def _starts(samples: np.ndarray, phonemes: tuple[Phoneme, ...], transcript: Transcript) -> list[int]:
    """espeak-ng marks where the sound of a phone begins, after the silence that may precede it: the closure of a
    stop. That silence, exact digital zeros, is part of the phone; after a pause it is part of the pause.
    """
    spoken = [index for index, phoneme in enumerate(phonemes) if phoneme.name]
    said = [phonemes[index].name for index in spoken]
    expected = [
        symbol for symbol, word in zip(transcript.symbols, transcript.word_of, strict=True) if word != NO_WORD
    ]
    if said != [symbol.encode()[:NAME_BYTES] for symbol in expected]:
        heard = b" ".join(said).decode(errors="replace")
        raise ValueError(f"espeak-ng says {heard}, the text {' '.join(expected)}")
    starts: list[int] = []
    upcoming = iter(spoken)
    event = -1  # of the latest phone
    after_pause = True
    for word in transcript.word_of:
        if word == NO_WORD:
            starts.append(phonemes[event + 1].onset if event >= 0 else -1)
            after_pause = True
            continue
        before, event = event, next(upcoming)
        onset = phonemes[event].onset
        if not after_pause:
            floor = phonemes[before].onset
            onset = min(_silence_before(samples, floor, onset), phonemes[before + 1].onset)
        starts.append(onset)
        after_pause = False
    return starts


def _silence_before(samples: np.ndarray, floor: int, onset: int) -> int:
    """Where the run of zeros that ends at the onset begins."""
    sounding = np.flatnonzero(samples[floor:onset])
    return floor + int(sounding[-1]) + 1 if len(sounding) else floor


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    json.dump(_record(*json.load(sys.stdin)), sys.stdout)  # ASCII
