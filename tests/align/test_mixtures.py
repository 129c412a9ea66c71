"""The statistics and updates of EM against a plain loop over all paths, and a flat start on data with known truth."""

import itertools

import numpy as np
import pytest
import torch

from hmmtts.align import mixtures, training
from hmmtts.align.aligner import Aligner, answers, batches
from hmmtts.align.centring import Centring
from hmmtts.align.listening import COARSE
from hmmtts.align.mixtures import Batch, Mixtures
from hmmtts.align.script import inventory
from hmmtts.hmm import log_likelihood
from tests.align.synthetic import HOP, SOUNDS, utterances


def small(states=3, components=2, coefficients=2, seed=0) -> Mixtures:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(states, components, generator=generator) + 0.2
    return Mixtures(
        torch.randn(states, components, coefficients, generator=generator),
        torch.rand(states, components, coefficients, generator=generator) + 0.5,
        (weight / weight.sum(1, keepdim=True)).log(),
        (torch.rand(states, generator=generator) * 0.6 + 0.2).log(),
    )


def one(frames=5, ids=(0, 2, 1), skippable=(0, 0, 0), seed=1) -> Batch:
    features = torch.randn(1, frames, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(
        features,
        torch.tensor([frames]),
        torch.tensor([ids]),
        torch.tensor([len(ids)]),
        torch.tensor([skippable], dtype=torch.float32),
    )


def density(model: Mixtures, state: int, x: torch.Tensor) -> torch.Tensor:
    """[k] weight times density of each component, written out."""
    normal = torch.distributions.Normal(model.mean[state].double(), model.variance[state].double().sqrt())
    return model.log_weight[state].double().exp() * normal.log_prob(x.double()).sum(-1).exp()


@pytest.mark.parametrize("skippable", [(0, 0, 0), (0, 1, 0)])
def test_counts_equal_the_sum_over_all_paths(skippable):
    model, batch = small(), one(skippable=skippable)
    ids, frames = batch.ids[0].tolist(), int(batch.frames[0])
    stay = model.stay.double().exp()
    total, moments, visits = (
        0.0,
        torch.zeros(3, 2, 5, dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
    )
    for path in itertools.product(range(3), repeat=frames):
        steps = [b - a for a, b in itertools.pairwise(path)]
        allowed = all(s in (0, 1) or (s == 2 and skippable[a + 1]) for s, a in zip(steps, path, strict=False))
        if path[0] != 0 or path[-1] != 2 or not allowed:
            continue
        weight = 1 - stay[ids[2]]  # the way out
        for a, s in zip(path, steps, strict=False):
            over = a + 1 < 3 and skippable[a + 1]
            weight = weight * (stay[ids[a]] if s == 0 else (1 - stay[ids[a]]) * (0.5 if over else 1.0))
        parts = [density(model, ids[n], batch.features[0, t]) for t, n in enumerate(path)]
        weight = weight * torch.stack([part.sum() for part in parts]).prod()
        total += weight
        for t, (n, part) in enumerate(zip(path, parts, strict=True)):
            x = batch.features[0, t].double()
            powers = torch.cat([torch.ones(1, dtype=torch.float64), x, x.square()])
            moments[ids[n]] += weight * (part / part.sum())[:, None] * powers
        for n in set(path):
            visits[ids[n]] += weight
    counts = mixtures.expect(model, batch)
    torch.testing.assert_close(counts.moments, moments / total, rtol=1e-4, atol=1e-5)
    if not any(skippable):  # of a state that may be left out, visits are bounded by its occupancy, not exact
        torch.testing.assert_close(counts.visits, visits / total, rtol=1e-4, atol=1e-5)


def test_em_never_lowers_the_likelihood(monkeypatch):
    """The prior on variances and the limits on durations are off: with them it is another function that rises."""
    monkeypatch.setattr(mixtures, "POOLED", 0.0)
    monkeypatch.setattr(mixtures, "FLOOR", 1e-6)
    monkeypatch.setattr(mixtures, "LEAST", 0.0)
    monkeypatch.setattr(mixtures, "STAY", (1e-6, 1 - 1e-6))
    batch = one(frames=40)
    model = small()
    scores = []
    for _ in range(8):
        log_obs = mixtures.log_densities(mixtures.component_scores(model, batch))
        scores.append(
            float(log_likelihood(log_obs, mixtures.chain(model, batch), batch.frames, batch.states))
        )
        model = mixtures.estimate(mixtures.expect(model, batch), model)
    assert scores[-1] > scores[0] + 1
    assert (np.diff(scores) > -0.02).all()  # the weights' pseudo-count of 0.1


def test_padding_and_company_change_nothing():
    model = small()
    short, long = one(frames=6), one(frames=11, seed=5)
    features = torch.full((2, 11, 2), 7.0)
    features[0, :6], features[1] = short.features[0], long.features[0]
    both = Batch(
        features, torch.tensor([6, 11]), short.ids.repeat(2, 1), torch.tensor([3, 3]), torch.zeros(2, 3)
    )
    together, apart = mixtures.expect(model, both), [mixtures.expect(model, x) for x in (short, long)]
    for name in mixtures.Counts._fields:
        torch.testing.assert_close(
            getattr(together, name), sum(getattr(x, name) for x in apart), rtol=1e-5, atol=1e-5
        )


def test_a_rare_state_takes_the_pooled_variance_and_keeps_its_mean():
    before = small(components=1)
    counts = mixtures.no_counts(before)
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(2)).double()
    counts.moments[0, 0] = torch.cat([torch.tensor([1000.0]).double(), x.sum(0), x.square().sum(0)])
    counts.visits[:] = 1.0
    after = mixtures.estimate(counts, before)
    torch.testing.assert_close(after.mean[0, 0], x.mean(0).float())
    torch.testing.assert_close(after.mean[1], before.mean[1])
    torch.testing.assert_close(after.stay[0].exp(), torch.tensor(0.99))


def test_split_keeps_the_mean_density():
    model = small(components=1)
    halves = mixtures.split(model)
    torch.testing.assert_close(halves.mean.mean(1), model.mean[:, 0])
    torch.testing.assert_close(halves.log_weight.exp().sum(1), torch.ones(3))


def flat_aligner(coefficients: int, states: int) -> Aligner:
    listening = COARSE._replace(hop=HOP)
    places = inventory(dict.fromkeys(SOUNDS, states))
    still = Centring(
        np.zeros(coefficients), np.ones(coefficients), np.ones(coefficients), np.zeros(coefficients), HOP
    )
    return Aligner(
        listening,
        HOP / 2,
        places,
        still,
        mixtures.blank(places.size, coefficients),
        {},
        torch.arange(places.size),
    )


def test_a_flat_start_finds_the_boundaries_of_a_known_model():
    tracks, truth = utterances(40, seed=3)
    aligner = training._flat_start(flat_aligner(6, 1), tracks)
    aligner = training.em(aligner, tracks, 12, scales=training.ANNEALING)
    found = [np.round(answer.edges[:-1] / HOP) for answer in answers(aligner, tracks)]
    errors = np.concatenate([a - b for a, b in zip(found, truth, strict=True)])
    assert (np.abs(errors) <= 1).mean() > 0.97
    assert abs(np.median(errors)) == 0.0


def test_the_flat_start_is_what_em_improves_on():
    """Uniform segments alone are far off, so that the test above tests the learning."""
    tracks, truth = utterances(40, seed=3)
    uniform = [np.linspace(0, len(t.features), len(t.script.symbols) + 1)[:-1] for t in tracks]
    errors = np.concatenate([a - b for a, b in zip(uniform, truth, strict=True)])
    assert (np.abs(errors) <= 1).mean() < 0.5


def test_batches_hold_every_utterance_once():
    tracks, _ = utterances(30, seed=4)
    aligner = flat_aligner(6, 2)
    groups = [group for group, _ in batches(aligner, tracks)]
    assert sorted(i for group in groups for i in group) == list(range(30))
