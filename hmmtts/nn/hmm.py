"""A hidden Markov model of its own, without text: any state may follow any other. b utterances, t frames, k states."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts import hmm
from hmmtts.hmm import Dense, Viterbi
from hmmtts.nn.emissions.gaussian import Gaussians, log_density


class HMM(nn.Module):
    """k states with Gaussian emissions (diagonal covariance) over c features, trained by the gradient of
    `log_likelihood` with any optimiser.

    The means start at draws from N(0, 1), so normalise the features. Probabilities are softmaxes of free
    parameters: every row sums to one at every step.
    """

    def __init__(self, states: int, features: int, floor: float = 0.05) -> None:
        super().__init__()
        for name, value in (("states", states), ("features", features)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.floor = floor
        self.initial = nn.Parameter(torch.zeros(states))
        self.transition = nn.Parameter(torch.zeros(states, states))
        self.mean = nn.Parameter(torch.randn(states, features))
        self.raw_deviation = nn.Parameter(torch.full((states, features), 0.5))

    def topology(self) -> Dense:
        return Dense(self.initial.float().log_softmax(-1), self.transition.float().log_softmax(-1))

    def gaussians(self) -> Gaussians:
        deviation = self.floor + nn.functional.softplus(self.raw_deviation.float())
        return Gaussians(self.mean.float()[None], deviation[None])

    def log_obs(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t k"]:
        """In float32, whatever the autocast around it."""
        with torch.autocast(x.device.type, enabled=False):
            return log_density(x.float(), self.gaussians())

    def forward(self, x: Float[Tensor, "b t c"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """log p(x) in nats, exact and differentiable; `frames` says what of x is real."""
        return hmm.log_likelihood(self.log_obs(x), self.topology(), frames)

    log_likelihood = forward

    def posteriors(self, x: Float[Tensor, "b t c"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t k"]:
        return hmm.posteriors(self.log_obs(x), self.topology(), frames)

    def viterbi(self, x: Float[Tensor, "b t c"], frames: Int[Tensor, "b"]) -> Viterbi:
        return hmm.viterbi(self.log_obs(x), self.topology(), frames)

    @torch.no_grad()
    def sample(
        self, frames: Int[Tensor, "b"], generator: torch.Generator | None = None
    ) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t c"]]:
        """States and observations of utterances of so many frames; beyond them -1 and zeros."""
        states = self.initial.shape[0]
        silent = torch.zeros(len(frames), int(frames.max()), states, device=self.mean.device)
        path = hmm.sample(silent, self.topology(), frames, generator=generator).to(self.mean.device)
        mean, deviation = (part[0][path.clamp(min=0)] for part in self.gaussians())
        x = mean + deviation * torch.randn(mean.shape, generator=generator).to(mean)
        return path, torch.where(path[..., None] < 0, 0.0, x)
