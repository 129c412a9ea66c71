import librosa
import numpy as np
import pytest
import scipy
import torch

from hmmtts.audio.cepstra import Cepstra, slope
from tests.audio.signals import RATE, chirp, click


def test_equals_librosa():
    cepstra = Cepstra(window=0.008, dither=0.0)  # an even window, which librosa centres too
    wave = chirp()
    power = np.abs(librosa.stft(wave, n_fft=512, hop_length=110, win_length=176, window="hamming")) ** 2
    filters = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=26, fmin=60, fmax=8000, htk=True, norm=None)
    expected = scipy.fft.dct(np.log(np.maximum(filters @ power, 1e-10)), axis=0, norm="ortho")[:13].T
    mine = cepstra(torch.from_numpy(wave)[None])[0].numpy()
    assert mine.shape == (cepstra.frames(len(wave)), cepstra.dim) == expected.shape
    np.testing.assert_allclose(mine, expected, atol=2e-3)


@pytest.mark.parametrize("hop", [0.0025, 0.005])
def test_a_frame_is_centred_on_its_time(hop: float):
    cepstra = Cepstra(hop=hop)
    assert abs(cepstra.hop_seconds - hop) < 0.5 / RATE
    middle = round(30 * cepstra.hop_seconds * RATE)
    level = cepstra(torch.from_numpy(click(middle, RATE // 2))[None])[0, :, 0]
    assert int(level.argmax()) == 30


def test_dither_fills_digital_zeros_the_same_way_every_time():
    silence, cepstra = torch.zeros(1, RATE), Cepstra(n_cepstra=26)
    first = cepstra(silence)
    assert torch.equal(first, cepstra(silence))
    noise = 3e-4 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(1))
    expected = Cepstra(n_cepstra=26, dither=0.0)(noise)
    torch.testing.assert_close(first.mean(1), expected.mean(1), atol=0.3, rtol=0)


def test_the_slope_of_a_ramp_is_its_slope():
    ramp = 3.0 * torch.arange(20.0).reshape(1, 20, 1)
    torch.testing.assert_close(slope(ramp)[0, 2:-2, 0], torch.full((16,), 3.0))
    assert Cepstra(deltas=2)(torch.zeros(1, 2000)).shape == (1, 19, 39)


def test_bad_options_say_what_to_do():
    with pytest.raises(ValueError, match="from 1 to n_mels, 26, got 27"):
        Cepstra(n_cepstra=27)
    with pytest.raises(ValueError, match="deltas must be 0, 1 or 2, got 3"):
        Cepstra(deltas=3)
    with pytest.raises(ValueError, match="lower fmax"):
        Cepstra(sample_rate=8000)
