"""Mixture HMMs by other libraries and in plain torch: made from a model of ours, so that all compute the same."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm import Dense
from hmmtts.hmm.covariance import Diagonal
from hmmtts.hmm.em import Model


def hmmlearn(model: Model, **options: Any):
    from hmmlearn.hmm import GMMHMM

    arcs, variance = _parts(model)
    (k, m, d), mixture = model.mixture.mean.shape, model.mixture
    peer = GMMHMM(k, m, covariance_type="diag", init_params="", implementation="scaling", **options)
    peer.n_features = d
    peer.startprob_, peer.transmat_ = (_normalised(part) for part in (arcs.initial, arcs.transition))
    peer.weights_, peer.means_ = _normalised(mixture.log_weight), mixture.mean.double().numpy()
    peer.covars_ = variance.double().numpy()
    return peer


def pomegranate(model: Model):
    """Its mixtures take their log-density from the cluster probabilities of their components."""
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel
    from pomegranate.hmm import DenseHMM

    arcs, variance = _parts(model)
    states = [
        GeneralMixtureModel(
            [
                Normal(mean, spread, covariance_type="diag")
                for mean, spread in zip(means, spreads, strict=True)
            ],
            priors=weight.exp(),
        )
        for means, spreads, weight in zip(model.mixture.mean, variance, model.mixture.log_weight, strict=True)
    ]
    k = len(states)
    return DenseHMM(states, edges=arcs.transition.exp(), starts=arcs.initial.exp(), ends=torch.ones(k))


def plain_torch(
    x: Float[Tensor, "b t d"],
    mean: Float[Tensor, "k m d"],
    log_variance: Float[Tensor, "k m d"],
    log_weight: Float[Tensor, "k m"],
    initial: Float[Tensor, "k"],
    transition: Float[Tensor, "k k"],
) -> Float[Tensor, "b"]:
    """As the textbook says it: squares by broadcasting, a loop over the frames in logarithms."""
    squares = (x[:, :, None, None] - mean).square() * torch.exp(-log_variance)
    constant = log_variance.sum(-1) + mean.shape[-1] * math.log(2 * math.pi)
    log_obs = torch.logsumexp(log_weight - 0.5 * (squares.sum(-1) + constant), -1)
    alpha = initial + log_obs[:, 0]
    for t in range(1, x.shape[1]):
        alpha = torch.logsumexp(alpha[:, :, None] + transition, 1) + log_obs[:, t]
    return alpha.logsumexp(1)


def _parts(model: Model) -> tuple[Dense, Tensor]:
    assert isinstance(model.arcs, Dense)
    assert isinstance(model.mixture.covariance, Diagonal)
    return model.arcs, model.mixture.covariance.variance


def _normalised(log_rows: Tensor):
    """hmmlearn wants rows that sum to one in float64."""
    return torch.softmax(log_rows.double(), -1).numpy()
