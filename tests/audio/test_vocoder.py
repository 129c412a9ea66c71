import numpy as np
import pytest
import torch

from hmmtts.audio import world
from hmmtts.audio.io import read, resample
from hmmtts.audio.mel import LogMel
from hmmtts.audio.vocoder import GriffinLim
from tests.audio.signals import RATE, chirp
from tests.data import TEST_DATA, needs_data


def test_the_sound_has_the_mel_that_was_asked_for():
    logmel = LogMel()
    asked = logmel(torch.from_numpy(chirp())[None])[0]
    sound = GriffinLim(logmel, iterations=32)(asked)
    assert len(sound) == (len(asked) - 1) * logmel.hop
    got = logmel(sound[None])[0]
    away_from_the_ends = slice(4, -4)
    spread = asked.std()
    assert (got - asked)[away_from_the_ends].abs().mean() < 0.15 * spread


def test_equal_seeds_give_equal_sounds_and_leave_torch_alone():
    logmel = LogMel()
    mel = logmel(torch.from_numpy(chirp(0.3))[None])[0]
    before = torch.random.get_rng_state()
    first = GriffinLim(logmel, iterations=4)(mel)
    assert torch.equal(first, GriffinLim(logmel, iterations=4)(mel))
    assert not torch.equal(first, GriffinLim(logmel, iterations=4, seed=1)(mel))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("padding", ["center", "same"])
def test_an_event_stays_where_it_was(padding: str):
    logmel = LogMel(padding=padding)
    at = RATE // 4
    noise = 0.1 * torch.randn(RATE // 2, generator=torch.Generator().manual_seed(0))
    mel = logmel((noise * (torch.arange(RATE // 2) > at))[None])[0]
    sound = GriffinLim(logmel, iterations=16)(mel)
    level = sound.unfold(0, 64, 64).square().mean(1).sqrt()
    onset = int((level > 0.5 * level[len(level) * 3 // 4 :].mean()).nonzero()[0]) * 64
    assert abs(onset - at) < 1.5 * logmel.hop


@needs_data
@pytest.mark.skipif(not world.available(), reason="no pyworld: the extra `world`")
def test_natural_speech_comes_back_at_the_floor_of_a_mel_without_phases():
    wave, rate = read(TEST_DATA / "espeak_en_us" / "wavs" / "LJ001-0114.flac")
    wave = resample(wave, rate, RATE)
    logmel = LogMel()
    sound = GriffinLim(logmel)(logmel(torch.from_numpy(wave)[None])[0]).numpy()
    natural, rebuilt = (world.analyse(x[: len(sound)], RATE, fmax=8000.0).mcep[:, 1:] for x in (wave, sound))
    distortion = 10 / np.log(10) * np.sqrt(2 * np.square(natural - rebuilt).sum(1)).mean()
    assert distortion < 4.2  # the mean over this voice is 3.6 dB


def test_bad_options_say_what_to_do():
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        GriffinLim(LogMel(), iterations=0)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        GriffinLim(LogMel(), momentum=1.0)
