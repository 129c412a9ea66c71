"""torchaudio beside builds of torch that it was not made for, each in a process of its own."""

import subprocess
import sys
from multiprocessing import get_context

import pytest
import torch

from hmmtts.audio.mel import LogMel

WITH_BROKEN_EXTENSION = """
import sys
from importlib.abc import MetaPathFinder

class Broken(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchaudio._extension":
            raise error

for error in (OSError("libcudart.so.13: cannot open shared object file"), RuntimeError("different CUDA versions")):
    finder = Broken()
    sys.meta_path.insert(0, finder)
    from hmmtts.audio import torchaudio
    assert not torchaudio.native
    assert torchaudio.functional.melscale_fbanks(9, 0.0, 50.0, 4, 100).shape == (9, 4)
    try:
        torchaudio.functional.forced_align(None, None)
    except RuntimeError as refusal:
        assert "does not load" in str(refusal)
    else:
        raise AssertionError("the extension's functions must refuse")
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if "torchaudio" in name]:
        del sys.modules[name]
"""

WITHOUT_TORCHAUDIO = """
import sys
sys.modules["torchaudio"] = None
try:
    import hmmtts.audio.torchaudio
except ModuleNotFoundError as error:
    print(error)
"""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_extension_that_does_not_load_is_done_without():
    python(WITH_BROKEN_EXTENSION)


def test_a_missing_torchaudio_is_not_hidden():
    assert "torchaudio" in python(WITHOUT_TORCHAUDIO)


def mel_of_ones(logmel: LogMel) -> torch.Tensor:
    return logmel(torch.ones(1, 2048))


@pytest.mark.process
def test_extractors_cross_to_a_spawned_process():
    logmel = LogMel(n_mels=8)
    with get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(mel_of_ones, (logmel,)), mel_of_ones(logmel))
