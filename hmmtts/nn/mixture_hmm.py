"""Hidden Markov models of their own, without text, whose states are Gaussians or mixtures of them.

Letters: b utterances, t frames, d features, k states, m components of each.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts import hmm
from hmmtts.hmm import Viterbi, em, start
from hmmtts.hmm.em import Chain, Observed
from hmmtts.hmm.gaussian import Mixture, log_densities
from hmmtts.nn import covariances
from hmmtts.nn.arcs import AnyOrder, Arcs, InOrder
from hmmtts.nn.covariances import CovarianceParameters, wide

COVARIANCES: dict[str, type[CovarianceParameters]] = {
    "diagonal": covariances.Diagonal,
    "spherical": covariances.Spherical,
    "full": covariances.Full,
    "tied": covariances.Tied,
}
TOPOLOGIES: dict[str, Callable[[int], Arcs]] = {"dense": AnyOrder, "left_to_right": InOrder}
PART = 16_000  # frames of which the statistics are taken at once


class Drawn(NamedTuple):
    """Utterances made by a model: -1 and zeros beyond their frames."""

    path: Int[Tensor, "b t"]
    x: Float[Tensor, "b t d"]


class MixtureHMM(nn.Module):
    """k states that emit mixtures of m Gaussians over d features, trained by EM (`fit`) or by the gradient of
    `log_likelihood` with any optimiser.

    covariance: "diagonal", "spherical", "full" or "tied" (one matrix for all); no variance falls below `floor`.
    topology: "dense" (any state may follow any other) or "left_to_right" (all states in order).
    Until `fit` chooses a start from data, the means are draws from N(0, 1).
    """

    def __init__(
        self,
        states: int,
        features: int,
        components: int,
        covariance: str = "diagonal",
        topology: str = "dense",
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        for name, value in (("states", states), ("features", features), ("components", components)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.arcs = _choose("topology", topology, TOPOLOGIES)(states)
        self.weight = nn.Parameter(torch.zeros(states, components))
        self.mean = nn.Parameter(torch.randn(states, components, features))
        self.covariance = _choose("covariance", covariance, COVARIANCES)(states, components, features, floor)

    def mixture(self) -> Mixture:
        return Mixture(wide(self.weight).log_softmax(-1), wide(self.mean), self.covariance())

    def model(self) -> em.Model:
        return em.Model(self.arcs(), self.mixture())

    def topology(self, utterances: int) -> Chain:
        return self.model().topology(utterances)

    def log_obs(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t k"]:
        """In float32 or float64, whatever the autocast around it."""
        with torch.autocast(x.device.type, enabled=False):
            return log_densities(x.to(wide(self.mean).dtype), self.mixture())

    def forward(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """log p(x) in nats, exact and differentiable; `frames` says what of x is real."""
        log_obs = self.log_obs(em.clean(Observed(x, frames)).x)
        return hmm.log_likelihood(log_obs, self.topology(len(x)), frames)

    log_likelihood = forward

    def posteriors(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t k"]:
        with torch.no_grad():
            return hmm.posteriors(self.log_obs(x), self.topology(len(x)), frames)

    def viterbi(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Viterbi:
        with torch.no_grad():
            return hmm.viterbi(self.log_obs(x), self.topology(len(x)), frames)

    @torch.no_grad()
    def sample(self, frames: Int[Tensor, "b"], generator: torch.Generator | None = None) -> Drawn:
        """States and observations of utterances of so many frames."""
        k, device = len(self.weight), self.mean.device
        silent = torch.zeros(len(frames), int(frames.max()), k, device=device)
        path = hmm.sample(silent, self.topology(len(frames)), frames, generator=generator).to(device)
        mixture, state = self.mixture(), path.clamp(min=0).flatten()
        which = torch.multinomial(mixture.log_weight.exp()[state].cpu(), 1, generator=generator)[:, 0].to(
            device
        )
        mean = mixture.mean[state, which]
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        x = (mean + mixture.covariance.spread(noise, state, which)).unflatten(0, path.shape)
        return Drawn(path, torch.where(path[..., None] < 0, 0.0, x))

    def fit(
        self,
        x: Float[Tensor, "b t d"],
        frames: Int[Tensor, "b"],
        iterations: int = 100,
        tolerance: float = 1e-4,
        begin: Literal["k-means", "flat", "here"] = "k-means",
        generator: torch.Generator | None = None,
        distributed: bool = False,
    ) -> list[float]:
        """EM until an iteration gains less than `tolerance` nats per frame; returns nats per frame before each.

        `begin`: from k-means, from equal variances and almost equal means, or from the parameters as they are.
        `distributed`: every process of torch.distributed gives its own x, and all get the same model.
        """
        with torch.autocast(x.device.type, enabled=False):
            parts = _split(self._begin(x, frames, begin, generator, distributed))
            found = em.fit(
                self._current(), parts, iterations, tolerance, self.covariance.floor, _together(distributed)
            )
            self.write(found.model)
        return found.log_likelihoods

    def fit_stepwise(
        self,
        x: Float[Tensor, "b t d"],
        frames: Int[Tensor, "b"],
        batch: int,
        steps: int,
        decay: float = 0.7,
        begin: Literal["k-means", "flat", "here"] = "k-means",
        generator: torch.Generator | None = None,
        distributed: bool = False,
    ) -> list[float]:
        """EM with a new model after every `batch` utterances, `steps` times; sooner good on much data."""
        with torch.autocast(x.device.type, enabled=False):
            observed = self._begin(x, frames, begin, generator, distributed)
            order = torch.randperm(len(frames), generator=generator)
            batches = [Observed(observed.x[part], frames[part]) for part in order.split(batch)]
            found = em.fit_stepwise(
                self._current(),
                batches,
                steps,
                decay,
                self.covariance.floor,
                generator,
                _together(distributed),
            )
            self.write(found.model)
        return found.log_likelihoods

    @torch.no_grad()
    def write(self, model: em.Model) -> None:
        """Take over what EM has found."""
        self.arcs.write(model.arcs)
        self.weight.copy_(model.mixture.log_weight)
        self.mean.copy_(model.mixture.mean)
        self.covariance.write(model.mixture.covariance)

    def free(self) -> int:
        """Free parameters, as AIC and BIC count them."""
        return self._current().free()

    def _current(self) -> em.Model:
        with torch.no_grad():
            return self.model()

    @torch.no_grad()
    def _begin(self, x: Tensor, frames: Tensor, begin: str, generator, distributed: bool) -> Observed:
        if begin not in ("k-means", "flat", "here"):
            raise ValueError(f"begin must be k-means, flat or here, got {begin!r}")
        observed = Observed(x.detach().to(wide(self.mean)), frames)
        if begin == "here":
            return observed
        kind, (k, m) = self.covariance.KIND, self.weight.shape
        label = self.arcs.label(observed, generator)
        if begin == "flat":
            mixture = start.flat(observed, kind, k, m, generator)
        else:
            mixture = start.mixture(observed, label, kind, k, m, self.covariance.floor, generator)
        self.write(em.Model(self.arcs.begin(observed, label), mixture))
        if distributed:
            for parameter in self.parameters():
                torch.distributed.broadcast(parameter, src=0)
        return observed


class GaussianHMM(MixtureHMM):
    """k states with one Gaussian each."""

    def __init__(
        self,
        states: int,
        features: int,
        covariance: str = "diagonal",
        topology: str = "dense",
        floor: float = 1e-3,
    ) -> None:
        super().__init__(states, features, 1, covariance, topology, floor)


def _choose(name: str, value: str, choices: dict):
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return choices[value]


def _together(distributed: bool):
    return em.over_processes if distributed else em.alone


def _split(observed: Observed) -> list[Observed]:
    utterances = max(1, PART // observed.x.shape[1])
    return [Observed(*part) for part in zip(*(value.split(utterances) for value in observed), strict=True)]
