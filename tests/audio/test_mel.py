"""Log-mels against librosa and against what their published users compute."""

import librosa
import numpy as np
import pytest
import torch

from hmmtts.audio.mel import LogMel, frame_energy
from tests.audio.signals import RATE, chirp, click

HIFIGAN = LogMel(padding="same")
VOCOS = LogMel(24000, n_mels=100, fmax=12000.0, floor=1e-7, mel_scale="htk", norm=None)


def by_librosa(wave: np.ndarray, logmel: LogMel, htk: bool, norm: str | None) -> np.ndarray:
    same = logmel.padding == "same"
    if same:
        around = (logmel.n_fft - logmel.hop) // 2
        wave = np.pad(wave, (around, around), mode="reflect")
    mel = librosa.feature.melspectrogram(
        y=wave, sr=logmel.sample_rate, n_fft=logmel.n_fft, hop_length=logmel.hop, win_length=logmel.win, power=1.0,
        n_mels=logmel.dim, fmin=logmel.fmin, fmax=logmel.fmax, htk=htk, norm=norm, center=not same,
        pad_mode="reflect",
    )  # fmt: skip
    return np.log(np.maximum(mel, logmel.floor)).T


@pytest.mark.parametrize(
    ("logmel", "htk", "norm"),
    [(LogMel(), False, "slaney"), (HIFIGAN, False, "slaney"), (VOCOS, True, None)],
    ids=["default", "hifigan", "vocos"],
)
def test_equals_librosa(logmel: LogMel, htk: bool, norm: str | None):
    wave = chirp(1.01, logmel.sample_rate)
    # Some noise in every band: where a sound has nothing, logarithms compare rounding.
    wave += np.random.default_rng(0).normal(0, 0.01, len(wave)).astype(np.float32)
    mine = logmel(torch.from_numpy(wave)[None])[0].numpy()
    expected = by_librosa(wave, logmel, htk, norm)
    assert mine.shape == expected.shape == (logmel.frames(len(wave)), logmel.dim)
    np.testing.assert_allclose(mine, expected, atol=3e-4)
    assert np.abs(mine - expected).mean() < 1e-5


@pytest.mark.parametrize("logmel", [LogMel(), HIFIGAN], ids=["center", "same"])
def test_a_frame_is_centred_where_the_extractor_says(logmel: LogMel):
    frame = 20
    middle = round((logmel.offset + frame * logmel.hop_seconds) * logmel.sample_rate)
    mel = logmel(torch.from_numpy(click(middle, RATE // 2))[None])[0]
    energy = frame_energy(mel)
    assert int(energy.argmax()) == frame
    torch.testing.assert_close(energy[frame - 1], energy[frame + 1], atol=1e-3, rtol=0)


def test_a_gain_adds_its_logarithm():
    wave = torch.from_numpy(chirp())[None]
    mel, louder = LogMel()(wave), LogMel()(4 * wave)
    audible = mel > np.log(1e-4)
    torch.testing.assert_close(louder[audible] - mel[audible], torch.full_like(mel[audible], np.log(4)))


def test_bad_options_and_short_sounds_say_what_to_do():
    with pytest.raises(ValueError, match=r"half the sample rate, 4000.0 Hz, got 8000.0: lower fmax"):
        LogMel(sample_rate=8000)
    with pytest.raises(ValueError, match='"center" or "same", got \'left\''):
        LogMel(padding="left")
    with pytest.raises(ValueError, match="norm \"slaney\" or null, got 'slaney' and 'none'"):
        LogMel(norm="none")
    with pytest.raises(ValueError, match="win must be from 1 to n_fft, 1024, got 2048"):
        LogMel(win=2048)
    with pytest.raises(ValueError, match="more than 512 samples, got 512"):
        LogMel()(torch.zeros(1, 512))
