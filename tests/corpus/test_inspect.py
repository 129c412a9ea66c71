"""Sound files, broken in every way that corpora break: each is named, and good ones are left alone."""

import os
import random
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from hmmtts.audio.io import read
from hmmtts.data.finding import ERROR, WARNING
from hmmtts.data.guard import guarded
from hmmtts.data.inspect import Limits, inspect
from tests.corpus.sounds import RATE, cut, patch, speech, write
from tests.data import TEST_DATA, needs_data

FLOAT = "FLOAT"
CLIPPED = np.where(np.arange(RATE) % 50 == 0, 1.0, speech())
STEREO = np.stack([speech(), 0.5 * speech()], 1)
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n" * 20
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def linked(path: Path) -> Path:
    path.symlink_to(path.with_name("gone.wav"))
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def text(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# name -> (suffix, how to make the file, kind, severity, part of the message)
BROKEN = {
    "missing": (".wav", lambda p: p, "missing-audio", ERROR, "no such file"),
    "dangling link": (".wav", linked, "missing-audio", ERROR, "gone.wav, which does not exist"),
    "directory": (".wav", folder, "unreadable", ERROR, "a directory, not a file"),
    "pipe": (".wav", pipe, "unreadable", ERROR, "a pipe or device, not a file"),
    "zero length": (".wav", lambda p: text(p, b""), "empty-audio", ERROR, "empty, 0 bytes"),
    "HTML": (".wav", lambda p: text(p, HTML), "unreadable", ERROR, "an HTML page, not audio"),
    "git-lfs pointer": (".wav", lambda p: text(p, LFS), "unreadable", ERROR, "run `git lfs pull`"),
    "text": (".wav", lambda p: text(p, "안녕 hello\n".encode()), "unreadable", ERROR, "a text file, not audio"),
    "zeros": (".wav", lambda p: text(p, bytes(4096)), "unreadable", ERROR, "begins with zeros only"),
    "noise": (".wav", lambda p: text(p, bytes(range(128, 256)) * 9), "unreadable", ERROR, "not readable as wav"),
    "header only": (".wav", lambda p: cut(write(p), 44), "truncated", ERROR, "header says 44100 bytes, file has 0"),
    "half": (".wav", lambda p: cut(write(p), 22072), "truncated", ERROR, "truncated, header says 44100 bytes, file has 22028"),
    "odd byte": (".wav", lambda p: cut(write(p), -1), "truncated", ERROR, "header says 44100 bytes, file has 44099"),
    "cut in the header": (".wav", lambda p: cut(write(p), 30), "truncated", ERROR, "the header ends before the samples"),
    "half a sample": (".wav", lambda p: patch(write(p), 40, "<I", 44099), "truncated", ERROR, "no whole number of samples"),
    "half an mp3": (".mp3", lambda p: cut(write(p, speech(3)), 9000), "truncated", ERROR, "header says 66150 samples"),
    "half a flac": (".flac", lambda p: cut(write(p), 9000), "damaged", ERROR, "damaged, of 22050 samples not all decode"),
    "half an ogg": (".ogg", lambda p: cut(write(p), 3000), "truncated", ERROR, "truncated in Ogg page"),
    "an ogg short of its end": (".ogg", lambda p: cut(write(p, speech(9)), -1), "truncated", ERROR, "truncated in Ogg page"),
    "sample rate 0": (".wav", lambda p: patch(write(p), 24, "<I", 0), "header", ERROR, "contradicts itself: 0 Hz"),
    "a wild sample rate": (".wav", lambda p: patch(write(p), 24, "<I", 4 * 10**9), "header", ERROR, "contradicts itself"),
    "no channels": (".wav", lambda p: patch(write(p), 22, "<H", 0), "header", ERROR, "0 channels"),
    "65535 channels": (".wav", lambda p: patch(write(p), 22, "<H", 65535), "header", ERROR, "65535 channels"),
    "3 bits": (".wav", lambda p: patch(write(p), 34, "<H", 3), "header", ERROR, "3 bits are not 2 bytes"),
    "a header that knows less": (".wav", lambda p: patch(write(p), 40, "<I", 8000), "header", ERROR, "36100 unexplained bytes"),
    "a header without length": (".wav", lambda p: patch(write(p), 40, "<I", 0xFFFFFFFF), "header", WARNING, "gives no length"),
    "another format": (".wav", lambda p: write(p, format="W64"), "header", ERROR, "a W64 file; save it as wav"),
    "200 Hz": (".wav", lambda p: write(p, rate=200), "header", ERROR, "sample rate 200 Hz is impossible"),
    "no samples": (".wav", lambda p: write(p, np.zeros(0)), "empty-audio", ERROR, "a header without samples"),
    "1 sample": (".wav", lambda p: write(p, speech()[100:101]), "too-short", ERROR, "1 samples, 0.0 ms; at least 100 ms"),
    "100 samples": (".wav", lambda p: write(p, speech()[40:140]), "too-short", ERROR, "100 samples, 4.5 ms"),
    "120 s": (".flac", lambda p: write(p, speech(120, 8000), 8000), "too-long", ERROR, "120.0 s long, at most 60"),
    "stereo": (".wav", lambda p: write(p, STEREO), "stereo", ERROR, "stereo, one channel is wanted; keep one channel"),
    "NaN": (".wav", lambda p: write(p, np.where(np.arange(RATE) == 9, np.nan, speech()), subtype=FLOAT), "nan", ERROR, "1 of 22050"),
    "inf": (".wav", lambda p: write(p, np.where(np.arange(RATE) < 2, np.inf, speech()), subtype=FLOAT), "nan", ERROR, "2 of 22050"),
    "amplitude 1e6": (".wav", lambda p: write(p, 4e6 * speech(), subtype=FLOAT), "scale", ERROR, "e+06, full scale is 1"),
    "amplitude 1e30": (".wav", lambda p: write(p, 1e30 * speech(), subtype=FLOAT), "scale", ERROR, "e+29, full scale is 1"),
    "silence": (".wav", lambda p: write(p, 0 * speech()), "silent", ERROR, "silent, all samples are equal"),
    "a constant": (".wav", lambda p: write(p, 0 * speech() + 0.25), "silent", ERROR, "all samples are equal"),
    "near silence": (".wav", lambda p: write(p, 1e-3 * speech(), subtype=FLOAT), "silent", ERROR, "dB of full scale"),
    "clipped": (".wav", lambda p: write(p, CLIPPED), "clipped", WARNING, "clipped, 2.0 % of the samples"),
    "an offset": (".wav", lambda p: write(p, speech() + 0.1), "offset", WARNING, "a constant offset of +0.1"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "make", "kind", "severity", "message"), BROKEN.values(), ids=BROKEN.keys()
)
def test_what_is_broken_is_said(tmp_path, suffix, make, kind, severity, message):
    (found,) = inspect(make(tmp_path / f"LJ001-0007{suffix}")).problems
    assert (found.kind, found.severity) == (kind, severity)
    assert message in found.message


def test_two_problems_are_both_said(tmp_path):
    equal = np.stack([0 * speech()] * 2, 1)
    stereo, silent = inspect(write(tmp_path / "a.wav", equal)).problems
    assert "all channels are equal, keep one" in stereo.message
    assert silent.kind == "silent"


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_good_files(tmp_path, suffix):
    seen = inspect(write(tmp_path / f"a{suffix}"))
    assert (seen.rate, seen.channels, seen.duration, seen.audio_duration, seen.problems) == (
        RATE,
        1,
        1.0,
        1.0,
        [],
    )


def test_what_follows_a_warning_about_the_header_is_still_said(tmp_path):
    path = write(tmp_path / "a.wav", STEREO)
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    assert [(p.kind, p.severity) for p in inspect(path).problems] == [("header", WARNING), ("stereo", ERROR)]


def test_a_list_chunk_after_odd_samples_is_no_damage(tmp_path):
    path = write(tmp_path / "a.wav", speech()[: RATE - 1], subtype="PCM_U8")
    path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO")
    assert inspect(path).problems == []


def test_a_stretch_of_a_file(tmp_path):
    path = write(tmp_path / "a.flac", np.concatenate([speech(), 0 * speech(), speech()]))
    assert [problem.kind for problem in inspect(path, 1.1, 0.8).problems] == ["silent"]
    seen = inspect(path, 2.0, 1.0)
    assert (seen.duration, seen.audio_duration, seen.problems) == (1.0, 3.0, [])
    (late,) = inspect(path, 2.5, 1.0).problems
    assert late.message == "truncated, the manifest asks from sample 55125 for 22050 samples, 11025 decode"


def test_limits_are_the_caller_s(tmp_path):
    path = write(tmp_path / "a.wav")
    assert [problem.kind for problem in inspect(path, limits=Limits(longest=0.5)).problems] == ["too-long"]
    assert [problem.kind for problem in inspect(path, limits=Limits(shortest=2.0)).problems] == ["too-short"]


def test_an_absurd_header_takes_neither_memory_nor_time(tmp_path):
    """1,000 channels and hours of sound that the file does not hold."""
    path = patch(patch(write(tmp_path / "a.wav"), 22, "<H", 1000), 40, "<I", 0xFFFFFFF0)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert inspect(path).problems
    assert time.perf_counter() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def corrupted(source: random.Random, content: bytes) -> bytes:
    """Cut off, bits flipped, zeroed, doubled, or with another header."""
    damage = source.randrange(5)
    place = source.randrange(len(content))
    if damage == 0:
        return content[:place]
    if damage == 1:
        return content[:place] + bytes([content[place] ^ (1 << source.randrange(8))]) + content[place + 1 :]
    if damage == 2:
        return content[:place] + bytes(len(content) - place)
    if damage == 3:
        return content[:place] + content[place // 2 :]
    return source.randbytes(min(place, 60)) + content[min(place, 60) :]


def look(path: Path) -> tuple[list[str], str]:
    """The errors of a check, and what the loader makes of the file."""
    problems = [problem.kind for problem in inspect(path).problems if problem.severity == ERROR]
    try:
        wave, _ = read(path)
    except (ValueError, OSError) as failure:
        return problems, str(failure)
    return problems, "" if np.isfinite(wave).all() else "not finite"


@pytest.mark.parametrize("count", [1_000, pytest.param(18_000, marks=pytest.mark.soak)])
def test_corrupted_files_neither_crash_nor_hang(tmp_path, count):
    """And what the check accepts, the loader reads whole."""
    source = random.Random(count)
    originals = [
        write(tmp_path / f"original{suffix}", speech(0.3)) for suffix in (".wav", ".flac", ".mp3", ".ogg")
    ]
    paths = []
    for number in range(count):
        original = originals[number % len(originals)]
        paths.append(tmp_path / f"{number:04}{original.suffix}")
        paths[-1].write_bytes(corrupted(source, original.read_bytes()))
    seen = dict(guarded(look, paths, processes=2, patience=20.0))
    assert seen.keys() == set(paths)
    slipped = {path.name: result for path, result in seen.items() if not result[0] and result[1]}
    assert slipped == {}
    # A flipped bit inside the samples of a wav or the sound of an mp3 leaves no trace; all else does.
    found = [path.suffix for path, (problems, _) in seen.items() if problems]
    assert len(found) > 0.6 * count
    assert min(found.count(suffix) for suffix in (".flac", ".ogg")) > 0.16 * count


@needs_data
def test_real_and_synthetic_speech_is_accepted():
    for corpus in ("ljspeech32", "flite_slt", "festival_kal", "espeak_ko"):
        for path in sorted((TEST_DATA / corpus / "wavs").iterdir())[:8]:
            assert inspect(path).problems == [], path
