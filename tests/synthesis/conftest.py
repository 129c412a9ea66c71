"""Two bundles on disk, made once."""

from pathlib import Path

import pytest
import torch

import hmmtts
from hmmtts import build
from hmmtts.synthesis import Voice
from tests.synthesis import voices


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine make small work a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parallel voice whose aligner knows tones; its durations differ from phone to phone."""
    made = voices.bundle(voices.SMALL)
    torch.nn.init.normal_(made.model.duration.out.weight, std=0.3)
    voices.learn_to_align(made, utterances=12, steps=60)
    path = tmp_path_factory.mktemp("voice") / "voice.ckpt"
    build.save(made, path)
    return path


@pytest.fixture(scope="package")
def voice(bundle: Path) -> Voice:
    return hmmtts.load(bundle)


@pytest.fixture(scope="package")
def neural() -> Voice:
    """A neural HMM, untrained."""
    return Voice(voices.bundle(voices.NEURAL))
