"""The extractors of a recipe together, as conf/features builds them."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from hmmtts.audio import features as features_module
from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.f0 import Harvest, Pyin
from hmmtts.audio.features import Features, Trim, describe
from hmmtts.audio.mel import LogMel
from tests.audio.signals import RATE, pulses

CONF = Path(__file__).resolve().parents[2] / "conf"
PRESETS = sorted(path.stem for path in (CONF / "features").glob("*.yaml"))
TRACKERS = sorted(path.stem for path in (CONF / "features" / "f0").glob("*.yaml"))
WORDS = {"mel_scale": "htk", "norm": None, "padding": "same"}  # another value of the options that are words


def built(*overrides: str) -> Features:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose(overrides=list(overrides)).features)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_extracts(preset: str):
    features = built(f"+features={preset}")
    tracks = features(pulses(150.0, rate=features.sample_rate), features.sample_rate)
    assert tracks.mel.shape == (features.mel.frames(round(0.6 * features.sample_rate)), features.mel.dim)
    assert tracks.f0.shape == tracks.mel.shape[:1]
    assert tracks.acoustic.shape[1] == features.acoustic.dim
    np.testing.assert_allclose(tracks.f0[8:-8], 150.0, rtol=0.01)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_every_tracker_is_another_cache(tracker: str):
    others = {built("+features=default", f"features/f0={name}").fingerprint() for name in TRACKERS}
    assert built("+features=default", f"features/f0={tracker}").fingerprint() in others
    assert len(others) == len(TRACKERS)


def options(kind: type) -> list:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [pytest.param(kind, parameter, id=f"{kind.__name__}.{parameter.name}") for parameter in parameters]


@pytest.mark.parametrize(
    ("kind", "option"), [row for kind in (LogMel, Cepstra, Pyin, Harvest) for row in options(kind)]
)
def test_every_option_is_part_of_the_fingerprint(kind: type, option: inspect.Parameter):
    value = option.default
    changed = WORDS[option.name] if option.name in WORDS else value * 2 if value else 1
    if option.name in ("fmax", "sample_rate"):
        changed = value + 1
    elif option.name == "win":
        changed = value // 2
    elif option.name in ("n_cepstra", "fmin") and value:
        changed = value - 1
    assert describe(kind()) != describe(kind(**{option.name: changed}))


def test_evaluation_mode_is_no_option():
    logmel = LogMel()
    before = describe(logmel)
    assert describe(logmel.eval()) == before


def test_code_counts_and_comments_do_not(monkeypatch: pytest.MonkeyPatch):
    def digest(source: str) -> str:
        monkeypatch.setattr(features_module.inspect, "getsource", lambda module: source)
        return features_module.syntax("hmmtts.audio.mel")

    assert digest("x = 1\n") == digest("# why\nx = (1)\n")
    assert digest("x = 1\n") != digest("x = 2\n")


def small(**changes: object) -> Features:
    parts = {"mel": LogMel(), "acoustic": Cepstra(), "f0": Pyin(), **changes}
    return Features(RATE, **parts)  # type: ignore[arg-type]


def test_another_rate_is_resampled():
    there = small()(pulses(150.0, rate=44100), 44100)
    here = small()(pulses(150.0), RATE)
    assert there.mel.shape == here.mel.shape
    assert np.abs(there.mel - here.mel)[4:-4].mean() < 0.1


def test_trimming_cuts_silence_and_says_how_much():
    silence = np.zeros(RATE, np.float32)
    wave = np.concatenate([silence, pulses(150.0), silence])
    whole, trimmed = small()(wave, RATE), small(trim=Trim(keep=0.1))(wave, RATE)
    assert whole.start == 0.0
    assert abs(trimmed.start - 0.9) < 0.011
    assert abs(len(trimmed.mel) * LogMel().hop_seconds - 0.8) < 0.05


def test_the_pitch_of_late_frames_is_late():
    """Frames centred half a hop later see the pitch of half a hop later."""
    glide = np.sin(2 * np.pi * np.cumsum(np.linspace(100, 300, RATE)) / RATE).astype(np.float32)
    center, same = small()(glide, RATE).f0, small(mel=LogMel(padding="same"))(glide, RATE).f0
    assert len(same) == RATE // 256
    gap = (same - center[: len(same)])[10:-10]
    # The mean, since single frames lie on the grid of candidates.
    np.testing.assert_allclose(gap.mean(), 200 * 128 / RATE, rtol=0.25)


def test_extractors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"f0.sample_rate must equal sample_rate, 22050, got 16000"):
        small(f0=Pyin(sample_rate=16000))
    with pytest.raises(ValueError, match=r"f0.hop must equal mel.hop, 256, got 200"):
        small(f0=Pyin(hop=200))


def test_features_are_those_of_the_extractors():
    wave = pulses(150.0)
    tracks = small()(wave, RATE)
    batch = torch.from_numpy(wave)[None]
    np.testing.assert_array_equal(tracks.mel, LogMel()(batch)[0].numpy())
    np.testing.assert_array_equal(tracks.acoustic, Cepstra()(batch)[0].numpy())
    np.testing.assert_array_equal(tracks.f0, Pyin()(wave))
