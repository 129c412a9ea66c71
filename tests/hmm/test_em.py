"""Baum-Welch: statistics against enumeration of every path and component, steps that never lose, parts that add up."""

import itertools

import pytest
import torch

from hmmtts.hmm import Dense, LeftToRight, em, start
from hmmtts.hmm.covariance import Diagonal, Full, Tied
from hmmtts.hmm.em import Model, Observed
from hmmtts.nn import MixtureHMM
from tests.hmm.mixtures import KINDS, matrices, mixture

FLOOR = 1e-3
CHAINS = ["dense", "dense_final", "left_to_right", "skips"]


def chain(name: str, k: int, dtype=torch.float64) -> em.Chain:
    g = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).log_softmax(-1).to(dtype)

    if name == "dense":
        return Dense(draw(k), draw(k, k))
    if name == "dense_final":
        leaving = draw(k, k + 1)
        return Dense(draw(k), leaving[:, :-1], leaving[:, -1])
    arcs = draw(1, k, 3 if name == "skips" else 2)
    return LeftToRight(*arcs.unbind(-1))


def observed(b=6, t=40, d=3, dtype=torch.float64, seed=5) -> Observed:
    """Three noisy plateaus, of various lengths; NaN in the padding."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.randint(t // 2, t + 1, (b,), generator=g)
    x = torch.randn(b, t, d, generator=g, dtype=torch.float64)
    x += 3 * torch.sin(torch.arange(t) / 6)[:, None]
    for i, length in enumerate(frames):
        x[i, length:] = torch.nan
    return Observed(x.to(dtype), frames)


@pytest.mark.parametrize("kind", [Diagonal, Full, Tied])
@pytest.mark.parametrize("name", ["dense", "left_to_right"])
def test_statistics_are_sums_over_all_paths_and_components(name, kind):
    k, m, d, t = 2, 2, 2, 4
    model = Model(chain(name, k), mixture(kind, k, m, d, spread=1.0))
    g = torch.Generator().manual_seed(2)
    x = torch.randn(1, t, d, generator=g, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(model.mixture.mean, matrices(model.mixture))
    emitted = normal.log_prob(x[0, :, None, None]) + model.mixture.log_weight
    topology = model.topology(1)
    total, weights = [], {}
    for path in itertools.product(range(k), repeat=t):
        for which in itertools.product(range(m), repeat=t):
            score = sum(emitted[i, s, c] for i, (s, c) in enumerate(zip(path, which, strict=True)))
            if name == "dense":
                score += topology.initial[path[0]] + sum(
                    topology.transition[a, b] for a, b in itertools.pairwise(path)
                )
            else:
                steps = [b - a for a, b in itertools.pairwise(path)] + [1]
                if path[0] != 0 or path[-1] != k - 1 or set(steps) - {0, 1}:
                    continue
                score += sum(topology[step][0, s] for s, step in zip(path, steps, strict=True))
            weights[path, which] = score
            total.append(score)
    log_z = torch.logsumexp(torch.stack(total), 0)
    count, first = torch.zeros(k, m, dtype=torch.float64), torch.zeros(k, m, d, dtype=torch.float64)
    second = torch.zeros(k, m, d, d, dtype=torch.float64)
    stays = torch.zeros(k, dtype=torch.float64)
    for (path, which), score in weights.items():
        share = (score - log_z).exp()
        for i, (s, c) in enumerate(zip(path, which, strict=True)):
            count[s, c] += share
            first[s, c] += share * x[0, i]
            second[s, c] += share * torch.outer(x[0, i], x[0, i])
            stays[s] += share * (i + 1 < t and path[i + 1] == s)
    found = em.expect(model, Observed(x, torch.tensor([t])))
    torch.testing.assert_close(found.log_likelihood, log_z)
    torch.testing.assert_close(found.moments.occupancy, count)
    torch.testing.assert_close(found.moments.first, first)
    expected = {Diagonal: second.diagonal(dim1=-2, dim2=-1), Full: second, Tied: second.sum((0, 1))}[kind]
    torch.testing.assert_close(found.moments.second, expected)
    counted = found.arcs.transition.diagonal() if name == "dense" else found.arcs.stay[0]
    torch.testing.assert_close(counted, stays)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHAINS)
def test_em_never_lowers_the_likelihood(name, kind):
    for seed in range(2):
        model = Model(chain(name, 3), mixture(kind, 3, 2, 3, seed=seed))
        history = em.fit(
            model, [observed(seed=seed)], iterations=25, tolerance=-1.0, floor=FLOOR
        ).log_likelihoods
        gains = torch.tensor(history, dtype=torch.float64).diff()
        assert float(gains.min()) > -1e-10
        assert history[-1] > history[0] + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_em_never_lowers_the_likelihood_at_the_floor(kind):
    """Two of the three features are constant: without a floor their variance goes to zero and the likelihood to infinity."""
    data = observed()
    data.x[..., 1:] = torch.where(data.x[..., 1:].isnan(), torch.nan, 0.5)
    before = mixture(kind, 3, 2, 3)
    history = em.fit(Model(chain("dense", 3), before), [data], iterations=20, tolerance=-1.0, floor=0.01)
    assert float(torch.tensor(history.log_likelihoods, dtype=torch.float64).diff().min()) > -1e-9
    least = torch.linalg.eigvalsh(matrices(history.model.mixture)).min()
    assert 0.01 <= float(least) < 0.02 or kind.__name__ == "Spherical"


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_state_and_one_component_the_estimate_is_the_sample_covariance(kind):
    data = observed()
    real = torch.cat([x[:n] for x, n in zip(data.x, data.frames, strict=True)])
    first = Model(Dense(torch.zeros(1).double(), torch.zeros(1, 1).double()), mixture(kind, 1, 1, 3))
    found = em.fit(first, [data], iterations=1, tolerance=0, floor=FLOOR).model.mixture
    torch.testing.assert_close(found.mean[0, 0], real.mean(0))
    covariance = torch.cov(real.T, correction=0)
    if kind is Diagonal:
        covariance = covariance.diag().diag()
    if kind.__name__ == "Spherical":
        covariance = covariance.diag().mean() * torch.eye(3)
    torch.testing.assert_close(matrices(found)[0, 0], covariance.double(), atol=1e-9, rtol=1e-6)


def test_batches_padding_and_precision_change_nothing():
    model, data = Model(chain("left_to_right", 3), mixture(Diagonal, 3, 2, 3)), observed()
    whole = em.expect(model, data)
    parts = [
        em.expect(model, Observed(x[None, :n], n[None])) for x, n in zip(data.x, data.frames, strict=True)
    ]
    added = parts[0]
    for part in parts[1:]:
        added = em.add(added, part)
    single = Model(chain("left_to_right", 3, torch.float32), mixture(Diagonal, 3, 2, 3, dtype=torch.float32))
    other = em.expect(single, Observed(data.x.float(), data.frames))
    for a, b, c in zip(flat(whole), flat(added), flat(other), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(a, c, atol=2e-3, rtol=2e-5)


def flat(statistics: em.Statistics) -> list[torch.Tensor]:
    values = [statistics.log_likelihood, statistics.frames, *statistics.arcs, *statistics.moments]
    return [value for value in values if value is not None]


def test_variances_survive_a_mean_far_from_zero():
    """In float32, x^2 at 1,000 is known to 0.06 only."""
    data = observed(dtype=torch.float32)
    far = data._replace(x=data.x + 1000)
    near = start.mixture(data, start.in_order(data, 3), Diagonal, 3, 1, FLOOR)
    there = near._replace(mean=near.mean + 1000)
    arcs = start.ordered_arcs(data.frames, 3)
    found = [em.fit(Model(arcs, given), [x], 5, -1.0, FLOOR) for given, x in ((near, data), (there, far))]
    a, b = (fit.model.mixture.covariance.variance for fit in found)
    torch.testing.assert_close(a, b, rtol=2e-3, atol=0)
    assert found[0].log_likelihoods[-1] == pytest.approx(found[1].log_likelihoods[-1], abs=1e-3)


def test_forbidden_arcs_stay_forbidden_and_unseen_components_stay_as_they_are():
    arcs = Dense(
        torch.tensor([0.0, -torch.inf, -torch.inf]),
        torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.0, 0, 1]]).log(),
    )
    given = mixture(Diagonal, 3, 2, 3, dtype=torch.float32)
    given.mean[2, 1] = 1e4  # no frame is near
    found = em.fit(Model(arcs, given), [observed(dtype=torch.float32)], 10, -1.0, FLOOR).model
    assert (found.arcs.transition[arcs.transition == -torch.inf] == -torch.inf).all()
    assert torch.equal(found.arcs.initial, arcs.initial)
    assert torch.equal(found.mixture.mean[2, 1], given.mean[2, 1])
    assert torch.equal(found.mixture.covariance.variance[2, 1], given.covariance.variance[2, 1])


def test_stepwise_em_comes_near_the_full_one():
    data = observed(b=40, dtype=torch.float32)
    label = start.in_order(data, 3)
    model = Model(start.dense_arcs(label, 3), start.mixture(data, label, Diagonal, 3, 1, FLOOR))
    full = em.fit(model, [data], 30, 1e-6, FLOOR)
    batches = [Observed(*part) for part in zip(data.x.split(4), data.frames.split(4), strict=True)]
    found = em.fit_stepwise(model, batches, 40, 0.7, FLOOR, torch.Generator().manual_seed(0))
    reached = float(em.expect(found.model, data).log_likelihood / data.frames.sum())
    assert full.log_likelihoods[0] + 0.9 * (full.log_likelihoods[-1] - full.log_likelihoods[0]) < reached
    with pytest.raises(ValueError, match=r"decay must be more than 0\.5 and at most 1, got 0\.3"):
        em.fit_stepwise(model, batches, 1, 0.3, FLOOR)


def test_k_means_finds_separate_clusters():
    g = torch.Generator().manual_seed(0)
    centre = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10], [1000, 1000]])
    label = torch.randint(5, (500,), generator=g)
    found = start.k_means(centre[label] + torch.randn(500, 2, generator=g), 5, generator=g)
    names = found.label[[int((label == i).nonzero()[0]) for i in range(5)]]
    assert torch.equal(names[label], found.label)
    with pytest.raises(ValueError, match="6 clusters need at least as many frames, got 5"):
        start.k_means(torch.zeros(5, 2), 6)


def test_an_utterance_that_cannot_be_made_is_an_error():
    arcs = Dense(torch.tensor([-torch.inf, 0.0]), torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]]))
    with pytest.raises(ValueError, match="log-likelihood is -inf"):
        em.fit(
            Model(arcs, mixture(Diagonal, 2, 1, 3, dtype=torch.float32)),
            [observed(dtype=torch.float32)],
            2,
            0,
            FLOOR,
        )
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        em.fit(Model(arcs, mixture(Diagonal, 2, 1, 3)), [], 2, 0, FLOOR)


def shares(data: Observed) -> list[Observed]:
    """Of two processes, unequal."""
    return [Observed(data.x[:2], data.frames[:2]), Observed(data.x[2:], data.frames[2:])]


def rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    own = shares(observed(b=7))[rank]
    fits = [
        em.fit(Model(chain("dense", 3), mixture(Full, 3, 2, 3)), [own], 5, -1.0, FLOOR, em.over_processes),
        em.fit_stepwise(
            Model(chain("dense", 3), mixture(Full, 3, 2, 3)), [own], 3, 0.7, FLOOR, None, em.over_processes
        ),
    ]
    found = [
        (f.log_likelihoods, [*f.model.arcs[:2], *f.model.mixture[:2], *f.model.mixture[2]]) for f in fits
    ]
    made = MixtureHMM(3, 3, 2, "full").double()
    generator = torch.Generator().manual_seed(rank)
    history = made.fit(*own, 5, -1.0, generator=generator, distributed=True)
    torch.save([*found, (history, list(made.parameters()))], f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory):
    """What two processes found, fit by fit."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(rank_main, (str(folder),), nprocs=2)
    return list(zip(*(torch.load(folder / str(rank), weights_only=True) for rank in range(2)), strict=True))


def assert_one_model(of_both, log_likelihoods: list[float], parameters: list[torch.Tensor]) -> None:
    """The two have the same to the last bit, and that of one process to rounding."""
    a, b = of_both
    assert a[0] == b[0]
    assert a[0] == pytest.approx(log_likelihoods, abs=1e-10)
    for value, x, y in zip(parameters, a[1], b[1], strict=True):
        assert torch.equal(x, y)
        torch.testing.assert_close(x, value, atol=1e-8, rtol=1e-8)


@pytest.mark.process
def test_two_processes_come_to_the_model_of_one(of_ranks):
    data, model = observed(b=7), Model(chain("dense", 3), mixture(Full, 3, 2, 3))
    alone = [em.fit(model, [data], 5, -1.0, FLOOR), em.fit_stepwise(model, [data], 3, 0.7, FLOOR)]
    for one, of_both in zip(alone, of_ranks[:2], strict=True):
        fitted = one.model
        assert_one_model(
            of_both, one.log_likelihoods, [*fitted.arcs[:2], *fitted.mixture[:2], *fitted.mixture[2]]
        )


@pytest.mark.process
def test_a_layer_of_two_processes_is_that_of_one(of_ranks):
    """It begins where k-means of the first process's utterances begins, and learns from those of both."""
    data = observed(b=7)
    alone = MixtureHMM(3, 3, 2, "full").double()
    assert alone.fit(*shares(data)[0], 0, generator=torch.Generator().manual_seed(0)) == []
    history = alone.fit(*data, 5, -1.0, begin="here")
    assert_one_model(of_ranks[2], history, [parameter.detach() for parameter in alone.parameters()])
