from pathlib import Path

import numpy as np
import pytest
import soundfile

from hmmtts.audio.io import read, resample, speech_span, write
from tests.audio.signals import RATE, chirp


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_formats_return_the_samples_to_16_bits(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    write(path, chirp(), RATE)
    wave, rate = read(path)
    assert (rate, wave.dtype) == (RATE, np.float32)
    np.testing.assert_allclose(wave, chirp(), atol=1 / 32768)


@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_lossy_formats_return_the_sound(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    write(path, chirp(), RATE)
    wave, rate = read(path)
    assert rate == RATE
    assert len(wave) == RATE
    assert np.corrcoef(wave, chirp())[0, 1] > 0.98


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path):
    write(tmp_path / "a.wav", np.array([2.0, -2.0, 0.5], np.float32), RATE)
    np.testing.assert_allclose(read(tmp_path / "a.wav")[0], [1.0, -1.0, 0.5], atol=1e-4)


def test_a_stretch_of_a_file_is_that_stretch(tmp_path: Path):
    write(tmp_path / "a.flac", chirp(), RATE)
    whole, _ = read(tmp_path / "a.flac")
    part, _ = read(tmp_path / "a.flac", start=0.25, duration=0.5)
    first = round(0.25 * RATE)
    np.testing.assert_array_equal(part, whole[first : round(0.75 * RATE)])


def break_file(path: Path, kind: str) -> None:
    wave = chirp()
    if kind == "stereo":
        soundfile.write(path, np.stack([wave, wave], 1), RATE)
    elif kind == "nan":
        soundfile.write(path, np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        write(path.with_suffix(".flac"), wave, RATE)
        path.write_bytes(path.with_suffix(".flac").read_bytes()[:-4000])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("stereo", "has 2 channels; make it mono"),
        ("nan", "not finite"),
        ("text", "not readable as sound"),
        ("empty", "not readable as sound"),
        ("truncated flac", "truncated|not readable"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, kind: str, message: str):
    path = tmp_path / "bad.wav"
    break_file(path, kind)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert "bad.wav" in str(error.value)


def test_a_missing_file_and_a_stretch_beyond_the_end_are_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none.wav: no such file"):
        read(tmp_path / "none.wav")
    write(tmp_path / "a.wav", chirp(0.5), RATE)
    with pytest.raises(ValueError, match=r"seconds 0.250 to 0.750 were asked for, it has 0.500"):
        read(tmp_path / "a.wav", 0.25, 0.5)


def test_resampling_keeps_a_tone_and_its_length():
    time = np.arange(RATE) / RATE
    there = resample(np.sin(2 * np.pi * 440 * time).astype(np.float32), RATE, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(there) == 16000
    np.testing.assert_allclose(there[800:-800], expected[800:-800], atol=2e-3)


def test_silence_is_found_on_both_sides():
    silence = np.zeros(RATE // 2, np.float32)
    wave = np.concatenate([silence, chirp(1.0), silence])
    first, last = speech_span(wave, RATE, keep=0.05)
    assert abs(first / RATE - 0.45) < 0.011
    assert abs(last / RATE - 1.55) < 0.011
    assert speech_span(silence, RATE) == (0, len(silence))
