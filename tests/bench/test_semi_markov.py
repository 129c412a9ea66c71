"""The semi-Markov benchmark: its peer computes the same as we, and its works run."""

import torch

from hmmtts.bench.family import semi_markov
from hmmtts.hmm import log_likelihood


def test_the_loop_over_durations_computes_the_same():
    for make in (semi_markov._dense, semi_markov._left_to_right):
        batch = make(3, 20, 4, 6).double()
        answer = semi_markov._torch_loop(batch).call()
        truth = log_likelihood(*batch, torch.full((3,), 20))
        torch.testing.assert_close(answer.log_likelihood, truth)
        torch.testing.assert_close(answer.posterior.sum(2), torch.ones(3, 20, dtype=torch.float64))


def test_the_works_run():
    for work in semi_markov.works(quick=True):
        records = list(work.measure())
        assert {record.work for record in records} == {work.name}
        assert [record.contender for record in records] == ["ours", "reference", "torch_loop"]
        assert all(record.value and record.error is not None and record.error < 1e-3 for record in records)
    assert [work.name for work in semi_markov.works(quick=False)] == [
        "hsmm_fb_b32_t1000_s10_d50",
        "hsmm_ltr_b16_t600_s100_d50",
    ]
