from pathlib import Path

import numpy as np
import pytest
import torch

from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.f0 import Pyin
from hmmtts.audio.features import Features
from hmmtts.audio.io import write
from hmmtts.audio.mel import LogMel
from hmmtts.bench.features import librosa_log_mel, loader_wait, process_rates, rates, utterances_of
from tests.audio.signals import RATE, pulses

FEATURES = Features(RATE, LogMel(), Cepstra(), Pyin())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for hertz in (100.0, 150.0, 200.0):
        write(tmp_path / f"{hertz:.0f}.wav", pulses(hertz, 0.5), RATE)
    return tmp_path


def test_the_rivals_compute_the_same():
    wave = pulses(150.0) + np.random.default_rng(0).normal(0, 0.01, len(pulses(150.0))).astype(np.float32)
    mine = FEATURES.mel(torch.from_numpy(wave)[None])[0].numpy()
    np.testing.assert_allclose(mine, librosa_log_mel(wave, RATE, FEATURES), atol=3e-4)


def test_every_figure_is_measured(folder: Path):
    utterances = utterances_of(folder, limit=2)
    assert [Path(utterance.id).name for utterance in utterances] == ["100.wav", "150.wav"]
    threads = torch.get_num_threads()
    try:
        assert min(rates(utterances, FEATURES, rounds=1)) > 1  # all of it is faster than speech
        assert min(process_rates(utterances, FEATURES, processes=2, rounds=1)) > 1
        loader = loader_wait(utterances, FEATURES, workers=0, steps=2, width=8)
    finally:
        torch.set_num_threads(threads)
    assert 0 < loader.wait_share < 1


def test_a_folder_without_sound_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no sound file"):
        utterances_of(tmp_path, limit=2)
