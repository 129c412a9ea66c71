"""Speech into files: whole ones, or one that grows as the voice speaks."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from hmmtts.align import output
from hmmtts.audio import io
from hmmtts.synthesis.lines import Line
from hmmtts.synthesis.result import Interval, Speech, as_aligned
from hmmtts.synthesis.voice import Chunk, Speaker, Voice

STDOUT = Path("-")


class Streamed(NamedTuple):
    seconds: float  # of speech
    first: float  # seconds until the first of it was written
    factor: float  # real-time factor: seconds of work / seconds of speech


def spelt(voice: Voice, lines: Iterable[Line], who: Speaker) -> list[list[Chunk]]:
    """All texts before the first is spoken, so that a wrong one is told at once, with its place."""
    texts = []
    for line in lines:
        try:
            texts.append(list(voice.spell(line.text, who)))
        except ValueError as failure:
            raise ValueError(f"{line.where}: {failure}" if line.where else str(failure)) from failure
    return texts


def write(speech: Speech, path: Path, formats: Sequence[str] = ()) -> None:
    """The sound, whole or not at all, and its times beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part{path.suffix}")
    try:
        io.write(part, speech.audio, speech.sample_rate)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    write_times(speech.phones, speech.words, speech.seconds, path, formats)


def write_times(
    phones: Sequence[Interval], words: Sequence[Interval], seconds: float, path: Path, formats: Sequence[str]
) -> None:
    output.write(as_aligned(path.stem, seconds, phones, words), path.parent, formats)


@contextmanager
def _growing(path: Path, sample_rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """A sound file that can be read while it grows; `-` is raw 16-bit samples on the standard output."""
    if path == STDOUT:
        yield lambda audio: _raw(audio)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", sample_rate, channels=1) as file:

        def write(audio: np.ndarray) -> None:
            file.write(audio)
            file.flush()

        yield write


def _raw(audio: np.ndarray) -> None:
    sys.stdout.buffer.write((audio * 32767).astype("<i2").tobytes())
    sys.stdout.buffer.flush()


def stream(
    voice: Voice, text: str, path: Path, formats: Sequence[str], who: Speaker, seed: int, rate: float
) -> Streamed:
    """Each chunk is in the file before the next is spoken; only the times, if asked for, grow with the text."""
    began, first, samples = time.monotonic(), 0.0, 0
    phones: list[Interval] = []
    words: list[Interval] = []
    parts = voice.stream(text, seed, who, rate)
    beginning = next(parts)  # a text that cannot be spoken leaves no file
    with _growing(path, voice.sample_rate) as write:
        try:
            for part in chain([beginning], parts):
                write(part.audio.clip(-1.0, 1.0))
                first = first or time.monotonic() - began
                samples += len(part.audio)
                if formats:
                    phones += part.phones
                    words += part.words
        except ValueError as failure:
            raise ValueError(
                f"{path}: ends after {samples / voice.sample_rate:.2f} s: {failure}"
            ) from failure
    seconds = samples / voice.sample_rate
    write_times(phones, words, seconds, path, formats)
    return Streamed(seconds, first, (time.monotonic() - began) / seconds)
