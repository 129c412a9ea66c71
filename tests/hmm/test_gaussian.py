"""Densities of Gaussian mixtures against torch.distributions and scipy, and their gradients against differences."""

import pytest
import scipy.stats
import torch

from hmmtts.hmm import gaussian
from hmmtts.hmm.covariance import Diagonal, Full, Tied
from hmmtts.hmm.gaussian import Mixture, log_densities, scores
from tests.hmm.mixtures import KINDS, mixture, true_log_densities

WAYS = {"direct": 10**9, "product": 0}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(gaussian, "DIRECT", WAYS[request.param])
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "m", "d"), [(1, 1, 1), (4, 3, 5), (17, 1, 7), (3, 6, 13), (40, 2, 3)])
def test_equals_torch_distributions(kind, k, m, d, way):
    given = mixture(kind, k, m, d)
    x = 2 * torch.randn(3, 5, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = true_log_densities(x, given)
    torch.testing.assert_close(log_densities(x, given), truth, atol=1e-10, rtol=1e-12)
    single = mixture(kind, k, m, d, dtype=torch.float32)
    torch.testing.assert_close(log_densities(x.float(), single).double(), truth, atol=2e-5, rtol=5e-6)


def test_equals_scipy():
    given = mixture(Full, 1, 1, 4)
    x = torch.randn(6, 4, dtype=torch.float64)
    truth = scipy.stats.multivariate_normal(given.mean[0, 0], given.covariance.matrix[0, 0]).logpdf(x)
    assert log_densities(x, given)[:, 0].numpy() == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 3])
def test_gradients_by_everything(kind, m):
    given = mixture(kind, 2, m, 3)
    x = torch.randn(5, 3, dtype=torch.float64)

    def density(x, weight, mean, value):
        if kind in (Full, Tied):
            value = 0.5 * (
                value + value.mT
            )  # a step along one element must stay among the symmetric matrices
        return log_densities(x, Mixture(weight, mean, kind(value)))

    inputs = [value.requires_grad_() for value in (x, given.log_weight, given.mean, given.covariance[0])]
    assert torch.autograd.gradcheck(density, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_gradients_are_those_of_float64(kind, way):
    g = torch.Generator().manual_seed(3)
    x, weight = torch.randn(300, 5, generator=g) * 2, torch.randn(300, 4, generator=g)
    found = []
    for dtype in (torch.float32, torch.float64):
        given = mixture(kind, 4, 3, 5, dtype=dtype)
        inputs = [
            v.requires_grad_() for v in (x.to(dtype), given.log_weight, given.mean, given.covariance[0])
        ]
        density = log_densities(inputs[0], Mixture(inputs[1], inputs[2], kind(inputs[3])))
        found.append(torch.autograd.grad((density * weight.to(dtype)).sum(), inputs))
        x = x.detach()
    for single, double in zip(*found, strict=True):
        error = (single.double() - double).abs().max() / double.abs().max()
        assert float(error) < 1e-5


def test_direct_keeps_its_digits_far_from_zero(monkeypatch):
    """Deviations of 0.1 around means near -6, 80 features: what log-mels look like. The product loses 3e-3 nats."""
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(10, 3, 80, generator=g) - 6
    given = Mixture(torch.zeros(10, 3).log_softmax(-1), mean, Diagonal(torch.full((10, 3, 80), 0.01)))
    x = mean.flatten(0, 1).repeat(20, 1) + 0.1 * torch.randn(600, 80, generator=g)
    truth = true_log_densities(x, given)
    near = truth >= truth.amax(-1, keepdim=True) - 50
    errors = {}
    for name, limit in WAYS.items():
        monkeypatch.setattr(gaussian, "DIRECT", limit)
        errors[name] = float((log_densities(x, given) - truth)[near].abs().max())
    # The mixture was rounded to float32 before either saw it.
    assert errors["direct"] < 2e-4
    assert errors["product"] < 1e-2


def test_a_backward_pass_under_autocast_is_in_float32():
    given = mixture(Diagonal, 3, 2, 4, dtype=torch.float32)
    x = torch.randn(9, 4).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(log_densities(x, given).sum(), x)
    assert torch.equal(found, torch.autograd.grad(log_densities(x, given).sum(), x)[0])


def test_shares_are_the_posteriors_of_the_components(way):
    given = mixture(Diagonal, 5, 4, 6, dtype=torch.float32)
    x = torch.randn(50, 6)
    joint = (
        torch.stack(
            [
                true_log_densities(
                    x,
                    Mixture(
                        torch.zeros(5, 1),
                        given.mean[:, c : c + 1],
                        Diagonal(given.covariance[0][:, c : c + 1]),
                    ),
                )
                for c in range(4)
            ],
            1,
        )
        + given.log_weight.T
    )
    torch.testing.assert_close(scores(x, given).share.double(), joint.softmax(1), atol=1e-5, rtol=0)


def test_a_component_without_weight_changes_nothing():
    given = mixture(Diagonal, 3, 2, 4, dtype=torch.float32)
    weight = torch.tensor([0.0, -torch.inf]).repeat(3, 1)
    x = torch.randn(9, 4)
    alone = Mixture(torch.zeros(3, 1), given.mean[:, :1], Diagonal(given.covariance.variance[:, :1]))
    torch.testing.assert_close(log_densities(x, given._replace(log_weight=weight)), log_densities(x, alone))


def test_what_is_no_number_is_passed_on_and_what_is_far_stays_finite():
    given = mixture(Diagonal, 3, 2, 4, dtype=torch.float32)
    x = torch.zeros(4, 4)
    x[1, 2], x[2, 0] = torch.nan, 1e25
    found = log_densities(x, given)
    assert found[1].isnan().all()
    assert (found[2] < -1e37).all()
    assert found[2].isfinite().all()
    assert torch.equal(found[0], found[3])


def test_threads_and_odd_sizes_agree(monkeypatch):
    given = mixture(Diagonal, 10, 3, 9, dtype=torch.float32)
    x = torch.randn(3001, 9)
    one = log_densities(x, given)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(log_densities(x, given), one)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(log_densities(x[:1], given), one[:1])


def test_a_wrong_number_of_features_is_named():
    with pytest.raises(ValueError, match="x must have the 4 features of the means, got 5"):
        log_densities(torch.zeros(2, 5), mixture(Diagonal, 3, 2, 4))
