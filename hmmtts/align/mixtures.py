"""States that emit Gaussian mixtures, and what EM needs of them. m states of the model, k components, c coefficients.

Letters of a batch: b utterances, u frames, n states of an utterance's chain, each one of the model's m.
Everything about the data that an update needs is in `Counts` (Baum et al. 1970; Bilmes 1998, equations for mixtures):
they add up over batches, and `estimate` turns them into the next model.
"""

import math
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm import LeftToRight, posteriors
from hmmtts.hmm.topology import left_to_right

FLOOR = 0.01  # of the variance of all speech, which is 1 in every coefficient
POOLED = 4.0  # frames: how strongly a variance leans on the one that all states share
LEAST = 2.0  # frames that a component must have seen for its mean to move
STAY = (0.02, 0.99)  # a duration may be short or long, never impossible


class Mixtures(NamedTuple):
    """Diagonal Gaussians; features are normalised, so that every coefficient has mean 0 and variance 1 over all."""

    mean: Float[Tensor, "m k c"]
    variance: Float[Tensor, "m k c"]
    log_weight: Float[Tensor, "m k"]
    stay: Float[Tensor, "m"]  # log-probability of another frame in the state


class Counts(NamedTuple):
    """Expected sufficient statistics, float64."""

    moments: Float[Tensor, "m k d"]  # of (1, x, x^2), d = 1 + 2 c
    visits: Float[Tensor, "m"]  # how often the state is entered


class Batch(NamedTuple):
    """Utterances, padded at the end."""

    features: Float[Tensor, "b u c"]
    frames: Int[Tensor, "b"]
    ids: Int[Tensor, "b n"]  # state of the model at each place of the chain
    states: Int[Tensor, "b"]
    skippable: Float[Tensor, "b n"]  # 1 where the state may be left out: a pause that may not be there


def blank(states: int, coefficients: int) -> Mixtures:
    """One component a state, all alike."""
    shape = (states, 1, coefficients)
    return Mixtures(
        torch.zeros(shape), torch.ones(shape), torch.zeros(states, 1), torch.full((states,), math.log(0.5))
    )


def no_counts(model: Mixtures) -> Counts:
    m, k, c = model.mean.shape
    return Counts(torch.zeros(m, k, 1 + 2 * c, dtype=torch.float64), torch.zeros(m, dtype=torch.float64))


def component_scores(model: Mixtures, batch: Batch) -> Float[Tensor, "b u k n"]:
    """log weight + log density of every component: one matrix product, since features are centred and near 1."""
    k, c = model.mean.shape[1:]
    precision = 1 / model.variance
    quadratic = torch.cat([-0.5 * precision, model.mean * precision], -1)
    constant = model.log_weight - 0.5 * (
        (2 * math.pi * model.variance).log() + model.mean.square() * precision
    ).sum(-1)
    b, u, _ = batch.features.shape
    n = batch.ids.shape[1]
    weights = quadratic[batch.ids].transpose(1, 2).reshape(b, k * n, 2 * c)
    offsets = constant[batch.ids].transpose(1, 2).reshape(b, 1, k * n)
    powers = torch.cat([batch.features.square(), batch.features], -1)
    return torch.baddbmm(offsets, powers, weights.mT).reshape(b, u, k, n)


def log_densities(components: Float[Tensor, "b u k n"]) -> Float[Tensor, "b u n"]:
    return reduce(torch.logaddexp, components.unbind(2))


def chain(model: Mixtures, batch: Batch) -> LeftToRight:
    """A state leads to the next; where that may be left out, half of the paths pass over it."""
    arcs = left_to_right(model.stay[batch.ids])
    if not bool(batch.skippable.any()):
        return arcs
    over = torch.zeros_like(batch.skippable)
    over[:, :-1] = batch.skippable[:, 1:]
    half = math.log(0.5)
    return LeftToRight(
        arcs.stay,
        torch.where(over > 0, arcs.move + half, arcs.move),
        torch.where(over > 0, arcs.move + half, torch.full_like(arcs.move, -torch.inf)),
    )


def expect(model: Mixtures, batch: Batch, scale: float = 1.0) -> Counts:
    """The E step. `scale` below 1 flattens the scores, so that early, poor models do not decide too soon."""
    components = component_scores(model, batch)
    log_obs = log_densities(components)
    posterior = posteriors(log_obs * scale, chain(model, batch), batch.frames, batch.states)
    if components.shape[2] == 1:
        return gather(model, batch, posterior[:, :, None])
    share = components.sub_(log_obs[:, :, None]).exp_()
    return gather(model, batch, share.mul_(posterior[:, :, None]))


def gather(model: Mixtures, batch: Batch, weight: Float[Tensor, "b u k n"]) -> Counts:
    """The statistics of frames that belong to components of the places of the chain by `weight`."""
    c = model.mean.shape[-1]
    b, u, k, n = weight.shape
    ones = torch.ones_like(batch.features[..., :1])
    powers = torch.cat([ones, batch.features, batch.features.square()], -1)
    moments = (weight.reshape(b, u, k * n).mT @ powers).reshape(b, k, n, 1 + 2 * c).transpose(1, 2)
    counts = no_counts(model)
    counts.moments.index_add_(0, batch.ids.flatten(), moments.reshape(b * n, k, 1 + 2 * c).to(torch.float64))
    # A state that cannot be left out is entered once; one that can, as often as it is there at all.
    entered = torch.where(batch.skippable > 0, moments[..., 0].sum(-1).clamp(max=1.0), 1.0)
    entered = entered * (torch.arange(n) < batch.states[:, None])
    counts.visits.index_add_(0, batch.ids.flatten(), entered.flatten().to(torch.float64))
    return counts


def estimate(counts: Counts, before: Mixtures) -> Mixtures:
    """The M step, with variances that lean on the pooled one: a rare symbol gets no needle of a density."""
    c = before.mean.shape[-1]
    occupancy, first, second = counts.moments.split([1, c, c], -1)
    frames = occupancy.clamp(min=1e-3)
    mean = first / frames
    variance = (second / frames - mean.square()).clamp(min=0)
    pooled = (variance * occupancy).sum((0, 1)) / occupancy.sum()
    variance = ((variance * occupancy + POOLED * pooled) / (occupancy + POOLED)).clamp(min=FLOOR)
    seen = occupancy > LEAST
    weight = occupancy[..., 0] + 0.1
    stay = 1 - counts.visits / occupancy.sum((1, 2)).clamp(min=1e-3)
    return Mixtures(
        torch.where(seen, mean, before.mean.double()).float(),
        torch.where(seen, variance, before.variance.double()).float(),
        (weight / weight.sum(1, keepdim=True)).log().float(),
        stay.clamp(*STAY).log().float(),
    )


def split(model: Mixtures, distance: float = 0.2) -> Mixtures:
    """Two components for each, a fifth of a standard deviation to either side."""
    step = distance * model.variance.sqrt()
    return Mixtures(
        torch.cat([model.mean - step, model.mean + step], 1),
        model.variance.repeat(1, 2, 1),
        model.log_weight.repeat(1, 2) - math.log(2),
        model.stay,
    )
