"""The benchmark of the neural HMM runs, and its figures are in order."""

import pytest
import torch

from hmmtts.bench import gpu_neural_hmm, neural_hmm_speech
from hmmtts.bench.neural_hmm_sizes import TINY


@pytest.mark.parametrize("flow", [False, True])
def test_sound_takes_longer_than_mel_and_all_of_it_longer_than_its_beginning(flow):
    found = neural_hmm_speech.measure(TINY, quick=True, flow=flow)
    assert 0 < found.mel < found.sound
    assert 0 < found.first_frame < found.first_sound


def test_the_step_for_a_gpu_runs_and_both_ways_agree():
    records = list(gpu_neural_hmm.run(torch.device("cpu"), quick=True))
    found = {record.contender: record for record in records if record.unit == "s wall"}
    assert set(found) == {"ours", "ours_float32", "loop_checkpointed"}
    assert all(record.value > 0 for record in found.values())
    assert all(record.error < 1e-2 for record in found.values())
