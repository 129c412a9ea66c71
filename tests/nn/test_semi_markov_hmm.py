"""SemiMarkovHMM: EM never loses, finds the model that made the data, and samples last as the laws say."""

import math

import pytest
import torch

from hmmtts.hmm import hard_durations
from hmmtts.nn import SemiMarkovHMM
from hmmtts.nn.duration_laws import expected
from hmmtts.nn.semi_markov_hmm import LAWS
from tests.hmm.semi_markov.segmentations import enumerate_segmentations

MEANS = torch.tensor([[[-2.0, 0.0]], [[2.0, 1.0]], [[0.0, -3.0]]])


def model(law="gamma", topology="dense", spread=0.8, **options) -> SemiMarkovHMM:
    """Three states that last 3, 6 and 10 frames, more or less."""
    torch.manual_seed(0)
    made = SemiMarkovHMM(3, 2, longest=15, law=law, topology=topology, **options)
    with torch.no_grad():
        made.mean.copy_(MEANS)
        made.covariance.raw.fill_(2 * math.log(spread))
        for state, mean in enumerate((3.0, 6.0, 10.0)):
            made.durations[state] = made.law.start(mean, torch.arange(1.0, 16.0))
    return made


@pytest.mark.parametrize("topology", ["dense", "left_to_right"])
def test_equals_the_sum_over_all_segmentations(topology):
    made = model(topology=topology)
    x, frames = torch.randn(2, 6, 2), torch.tensor([6, 4])
    x[1, 4:] = math.nan  # padding
    with torch.no_grad():
        log_z, posterior = made(x, frames), made.posteriors(x, frames)
        clean = torch.where(x.isnan(), 0.0, x)
        for b, t in enumerate(frames.tolist()):
            normal = torch.distributions.Normal(MEANS[:, 0], made.mixture().covariance.variance[:, 0].sqrt())
            log_obs = normal.log_prob(clean[b : b + 1, :, None]).sum(-1)
            truth = enumerate_segmentations(log_obs, made.topology(1), 0, t, 3)
            assert float(log_z[b]) == pytest.approx(truth.log_likelihood, abs=1e-4)
            torch.testing.assert_close(posterior[b, :t].double(), truth.posterior, atol=1e-4, rtol=0)


@pytest.mark.parametrize("topology", ["dense", "left_to_right"])
@pytest.mark.parametrize("law", sorted(LAWS))
def test_em_never_loses_and_comes_to_the_truth(law, topology):
    truth = model(law, topology)
    frames = torch.full((40,), 60 if topology == "dense" else 20)
    frames[::3] -= 4
    drawn = truth.sample(frames, torch.Generator().manual_seed(1))
    learner = SemiMarkovHMM(3, 2, longest=15, law=law, topology=topology)
    history = learner.fit(
        drawn.x, frames, iterations=25, tolerance=1e-6, generator=torch.Generator().manual_seed(2)
    )
    gains = torch.tensor(history).diff()
    assert (gains > -1e-5).all()
    with torch.no_grad():
        true = float(truth(drawn.x, frames).sum() / frames.sum())
        assert true - 1e-3 < history[-1] < true + 0.06  # a little above: it fits the noise of the sample too
        order = torch.cdist(MEANS[:, 0], learner.mean[:, 0]).argmin(1)
        torch.testing.assert_close(learner.mean[order, 0], MEANS[:, 0], atol=0.2, rtol=0)
        # What the data say of the durations, whose segments are known here.
        path = order[drawn.path.clamp(min=0)].where(drawn.path >= 0, -1)
        assert float((learner.viterbi(drawn.x, frames).path == path).float().mean()) > 0.97
        lengths: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for row, t in zip(drawn.path, frames, strict=True):
            states, runs = torch.unique_consecutive(row[:t], return_counts=True)
            for state, run in zip(states.tolist(), runs.tolist(), strict=True):
                lengths[state].append(run)
        learned = expected(learner.log_durations())[order]
        for state, seen in lengths.items():
            assert float(learned[state]) == pytest.approx(sum(seen) / len(seen), rel=0.12, abs=0.3)


def test_gradient_training_learns_too():
    truth = model()
    frames = torch.full((16,), 60)
    drawn = truth.sample(frames, torch.Generator().manual_seed(1))
    learner = model()
    with torch.no_grad():
        learner.mean.mul_(0.5)
        learner.durations[:] = learner.law.start(8.0, torch.arange(1.0, 16.0))
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.05)
    for _ in range(60):
        loss = -learner(drawn.x, frames).sum() / frames.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert loss.item() < -float(truth(drawn.x, frames).sum() / frames.sum()) + 0.02
    assert all(torch.isfinite(parameter).all() for parameter in learner.parameters())


def test_samples_last_as_the_laws_say():
    """Segments inside a long utterance, between hard limits, and never twice the same state."""
    made = model(shortest=2)
    drawn = made.sample(torch.tensor([1500, 10]), torch.Generator().manual_seed(3))
    states, runs = torch.unique_consecutive(drawn.path[0], return_counts=True)
    assert int(runs.min()) >= 2
    assert int(runs.max()) <= 15
    assert (drawn.path[1, 10:] == -1).all()
    assert (drawn.x[1, 10:] == 0).all()
    for state, mean in enumerate(expected(made.log_durations()).tolist()):
        seen = runs[1:-1][states[1:-1] == state].double()
        assert float(seen.mean()) == pytest.approx(mean, abs=4.4 * float(seen.std()) / len(seen) ** 0.5)
    in_order = model(topology="left_to_right").sample(
        torch.tensor([20, 12]), torch.Generator().manual_seed(3)
    )
    assert (hard_durations(in_order.path, 3).sum(1) == torch.tensor([20, 12])).all()
    assert (in_order.path[0].diff() >= 0).all()


def test_what_cannot_be_is_refused():
    for options, message in (
        ({"law": "lognormal"}, "law must be one of gamma, poisson, .*got 'lognormal'"),
        ({"topology": "ring"}, "topology must be one of dense, left_to_right"),
        ({"covariance": "round"}, "covariance must be one of"),
        ({"shortest": 16}, "1 <= shortest <= longest"),
    ):
        with pytest.raises(ValueError, match=message):
            SemiMarkovHMM(3, 2, longest=15, **options)
    with pytest.raises(ValueError, match="utterance 1 has 50 frames for 3 states, which last at most 45"):
        model(topology="left_to_right")(torch.zeros(2, 50, 2), torch.tensor([40, 50]))
    with pytest.raises(ValueError, match="begin must be k-means or here"):
        model().fit(torch.zeros(1, 20, 2), torch.tensor([20]), begin="flat")
