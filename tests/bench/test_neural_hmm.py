"""The benchmark of the neural HMM runs, and its figures are in order."""

import pytest

from hmmtts.bench import neural_hmm_speech
from hmmtts.bench.neural_hmm_sizes import TINY


@pytest.mark.parametrize("flow", [False, True])
def test_sound_takes_longer_than_mel_and_all_of_it_longer_than_its_beginning(flow):
    found = neural_hmm_speech.measure(TINY, quick=True, flow=flow)
    assert 0 < found.mel < found.sound
    assert 0 < found.first_frame < found.first_sound
