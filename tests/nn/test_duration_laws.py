"""Laws of duration: scipy's densities, hard limits, and an M step that finds what made the counts."""

import math

import pytest
import torch
from scipy import stats

from hmmtts.nn import duration_laws
from hmmtts.nn.duration_laws import expected, log_probabilities, maximise, quantile, range_of

LOG = math.log
# Free parameters, and scipy's density of the same.
WITNESSES = {
    "Gamma": ([LOG(7.0), LOG(3.0)], lambda d: stats.gamma.pdf(d, 3.0, scale=7 / 3)),
    "Poisson": ([LOG(6.0)], lambda d: stats.poisson.pmf(d, 6.0)),
    "NegativeBinomial": ([LOG(6.0), LOG(2.5)], lambda d: stats.nbinom.pmf(d, 2.5, 2.5 / 8.5)),
    "Gaussian": ([LOG(9.0), LOG(3.0)], lambda d: stats.norm.pdf(d, 9.0, 3.0)),
    "Weibull": ([LOG(8.0), LOG(1.7)], lambda d: stats.weibull_min.pdf(d, 1.7, scale=8.0)),
}
PARAMETRIC = sorted(WITNESSES)
ALL = [*PARAMETRIC, "Table"]


@pytest.mark.parametrize("name", PARAMETRIC)
@pytest.mark.parametrize("limits", [(1, 30), (4, 12), (5, 5)])
def test_the_densities_are_scipys_normalised_between_the_limits(name, limits):
    shortest, longest = limits
    free, density = WITNESSES[name]
    law = getattr(duration_laws, name)()
    got = log_probabilities(law, torch.tensor([free], dtype=torch.float64), shortest, longest)[0].exp()
    truth = torch.tensor(density(range_of(shortest, longest).numpy()))
    assert (got[: shortest - 1] == 0).all()
    torch.testing.assert_close(got[shortest - 1 :], truth.double() / truth.double().sum())


@pytest.mark.parametrize("name", ALL)
def test_every_law_is_normalised_and_starts_near_its_mean(name):
    law, d = getattr(duration_laws, name)(), range_of(2, 40)
    start = law.start(10.0, d)
    law_of_states = log_probabilities(law, start.repeat(3, 2, 1), 2, 40)
    assert law_of_states.shape == (3, 2, 40)
    torch.testing.assert_close(law_of_states.exp().sum(-1), torch.ones(3, 2))
    assert 7 < float(expected(law_of_states)[0, 0]) < 13


@pytest.mark.parametrize("name", ALL)
def test_the_m_step_finds_the_law_that_made_the_counts(name):
    """And no other parameters near it are likelier; a state that was never seen stays as it is."""
    torch.manual_seed(0)
    law, d = getattr(duration_laws, name)(), range_of(2, 30).double()
    true = law.start(8.0, d).double()
    true = true + 0.2 * torch.randn(3, len(true), dtype=torch.float64)
    counts = 500 * log_probabilities(law, true, 2, 30).exp()
    counts[2] = 0
    before = law.start(5.0, d).double().repeat(3, 1)
    fitted = maximise(law, before, counts, 2)
    found = log_probabilities(law, fitted, 2, 30).exp()
    torch.testing.assert_close(found[:2], counts[:2] / 500, atol=1e-6, rtol=0)
    torch.testing.assert_close(fitted[2], before[2])


@pytest.mark.parametrize("name", ALL)
def test_the_m_step_never_loses_on_counts_of_any_shape(name):
    g = torch.Generator().manual_seed(1)
    law, d = getattr(duration_laws, name)(), range_of(1, 20)
    counts = torch.rand(40, 20, generator=g).pow(8)
    counts[0], counts[0, 0] = 0, 5.0  # all at the shortest
    counts[1], counts[1, 19] = 0, 5.0  # all at the longest
    counts[2, 1:19] = 0  # at both ends
    before = law.start(6.0, d).repeat(40, 1)
    after = maximise(law, before, counts, 1)
    assert torch.isfinite(after).all()

    def value(free):
        inside = log_probabilities(law, free.double(), 1, 20)
        return torch.where(counts > 0, counts * inside, 0.0).sum(-1)

    assert (value(after) >= value(before) - 1e-6).all()
    assert value(after).sum() > value(before).sum() + 1.0


def test_quantiles_and_means_against_sums():
    law = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    shares = (0.05, 0.09, 0.11, 0.59, 0.61, 0.999999)
    assert [float(quantile(law, share)) for share in shares] == [1, 1, 2, 3, 4, 4]
    assert float(expected(law)) == pytest.approx(3.0)
    thirds = torch.full((1, 3), 1 / 3).log()  # whose sum may fall short of 1
    assert float(quantile(thirds, 1.0)) == 3


def test_limits_are_refused():
    for shortest, longest in ((0, 5), (6, 5)):
        with pytest.raises(ValueError, match=r"1 <= shortest <= longest"):
            range_of(shortest, longest)
    with pytest.raises(ValueError, match="frames_per_state must lie between shortest 3 and longest 5, got 9"):
        duration_laws.Predicted(4, duration_laws.Gamma(), longest=5, shortest=3, frames_per_state=9)
