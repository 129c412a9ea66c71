"""Mixtures as the emission of a voice: the density, its start, and that it learns what one Gaussian cannot say."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from hmmtts.build.bundle import load
from hmmtts.nn.emissions.gaussian import Gaussian
from hmmtts.nn.emissions.mixture import Mixture
from hmmtts.training import run as runs
from hmmtts.training.prepare import prepare
from tests.training.test_run import accuracies, composed


def scattered(components: int, width=4, features=6) -> Mixture:
    torch.manual_seed(0)
    made = Mixture(width, features, components)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("components", [1, 3])
def test_it_is_the_density_of_a_mixture(components):
    made, cells, x = scattered(components), torch.randn(2, 5, 4), torch.randn(2, 7, 6)
    log_weight, gaussians = made.components_of(cells)
    mean, deviation = (part.unflatten(1, (5, components)).double()[:, None] for part in gaussians)
    mixture = MixtureSameFamily(
        Categorical(logits=log_weight.double()[:, None]), Independent(Normal(mean, deviation), 1)
    )
    truth = mixture.log_prob(x[:, :, None].double())
    torch.testing.assert_close(made(cells, x).double(), truth, atol=1e-4, rtol=1e-5)


def test_all_states_start_equal_and_one_component_is_the_gaussian():
    cells, x = torch.randn(1, 5, 4), torch.randn(1, 7, 6)
    made = Mixture(4, 6, components=3)
    log_obs = made(cells, x)
    torch.testing.assert_close(log_obs, log_obs[..., :1].expand_as(log_obs))
    assert not torch.equal(*made.components_of(cells)[1].mean[0, :2])
    torch.testing.assert_close(Mixture(4, 6, components=1)(cells, x), Gaussian(4, 6)(cells, x))


def test_two_components_learn_a_sound_that_is_made_in_two_ways():
    g = torch.Generator().manual_seed(0)
    x = torch.where(torch.rand(1, 200, 1, generator=g) < 0.5, -2.0, 2.0) + 0.5 * torch.randn(
        1, 200, 3, generator=g
    )
    cells, reached = torch.ones(1, 1, 2), {}
    for components in (1, 2):
        torch.manual_seed(0)
        made = Mixture(2, 3, components, floor=0.1)
        optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
        for _ in range(150):
            loss = -made(cells, x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        reached[components] = -loss.item()
    weight = torch.tensor([0.5, 0.5])
    truth = MixtureSameFamily(
        Categorical(weight), Independent(Normal(torch.tensor([[-2.0] * 3, [2.0] * 3]), torch.tensor(0.5)), 1)
    )
    assert reached[2] == pytest.approx(float(truth.log_prob(x).mean()), abs=0.05)
    assert reached[1] < reached[2] - 3


@pytest.mark.parametrize("wrong", [{"components": 0}, {"floor": 1.0}])
def test_a_wrong_argument_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        partial(Mixture, 4, 6)(**wrong)


@pytest.mark.process  # not for a process: a whole training takes half a minute
def test_a_recipe_trains_with_mixtures(tmp_path: Path, monkeypatch):
    """In 60 steps from a flat start; equal parts of the utterance would give 25 %."""
    monkeypatch.chdir(tmp_path)
    corpus = prepare("demo", {"profile": "tiny"}, None).resolve()
    monkeypatch.setattr(runs, "prepare", lambda *_: corpus)
    runs.run(composed("aligner=mixture", f"data.cache_dir={corpus}/cache"))
    assert accuracies(tmp_path / "runs/demo/t")[-1] > 0.85
    emission = load(tmp_path / "runs/demo/t").model.aligner.layer.emission
    assert isinstance(emission, Mixture)
    assert emission.components == 2
