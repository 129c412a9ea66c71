"""A semi-Markov HMM of its own, without text: Gaussian states that last as explicit laws say.

Letters: b utterances, t frames, c features, k states, d durations, p free parameters of a law.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts import hmm
from hmmtts.hmm import SemiMarkovDense, SemiMarkovLeftToRight, Viterbi, em, start
from hmmtts.hmm.em import Observed
from hmmtts.hmm.gaussian import Mixture, log_densities
from hmmtts.hmm.inference import prepare
from hmmtts.nn import duration_laws
from hmmtts.nn.covariances import wide
from hmmtts.nn.duration_laws import Law, log_probabilities, maximise
from hmmtts.nn.mixture_hmm import COVARIANCES, Drawn

LAWS: dict[str, type[Law]] = {
    "gamma": duration_laws.Gamma,
    "poisson": duration_laws.Poisson,
    "negative_binomial": duration_laws.NegativeBinomial,
    "gaussian": duration_laws.Gaussian,
    "weibull": duration_laws.Weibull,
    "table": duration_laws.Table,
}
RAREST = 1e-30  # share of an arc that EM saw nothing of: its logarithm stays a number


class SemiMarkovHMM(nn.Module):
    """k Gaussian states over c features, each of which lasts from `shortest` to `longest` frames by a law of its own;
    trained by EM (`fit`) or by the gradient of `log_likelihood` with any optimiser.

    law: "gamma", "poisson", "negative_binomial", "gaussian", "weibull" or "table" (a probability for every duration).
    topology: "dense" (any other state may follow) or "left_to_right" (all states in order).
    An utterance ends with a segment's last frame. Until `fit` chooses a start, the means are draws from N(0, 1).
    """

    def __init__(
        self,
        states: int,
        features: int,
        longest: int,
        shortest: int = 1,
        law: str = "gamma",
        topology: str = "dense",
        covariance: str = "diagonal",
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        for name, value in (("states", states), ("features", features)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, chosen, among in (("law", law, LAWS), ("covariance", covariance, COVARIANCES)):
            if chosen not in among:
                raise ValueError(f"{name} must be one of {', '.join(among)}, got {chosen!r}")
        if topology not in ("dense", "left_to_right"):
            raise ValueError(f"topology must be one of dense, left_to_right, got {topology!r}")
        self.shortest, self.longest, self.law = shortest, longest, LAWS[law]()
        d = duration_laws.range_of(shortest, longest)
        self.durations = nn.Parameter(self.law.start((shortest + longest) / 2, d).repeat(states, 1))
        self.arcs = nn.ParameterDict()
        if topology == "dense":
            self.arcs["initial"] = nn.Parameter(torch.zeros(states))
            self.arcs["transition"] = nn.Parameter(torch.zeros(states, states))
        self.mean = nn.Parameter(torch.randn(states, 1, features))
        self.covariance = COVARIANCES[covariance](states, 1, features, floor)

    def log_durations(self) -> Float[Tensor, "k d"]:
        return log_probabilities(self.law, wide(self.durations), self.shortest, self.longest)

    def topology(self, utterances: int) -> SemiMarkovDense | SemiMarkovLeftToRight:
        durations = self.log_durations()
        if not self.arcs:
            return SemiMarkovLeftToRight(durations.expand(utterances, -1, -1))
        itself = torch.eye(len(durations), dtype=torch.bool, device=durations.device)
        onward = wide(self.arcs["transition"]).masked_fill(itself, float("-inf"))
        # Nothing follows the only state of a model: its row has nothing to be normalised.
        onward = onward.log_softmax(-1) if len(onward) > 1 else onward
        return SemiMarkovDense(wide(self.arcs["initial"]).log_softmax(-1), onward, durations)

    def mixture(self) -> Mixture:
        """One component for each state."""
        return Mixture(torch.zeros_like(self.mean[..., 0]), wide(self.mean), self.covariance())

    def log_obs(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t k"]:
        """In float32 or float64, whatever the autocast around it."""
        with torch.autocast(x.device.type, enabled=False):
            return log_densities(x.to(wide(self.mean).dtype), self.mixture())

    def forward(self, x: Float[Tensor, "b t c"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """log p(x) in nats, exact and differentiable; `frames` says what of x is real."""
        log_obs = self.log_obs(em.clean(Observed(x, frames)).x)
        return hmm.log_likelihood(log_obs, self.topology(len(x)), frames)

    log_likelihood = forward

    def posteriors(self, x: Float[Tensor, "b t c"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t k"]:
        with torch.no_grad():
            return hmm.posteriors(self.log_obs(x), self.topology(len(x)), frames)

    def viterbi(self, x: Float[Tensor, "b t c"], frames: Int[Tensor, "b"]) -> Viterbi:
        with torch.no_grad():
            return hmm.viterbi(self.log_obs(x), self.topology(len(x)), frames)

    @torch.no_grad()
    def sample(self, frames: Int[Tensor, "b"], generator: torch.Generator | None = None) -> Drawn:
        """States and observations of utterances of so many frames, in which the last segment is whole."""
        silent = torch.zeros(len(frames), int(frames.max()), len(self.mean), device=self.mean.device)
        path = hmm.sample(silent, self.topology(len(frames)), frames, generator=generator)
        mixture, state = self.mixture(), path.clamp(min=0).flatten()
        noise = torch.randn(len(state), self.mean.shape[-1], generator=generator).to(self.mean)
        away = mixture.covariance.spread(noise, state, torch.zeros_like(state))
        x = (mixture.mean[state, 0] + away).unflatten(0, path.shape)
        return Drawn(path, torch.where(path[..., None] < 0, 0.0, x))

    @torch.no_grad()
    def fit(
        self,
        x: Float[Tensor, "b t c"],
        frames: Int[Tensor, "b"],
        iterations: int = 100,
        tolerance: float = 1e-4,
        begin: Literal["k-means", "here"] = "k-means",
        generator: torch.Generator | None = None,
    ) -> list[float]:
        """EM until an iteration gains less than `tolerance` nats per frame; returns nats per frame before each.

        `begin`: from k-means (left-to-right: from equal parts), or from the parameters as they are.
        """
        if begin not in ("k-means", "here"):
            raise ValueError(f"begin must be k-means or here, got {begin!r}")
        observed = em.clean(Observed(x.detach().to(wide(self.mean)), frames))
        if begin == "k-means":
            self._begin(observed, generator)
        history: list[float] = []
        for _ in range(iterations):
            history.append(self._iterate(observed))
            if len(history) > 1 and history[-1] - history[-2] < tolerance:
                break
        return history

    def _begin(self, observed: Observed, generator: torch.Generator | None) -> None:
        k = len(self.mean)
        label = start.by_sound(observed, k, generator) if self.arcs else start.in_order(observed, k)
        mixture = start.mixture(observed, label, self.covariance.KIND, k, 1, self.covariance.floor, generator)
        self.mean.copy_(mixture.mean)
        self.covariance.write(mixture.covariance)

    def _iterate(self, observed: Observed) -> float:
        """One step of EM; nats per frame before it."""
        x, frames = observed
        mixture = self.mixture()
        problem, backend = prepare(log_densities(x, mixture), self.topology(len(x)), frames, None)
        total, posterior, counts = backend.forward_backward(problem, counts=True)
        assert posterior is not None
        assert isinstance(counts, SemiMarkovDense | SemiMarkovLeftToRight)
        real = torch.arange(x.shape[1], device=x.device) < frames.to(x.device)[:, None]
        moments = em.gather(mixture, x[real], posterior[real])
        mixture = em.estimate(mixture, moments, self.covariance.floor)
        self.mean.copy_(mixture.mean)
        self.covariance.write(mixture.covariance)
        lasted = counts.durations.double().sum(0)
        self.durations.copy_(maximise(self.law, self.durations, lasted, self.shortest))
        if isinstance(counts, SemiMarkovDense):
            for name, arc in self.arcs.items():
                arc.copy_(_log_shares(getattr(counts, name).double().sum(0), arc))
        return float(total.sum() / frames.sum())


def _log_shares(counts: Float[Tensor, "*k s"], before: Float[Tensor, "*k s"]) -> Float[Tensor, "*k s"]:
    """What was never left stays as it is."""
    total = counts.sum(-1, keepdim=True)
    shares = (counts / total.clamp(min=1e-300)).clamp(min=RAREST)
    return torch.where(total > 0, shares.log().to(before.dtype), before)
