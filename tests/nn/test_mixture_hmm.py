"""GaussianHMM and MixtureHMM: against enumeration and hmmlearn, and they learn what made the data, by EM and by gradient."""

import copy
import itertools

import numpy as np
import pytest
import torch

from hmmtts.hmm import em
from hmmtts.nn import GaussianHMM, MixtureHMM
from hmmtts.nn.mixture_hmm import COVARIANCES, TOPOLOGIES
from tests.hmm.mixtures import matrices, true_log_densities

FRAMES = torch.tensor([6, 4])


def scattered(covariance="diagonal", topology="dense", states=3, components=2, features=2) -> MixtureHMM:
    torch.manual_seed(0)
    made = MixtureHMM(states, features, components, covariance, topology)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return made


def utterances(features=2) -> torch.Tensor:
    x = torch.randn(2, 6, features, generator=torch.Generator().manual_seed(4))
    x[1, 4:] = torch.nan
    return x


@torch.no_grad()
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_equals_the_sum_over_all_paths(covariance, topology):
    made, x = scattered(covariance, topology), utterances()
    log_likelihood, posterior, best = made(x, FRAMES), made.posteriors(x, FRAMES), made.viterbi(x, FRAMES)
    arcs = made.topology(1)
    for i, t in enumerate(FRAMES.tolist()):
        emitted = true_log_densities(x[i, :t], made.mixture())
        scores = {}
        for path in itertools.product(range(3), repeat=t):
            score = sum(float(emitted[u, s]) for u, s in enumerate(path))
            if topology == "dense":
                score += float(arcs.initial[path[0]])
                score += sum(float(arcs.transition[a, b]) for a, b in itertools.pairwise(path))
            else:
                steps = [b - a for a, b in itertools.pairwise(path)] + [1]
                if path[0] != 0 or path[-1] != 2 or set(steps) - {0, 1}:
                    continue
                score += sum(float(arcs[step][0, s]) for s, step in zip(path, steps, strict=True))
            scores[path] = score
        values = torch.tensor(list(scores.values()), dtype=torch.float64)
        assert float(log_likelihood[i]) == pytest.approx(float(values.logsumexp(0)), rel=1e-6, abs=1e-4)
        truth = torch.zeros(t, 3, dtype=torch.float64)
        for path, weight in zip(scores, values.softmax(0), strict=True):
            truth[range(t), path] += weight
        torch.testing.assert_close(posterior[i, :t].double(), truth, atol=1e-4, rtol=0)
        assert tuple(best.path[i, :t].tolist()) == max(scores, key=scores.get)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gradient_of_every_parameter(covariance, topology):
    """Against differences in float64, with NaN in the padding."""
    made, x = scattered(covariance, topology).double(), utterances().double()
    made(x, FRAMES).sum().backward()
    for parameter in made.parameters():
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for i in (0, len(flat) - 1):
            at, step = float(flat[i]), 1e-6
            ends = []
            for sign in (1, -1):
                flat[i] = at + sign * step
                with torch.no_grad():
                    ends.append(float(made(x, FRAMES).detach().sum()))
            flat[i] = at
            assert float(slope[i]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-6)


def separate(topology: str) -> MixtureHMM:
    """Three states with two components each, far from one another."""
    torch.manual_seed(1)
    truth = MixtureHMM(3, 2, 2, topology=topology)
    with torch.no_grad():
        truth.mean.copy_(torch.tensor([[[-6.0, 0], [-6, 4]], [[0, 0], [0, 4]], [[6, 0], [6, 4]]]))
        if topology == "dense":
            truth.arcs.transition.copy_(3 * torch.eye(3))
    return truth


@pytest.mark.parametrize("begin", ["k-means", "flat"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_em_finds_what_made_the_data(topology, begin):
    truth, g = separate(topology), torch.Generator().manual_seed(2)
    frames = torch.randint(30, 60, (30,), generator=g)
    path, x = truth.sample(frames, g)
    learner = MixtureHMM(3, 2, 2, topology=topology)
    learner.fit(x, frames, begin=begin, tolerance=1e-5, generator=g)
    with torch.no_grad():
        reached, possible = (float(model(x, frames).sum() / frames.sum()) for model in (learner, truth))
    if begin == "k-means":
        assert possible - 1e-3 < reached < possible + 0.1
        found = learner.viterbi(x, frames).path
        name = [int(found[path == s].mode().values) for s in range(3)]
        real = path >= 0
        assert (torch.tensor(name)[path[real]] == found[real]).float().mean() > 0.99
        assert sorted(name) == [0, 1, 2]
    else:  # it may stop at another maximum, but must have left its start far behind
        assert reached > possible - 0.8


def test_the_gradient_finds_what_em_finds():
    truth, g = separate("dense"), torch.Generator().manual_seed(3)
    frames = torch.full((10,), 60)
    x = truth.sample(frames, g).x
    by_em = MixtureHMM(3, 2, 2)
    by_em.fit(x, frames, tolerance=1e-7, generator=g)
    learner = MixtureHMM(3, 2, 2)
    learner.fit(x, frames, iterations=1, generator=g)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=g)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.05)
    for _ in range(100):
        loss = -learner(x, frames).sum() / frames.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert -loss.item() == pytest.approx(float(by_em(x, frames).detach().sum()) / 600, abs=0.01)


def test_em_is_where_the_gradient_vanishes():
    """A stationary point of one is a stationary point of the other, for every parameter."""
    truth, g = separate("dense"), torch.Generator().manual_seed(3)
    frames = torch.full((10,), 60)
    x = truth.sample(frames, g).x.double()
    learner = MixtureHMM(3, 2, 2, "full").double()
    learner.fit(x, frames, iterations=500, tolerance=1e-13, generator=g)
    (learner(x, frames).sum() / frames.sum()).backward()
    for name, parameter in learner.named_parameters():
        assert float(parameter.grad.abs().max()) < 1e-4, name


@torch.no_grad()
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_samples_follow_the_model(covariance):
    made = scattered(covariance)
    frames = torch.full((400,), 100)
    frames[1] = 2
    path, x = made.sample(frames, torch.Generator().manual_seed(3))
    mixture = made.mixture()
    spread = matrices(mixture).float()
    for state in range(3):
        drawn, weight = x[path == state], mixture.log_weight[state].exp()
        mean = (weight[:, None] * mixture.mean[state]).sum(0)
        apart = mixture.mean[state] - mean
        total = (weight[:, None, None] * (spread[state] + apart[:, :, None] * apart[:, None])).sum(0)
        torch.testing.assert_close(drawn.mean(0), mean, atol=0.1, rtol=0.03)
        torch.testing.assert_close(torch.cov(drawn.T), total, atol=0.15, rtol=0.05)
    pairs = (path[:, :-1] * 3 + path[:, 1:])[path[:, 1:] >= 0].bincount(minlength=9).view(3, 3)
    expected = made.topology(1).transition.exp()
    torch.testing.assert_close(pairs / pairs.sum(1, keepdim=True), expected, atol=0.03, rtol=0)
    assert (path[1, 2:] == -1).all()
    assert (x[1, 2:] == 0).all()


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_what_em_found_is_written_into_the_parameters(covariance):
    made, x = scattered(covariance), utterances()
    observed = em.Observed(x, FRAMES)
    found = em.fit(made.model(), [observed], 3, -1.0, 1e-3).model
    made.write(found)
    expected = em.expect(found, observed).log_likelihood
    assert float(made(x, FRAMES).detach().sum()) == pytest.approx(float(expected), abs=1e-3)


def test_state_dict_copy_autocast_and_half_precision():
    made, x = scattered("full", "left_to_right"), utterances()
    expected = made(x, FRAMES)
    other = MixtureHMM(3, 2, 2, "full", "left_to_right")
    other.load_state_dict(made.state_dict())
    for same in (other, copy.deepcopy(made), torch.optim.swa_utils.AveragedModel(made)):
        assert torch.equal(same(x, FRAMES), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(x, FRAMES), expected)
    slopes = torch.autograd.grad(expected.sum(), made.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        under = made(x, FRAMES).sum()
        by_em = [copy.deepcopy(made).fit(x, FRAMES, 3, begin="here")]
    under = torch.autograd.grad(under, made.parameters())
    assert all(torch.equal(a, b) for a, b in zip(slopes, under, strict=True))
    assert by_em == [copy.deepcopy(made).fit(x, FRAMES, 3, begin="here")]
    half = copy.deepcopy(made).bfloat16()
    half(x.bfloat16(), FRAMES).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in half.parameters())
    assert made.mean.grad is None


def test_free_parameters_are_counted():
    """Rows of transitions and weights sum to one; a symmetric matrix has d (d + 1) / 2 elements."""
    arcs, weights, means = 2 + 3 * 2, 3 * (4 - 1), 3 * 4 * 5
    for covariance, spread in {"diagonal": 60, "spherical": 12, "full": 12 * 15, "tied": 15}.items():
        assert MixtureHMM(3, 5, 4, covariance).free() == arcs + weights + means + spread
    assert GaussianHMM(3, 5, topology="left_to_right").free() == 3 + 15 + 15


WRONG = {
    "states must be at least 1, got 0": {"states": 0},
    "covariance must be one of diagonal, spherical, full, tied, got 'round'": {"covariance": "round"},
    "topology must be one of dense, left_to_right, got 'ring'": {"topology": "ring"},
    "floor must lie between 0 and 1, the variance at the start, got 0": {"floor": 0},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message):
    with pytest.raises(ValueError, match=message):
        MixtureHMM(**{"states": 3, "features": 2, "components": 2, **WRONG[message]})
    with pytest.raises(ValueError, match="begin must be k-means, flat or here, got 'cold'"):
        scattered().fit(utterances(), FRAMES, begin="cold")


# Independent witnesses, where they are installed (extra bench).


def learn_from() -> torch.Tensor:
    return separate("dense").sample(torch.full((8,), 100), torch.Generator().manual_seed(5)).x.double()


@pytest.mark.parametrize(
    ("ours", "theirs"), [("diagonal", "diag"), ("spherical", "spherical"), ("full", "full"), ("tied", "tied")]
)
def test_hmmlearn_learns_the_same_gaussians(ours, theirs):
    hmmlearn = pytest.importorskip("hmmlearn.hmm", reason="the extra bench is not installed")
    x, frames = learn_from(), torch.full((8,), 100)
    made = scattered(ours, components=1).double()
    start = copy.deepcopy(made).model()
    made.fit(x, frames, iterations=6, tolerance=-1.0, begin="here")
    # Its covars_prior of 0.01 would add to the variances; its min_covar only bounds a start that it chooses itself.
    peer = hmmlearn.GaussianHMM(
        3,
        theirs,
        n_iter=6,
        tol=-np.inf,
        init_params="",
        covars_prior=0,
        covars_weight=0,
        implementation="log",
    )
    peer.startprob_, peer.transmat_ = (
        start.arcs.initial.exp().detach().numpy(),
        start.arcs.transition.exp().detach().numpy(),
    )
    peer.means_ = start.mixture.mean[:, 0].detach().numpy()
    value = start.mixture.covariance[0].detach()
    peer.covars_ = (value if ours == "tied" else value[:, 0]).numpy()
    rows = x.reshape(-1, 2).numpy()
    peer.fit(rows, [100] * 8)
    assert float(made(x, frames).detach().sum()) == pytest.approx(peer.score(rows, [100] * 8), rel=1e-9)
    np.testing.assert_allclose(made.mean[:, 0].detach(), peer.means_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        made.topology(1).transition.exp().detach(), peer.transmat_, rtol=1e-6, atol=1e-8
    )


def peer_of(hmmlearn, model: em.Model, **options):
    peer = hmmlearn.GMMHMM(3, 2, covariance_type="diag", init_params="", **options)
    peer.n_features = 2
    peer.startprob_, peer.transmat_, peer.weights_, peer.means_, peer.covars_ = (
        value.detach().numpy().copy()
        for value in (
            model.arcs.initial.exp(),
            model.arcs.transition.exp(),
            model.mixture.log_weight.exp(),
            model.mixture.mean,
            model.mixture.covariance.variance,
        )
    )
    return peer


def test_hmmlearn_ends_at_the_same_mixture():
    """It takes variances around the means of the iteration before: other steps, the same end."""
    hmmlearn = pytest.importorskip("hmmlearn.hmm", reason="the extra bench is not installed")
    x, frames, made = learn_from(), torch.full((8,), 100), scattered().double()
    made.fit(x, frames, iterations=3, generator=torch.Generator().manual_seed(0))
    rows = x.reshape(-1, 2).numpy()
    peer = peer_of(hmmlearn, made.model(), n_iter=150, tol=1e-8)
    assert float(made(x, frames).detach().sum()) == pytest.approx(peer.score(rows, [100] * 8), rel=1e-9)
    peer.fit(rows, [100] * 8)
    made.fit(x, frames, iterations=150, tolerance=1e-11, begin="here")
    assert float(made(x, frames).detach().sum()) == pytest.approx(peer.score(rows, [100] * 8), rel=1e-6)
    np.testing.assert_allclose(made.mean.detach(), peer.means_, atol=1e-2)


@pytest.mark.process  # not for a process: importing it alone takes five seconds
def test_pomegranate_scores_the_same_gaussians():
    distributions = pytest.importorskip(
        "pomegranate.distributions", reason="the extra bench is not installed"
    )
    from pomegranate.hmm import DenseHMM

    x, made = learn_from().float(), scattered(components=1)
    model = made.model()
    states = [
        distributions.Normal(
            model.mixture.mean[s, 0].detach(),
            model.mixture.covariance.variance[s, 0].detach(),
            covariance_type="diag",
        )
        for s in range(3)
    ]
    peer = DenseHMM(
        states, edges=model.arcs.transition.exp().detach(), starts=model.arcs.initial.exp().detach()
    )
    with torch.no_grad():
        theirs = peer.log_probability(x)
    # It may end nowhere but at a cost of its own, log(1 / states), in every utterance.
    ours = made(x, torch.full((8,), 100)).detach()
    torch.testing.assert_close(
        theirs.double() - theirs.mean().double(), ours - ours.mean(), rtol=1e-3, atol=1e-2
    )
