"""Decode one sound file, or a stretch of it, once, and say everything that is wrong with it.

Whatever the file holds, memory is one block of samples and time is that of `longest` seconds of sound. A decoder may
still crash or loop on hostile bytes: check.py therefore runs this in guarded processes. Nothing is ever mended here.
"""

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from hmmtts.data import container
from hmmtts.data.finding import ERROR, Problem, error, rejects, warning

BLOCK = 1 << 18  # samples decoded at a time, all channels together
FULL_SCALE = 0.99  # what counts as clipped
LOUDEST = 2.0  # lossy decoders overshoot full scale a little; more is a wrong scale
RATES = range(4_000, 384_001)
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "MP3", "OGG")  # those whose damage would be found
# What stands at the beginning of files that should have been sound.
IMPOSTORS = {
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself; run `git lfs pull`",
    b"<!doctype": "an HTML page, not audio: the download failed; fetch it again",
    b"<html": "an HTML page, not audio: the download failed; fetch it again",
    b"<?xml": "XML, not audio: the download failed; fetch it again",
    b"PK\x03\x04": "a zip archive, not audio; unpack it",
    b"\x1f\x8b": "a gzip archive, not audio; unpack it",
}

MISLEADING = {
    "File does not exist or is not a regular file (possibly a pipe?)": "no sound in it",
    "Internal psf_fseek() failed": "the decoder lost its place",
    "System error": "the system refused to read it",
}


class Limits(NamedTuple):
    """What an utterance must keep to."""

    shortest: float = 0.1  # seconds
    longest: float = 60.0
    clipped: float = 0.01  # share of samples at full scale
    silent: float = -60.0  # dB of full scale, the power of all samples
    offset: float = 0.02  # mean of all samples


LIMITS = Limits()


class Inspection(NamedTuple):
    rate: int
    channels: int
    duration: float  # seconds of the stretch
    audio_duration: float  # seconds of the file, as its header has it
    problems: list[Problem]


class Statistics(NamedTuple):
    """Sums over samples, all channels together."""

    frames: int = 0
    samples: int = 0
    bad: int = 0  # not a finite number
    clipped: int = 0
    peak: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    equal_channels: bool = True

    def plus(self, block: np.ndarray) -> "Statistics":
        total = float(block.sum(dtype=np.float64))
        if not math.isfinite(total):  # rare: count them, then go on without them
            finite = np.isfinite(block)
            seen = self.plus(np.where(finite, block, np.float32(0)))
            return seen._replace(bad=seen.bad + block.size - int(np.count_nonzero(finite)))
        flat = block.ravel()
        peak = max(float(flat.max()), -float(flat.min()))
        if peak > LOUDEST:
            flat = flat.astype(np.float64)  # in which the squares of any float32 have room
        clipped = int(np.count_nonzero(np.abs(flat) >= FULL_SCALE)) if peak >= FULL_SCALE else 0
        return Statistics(
            self.frames + len(block),
            self.samples + block.size,
            self.bad,
            self.clipped + clipped,
            max(self.peak, peak),
            self.total + total,
            self.squares + float(np.dot(flat, flat)),
            self.equal_channels and (block.shape[1] == 1 or bool((block == block[:, :1]).all())),
        )


class Task(NamedTuple):
    """A stretch to decode in another process; the number tells whose it is."""

    number: int
    path: Path
    start: float
    duration: float | None
    limits: Limits


def inspect_task(task: Task) -> Inspection:
    return inspect(task.path, task.start, task.duration, task.limits)


def inspect(
    path: Path, start: float = 0.0, duration: float | None = None, limits: Limits = LIMITS
) -> Inspection:
    """The stretch of `duration` seconds from `start`, or the whole file; whatever is wrong is a problem, never raised."""
    problem = file_problem(path)
    if problem:
        return Inspection(0, 0, 0.0, 0.0, [problem])
    try:
        problems = list(container.problems(path))
        with soundfile.SoundFile(path) as file:
            return _decoded(file, start, duration, limits, problems)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as failure:
        told = problems if rejects(problems) else [*problems, error("unreadable", _reason(path, failure))]
        return Inspection(0, 0, 0.0, 0.0, told)


def file_problem(path: Path) -> Problem | None:
    """Why there is no regular file to decode; opening a pipe or a device could wait for ever."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            return error("missing-audio", f"a link to {os.readlink(path)}, which does not exist")  # noqa: PTH115
        return error("missing-audio", "no such file")
    except OSError as failure:
        return error("unreadable", f"cannot be opened: {failure.strerror}")
    if stat.S_ISDIR(status.st_mode):
        return error("unreadable", "a directory, not a file")
    if not stat.S_ISREG(status.st_mode):
        return error("unreadable", "a pipe or device, not a file")
    if status.st_size == 0:
        return error("empty-audio", "empty, 0 bytes")
    return None


def _decoded(
    file: soundfile.SoundFile, start: float, duration: float | None, limits: Limits, problems: list[Problem]
) -> Inspection:
    rate, channels, promised = file.samplerate, file.channels, file.frames
    if file.format not in FORMATS:
        problems.append(error("header", f"a {file.format} file; save it as wav, flac, mp3 or ogg"))
    elif rate not in RATES:
        span = f"{RATES.start} to {RATES.stop - 1}"
        problems.append(error("header", f"sample rate {rate} Hz is impossible ({span})"))
    if file.format not in FORMATS or rate not in RATES:
        return Inspection(rate, channels, 0.0, 0.0, problems)
    first = round(start * rate)
    wanted = promised - first if duration is None else round(duration * rate)
    most = math.ceil(limits.longest * rate) + 1
    if 0 < first < promised:
        file.seek(first)
    seen, failure = _read(file, min(wanted, most)) if first < promised else (Statistics(), "")
    seconds = (wanted if seen.frames == most else seen.frames) / rate
    if not rejects(problems):
        asked = "header says" if wanted == promised else f"the manifest asks from sample {first} for"
        problems += _length_problems(seen.frames, wanted, seconds, asked, failure, limits)
    kinds = {problem.kind for problem in problems if problem.severity == ERROR}
    if not kinds & {"header", "too-short"}:  # else the rest follows from it
        problems += _sound_problems(seen, channels, limits)
    return Inspection(rate, channels, seconds, promised / rate, problems)


def _read(file: soundfile.SoundFile, frames: int) -> tuple[Statistics, str]:
    """Decode up to so many frames in blocks; the second value says why the decoder gave up."""
    seen = Statistics()
    block = max(1, BLOCK // file.channels)
    try:
        while seen.frames < frames:
            samples = file.read(min(block, frames - seen.frames), dtype="float32", always_2d=True)
            if not len(samples):
                break
            seen = seen.plus(samples)
    except (soundfile.SoundFileError, RuntimeError) as failure:
        return seen, _plain(failure)
    return seen, ""


def _length_problems(
    decoded: int, wanted: int, seconds: float, asked: str, failure: str, limits: Limits
) -> Iterator[Problem]:
    if failure:
        yield error("damaged", f"damaged, of {wanted} samples not all decode ({failure})")
    elif seconds > limits.longest:
        yield error("too-long", f"{seconds:.1f} s long, at most {limits.longest:g}; cut it at a pause")
    elif decoded < wanted:
        yield error("truncated", f"truncated, {asked} {wanted} samples, {decoded} decode")
    elif decoded == 0:
        yield error("empty-audio", "empty, a header without samples")
    elif seconds < limits.shortest:
        yield error(
            "too-short", f"{decoded} samples, {1000 * seconds:.1f} ms; at least {1000 * limits.shortest:g} ms"
        )


def _sound_problems(seen: Statistics, channels: int, limits: Limits) -> Iterator[Problem]:
    if channels != 1:
        equal = "all channels are equal, keep one" if seen.equal_channels else "keep one channel"
        name = "stereo" if channels == 2 else f"{channels} channels"
        yield error("stereo", f"{name}, one channel is wanted; {equal} (`sox IN OUT remix 1`)")
    if not seen.samples:
        return
    if seen.bad:
        yield error("nan", f"{seen.bad} of {seen.samples} samples are NaN or infinite")
    if seen.peak > LOUDEST:
        yield error(
            "scale", f"samples reach {seen.peak:.3g}, full scale is 1; was 16-bit sound stored as floats?"
        )
        return  # no measure of it means anything
    if seen.clipped > limits.clipped * seen.samples:
        share = 100 * seen.clipped / seen.samples
        yield warning("clipped", f"clipped, {share:.1f} % of the samples are at full scale")
    mean = seen.total / seen.samples
    power = max(seen.squares / seen.samples - mean * mean, 0.0)
    level = 10 * math.log10(power) if power > 0 else -math.inf
    if level < limits.silent and not seen.bad:
        yield error(
            "silent", f"silent, {'all samples are equal' if power == 0 else f'{level:.0f} dB of full scale'}"
        )
    elif abs(mean) > limits.offset:
        yield warning("offset", f"a constant offset of {mean:+.3f}; remove it with a high-pass filter")


def _reason(path: Path, failure: Exception) -> str:
    """What a file that libsndfile refuses is, as far as its first bytes tell."""
    with path.open("rb") as file:
        head = file.read(512)
    for mark, meaning in IMPOSTORS.items():
        if head.lstrip().lower().startswith(mark.lower()):
            return meaning
    if not head.strip(b"\0"):
        return "begins with zeros only; copy it again"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head) and not _is_binary(head):
        return "a text file, not audio"
    return f"not readable as wav, flac, mp3 or ogg: {_plain(failure)}"


def _plain(failure: Exception) -> str:
    """libsndfile's reason, without its preface, and where it would mislead in other words."""
    reason = str(failure).rpartition(": ")[2].rstrip(".")
    return MISLEADING.get(reason, reason)


def _is_binary(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as failure:
        return failure.start < len(head) - 4  # a letter may be cut off at the end
    return False
