import numpy as np
import pytest

from hmmtts.audio.f0 import F0Tracker, Harvest, Pyin
from hmmtts.audio.io import read, resample
from tests.audio.signals import RATE, pulses
from tests.data import TEST_DATA, needs_data

TRACKERS: dict[str, type[F0Tracker]] = {"pyin": Pyin, "harvest": Harvest}


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> type[F0Tracker]:
    if request.param == "harvest":
        pytest.importorskip("pyworld", reason="no pyworld: the extra `world`")
    return TRACKERS[request.param]


@pytest.mark.parametrize("hertz", [90.0, 220.0])
def test_a_buzz_has_its_pitch_and_silence_none(tracker: type[F0Tracker], hertz: float):
    wave = np.concatenate([np.zeros(RATE // 2, np.float32), pulses(hertz)])
    f0 = tracker()(wave)
    half = round(RATE / 2 / 256)
    assert f0.dtype == np.float32
    assert not f0[: half - 4].any()
    np.testing.assert_allclose(f0[half + 4 : -4], hertz, rtol=0.01)


@pytest.mark.parametrize("samples", [8191, 8192, 8193, 8320])
def test_frames_are_those_of_the_mel(tracker: type[F0Tracker], samples: int):
    assert len(tracker()(pulses(150.0)[:samples])) == 1 + samples // 256


def test_other_rates_and_hops():
    wave = pulses(150.0, rate=16000)
    for hop in (200, 125):  # the second cannot be halved
        f0 = Pyin(sample_rate=16000, hop=hop)(wave)
        assert len(f0) == 1 + len(wave) // hop
        np.testing.assert_allclose(f0[8:-8], 150.0, rtol=0.01)


@needs_data
def test_pyin_finds_the_pitch_that_flite_spoke_with():
    errors, voicing = [], []
    for path in sorted((TEST_DATA / "flite_slt" / "wavs").glob("*.flac"))[:3]:
        wave, rate = read(path)
        f0 = Pyin()(resample(wave, rate, RATE))
        truth = np.load(TEST_DATA / "flite_slt" / "f0" / f"{path.stem}.npy", allow_pickle=False)
        nearest = np.minimum(np.round(np.arange(len(f0)) * 256 / RATE / 0.005).astype(int), len(truth) - 1)
        both = (f0 > 0) & (truth[nearest] > 0)
        errors.append(np.abs(f0 - truth[nearest])[both])
        voicing.append((f0 > 0) != (truth[nearest] > 0))
    assert np.median(np.concatenate(errors)) < 2.0
    assert np.concatenate(voicing).mean() < 0.12


def test_bad_options_say_what_to_do():
    with pytest.raises(ValueError, match=r"0 < fmin < fmax, got 300.0 and 200.0"):
        Pyin(fmin=300.0, fmax=200.0)
    with pytest.raises(ValueError, match=r"two periods of fmin, 0.0500 s, got 0.04: raise fmin"):
        Pyin(fmin=40.0)
