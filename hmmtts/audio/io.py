"""Sound files in and out, through soundfile: wav, flac, mp3 and ogg. Samples are float32 in [-1, 1], one channel."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

Wave = Float[np.ndarray, "l"]


def read(path: str | Path, start: float = 0.0, duration: float | None = None) -> tuple[Wave, int]:
    """The samples and their rate; `start` and `duration` are seconds within the file, None reads to its end.

    A stereo file is an error, not an average: two microphones mixed are neither of them.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels = file.samplerate, file.channels
            first = round(start * rate)
            last = file.frames if duration is None else round((start + duration) * rate)
            if not 0 <= first <= last <= file.frames:
                asked = f"{first / rate:.3f} to {last / rate:.3f}"
                raise ValueError(f"{path}: seconds {asked} were asked for, it has {file.frames / rate:.3f}")
            wanted = last - first
            file.seek(first)
            wave = file.read(wanted, dtype="float32", always_2d=False)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: not readable as sound: {error}") from error
    if channels != 1:
        raise ValueError(f"{path}: has {channels} channels; make it mono, e.g. `sox IN OUT remix 1`")
    if len(wave) != wanted:
        # libsndfile returns what it could decode of a damaged mp3 or flac and says nothing.
        raise ValueError(f"{path}: truncated, its header promises {wanted} samples and {len(wave)} decode")
    if not np.isfinite(wave).all():
        raise ValueError(f"{path}: holds samples that are not finite numbers")
    return wave, rate


def write(path: str | Path, wave: Wave, rate: int) -> None:
    """A 16-bit file in the format that the suffix names; what lies beyond full scale is clipped."""
    soundfile.write(path, np.clip(wave, -1.0, 1.0), rate, subtype="PCM_16" if _is_pcm(path) else None)


def _is_pcm(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".wav", ".flac")


def resample(wave: Wave, rate: float, to: float) -> Float[np.ndarray, "r"]:
    """The same sound at another rate (soxr, high quality)."""
    return wave if rate == to else soxr.resample(wave, rate, to, quality="HQ").astype(np.float32)


class Span(NamedTuple):
    """Samples `first` to `last`, the latter excluded."""

    first: int
    last: int


def speech_span(wave: Wave, rate: int, below_peak_db: float = 40.0, keep: float = 0.05) -> Span:
    """Where speech lies: from the first to the last 10 ms whose power is within `below_peak_db` of the loudest.

    `keep` seconds of the silence stay on each side. Digital silence throughout counts as speech throughout: there is
    nothing to tell apart.
    """
    step = max(1, rate // 100)
    power = np.square(np.pad(wave, (0, -len(wave) % step)).reshape(-1, step)).mean(1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-below_peak_db / 10))
    if not len(loud):
        return Span(0, len(wave))
    margin = round(keep * rate)
    return Span(max(0, int(loud[0]) * step - margin), min(len(wave), (int(loud[-1]) + 1) * step + margin))
