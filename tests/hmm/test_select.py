"""Model selection finds the number of states and components that made the data."""

import math

import pytest
import torch

from hmmtts.hmm import em, select
from hmmtts.hmm.covariance import Full
from hmmtts.hmm.select import Candidate, Training, best, judge
from hmmtts.metrics.report import selection
from hmmtts.nn import MixtureHMM

QUICK = Training(tries=2, iterations=30, tolerance=1e-3)


@torch.no_grad()
def made_by(mean: list, utterances: int = 24, topology: str = "dense") -> em.Observed:
    truth = MixtureHMM(len(mean), 2, len(mean[0]), topology=topology)
    truth.mean.copy_(torch.tensor(mean))
    if topology == "dense":
        truth.arcs.transition.copy_(2.5 * torch.eye(len(mean)))
    frames = torch.full((utterances,), 60)
    return em.Observed(truth.sample(frames, torch.Generator().manual_seed(1)).x, frames)


THREE_OF_TWO = [[[-6.0, -6], [-2, -6]], [[6, -6], [6, -2]], [[-6, 6], [-2, 6]]]


def test_every_judge_finds_the_true_numbers(tmp_path):
    observed = made_by(THREE_OF_TWO)
    judged = judge(observed, [2, 3, 4], [1, 2, 3], folds=2, training=QUICK)
    assert len(judged) == 9
    for by in ("held_out", "bic"):
        assert best(judged, by).candidate == Candidate(3, 2), by
    assert best(judged, "aic").candidate.states >= 3  # AIC may take more than there is
    selection.draw(judged, tmp_path / "selection.png")
    assert (tmp_path / "selection.png").read_bytes().startswith(b"\x89PNG")
    assert selection.table(judged).row_count == 9


def test_the_criteria_are_their_definitions_and_threads_change_nothing():
    observed = made_by([[[-4.0, 0]], [[4, 0]]], utterances=6)
    training = Training(Full, tries=1, iterations=5)
    one, two = (judge(observed, [1, 2], [1], folds=2, training=training, workers=n) for n in (1, 2))
    assert one == two
    small, large = one
    # One Gaussian: the likelihood is that of the sample's own mean and covariance.
    x = observed.x.flatten(0, 1).double()
    normal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    assert small.trained == pytest.approx(float(normal.log_prob(x).mean()), rel=1e-5)
    assert (small.free, large.free) == (2 + 3, 1 + 2 + 4 + 6)
    for each in one:
        log_likelihood = each.trained * 360
        assert each.aic == pytest.approx(2 * each.free - 2 * log_likelihood)
        assert each.bic == pytest.approx(each.free * math.log(360) - 2 * log_likelihood)


def test_left_to_right_models_can_be_selected_too():
    observed = made_by([[[-6.0, 0]], [[0, 6]], [[6, 0]]], utterances=10, topology="left_to_right")
    training = Training(topology="left_to_right", tries=1, iterations=20)
    judged = judge(observed, [1, 2, 3, 4], [1], folds=2, training=training)
    assert best(judged, "bic").candidate == Candidate(3, 1)


def test_folds_need_utterances():
    with pytest.raises(ValueError, match="folds must lie between 2 and the number of utterances, 3, got 4"):
        select.judge(made_by([[[0.0, 0]]], utterances=3), [1], [1], folds=4)
