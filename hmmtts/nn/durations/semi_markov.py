"""Durations by an explicit law: what a semi-Markov aligner has in place of the geometric law.

b utterances, s symbols, k states per symbol, n = s * k states, d durations of a state in frames, w width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.nn.duration_laws import Law, Predicted, expected, quantile
from hmmtts.nn.durations.base import Duration, Spoken, Statistic, check_statistic
from hmmtts.nn.lengths import Mean, mask, mean
from hmmtts.nn.states import States


class SemiMarkov(Duration):
    """A law of frames for every state from the text, trained by the likelihood of the aligner's durations.

    `statistic` says what synthesis takes of the law: "expected", a "quantile" (the smallest d with P(D <= d) >=
    quantile: lower is faster, and long states give way more than short ones), or "sampled" with the generator given.
    """

    TERMS = ("duration",)

    def __init__(
        self,
        width: int,
        states_per_symbol: int,
        hop: float,
        law: Law,
        longest: int,
        shortest: int = 1,
        frames_per_state: float = 6.0,
        statistic: Statistic = "expected",
        quantile: float = 0.5,
    ) -> None:
        super().__init__()
        check_statistic(statistic, quantile)
        self.hop, self.statistic, self.quantile = hop, statistic, quantile
        self.states = States(width, states_per_symbol)
        self.law = Predicted(width, law, longest, shortest, frames_per_state)

    def log_probabilities(self, h: Float[Tensor, "b s w"]) -> Float[Tensor, "b n d"]:
        return self.law.log_probabilities(self.states(h))

    def forward(
        self, h: Float[Tensor, "b s w"], symbols: Int[Tensor, "b"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n"]:
        log_probability = self.log_probabilities(h)
        if self.statistic == "expected":
            frames = expected(log_probability)
        elif self.statistic == "quantile":
            frames = quantile(log_probability, self.quantile)
        else:
            drawn = torch.rand(log_probability.shape[:-1], generator=generator)
            frames = quantile(log_probability, drawn.to(log_probability))
        real = mask(symbols * self.states.count, frames.shape[1])
        return torch.where(real, frames * self.hop, 0.0)

    def losses(self, h: Float[Tensor, "b s w"], spoken: Spoken) -> dict[str, Mean]:
        """The first and the last state of an utterance end between frames: each duration counts as the nearest allowed."""
        log_probability = self.log_probabilities(h)
        real = mask(spoken.symbols * self.states.count, log_probability.shape[1])
        frames = (spoken.seconds / self.hop).round().long().clamp(self.law.shortest, self.law.longest)
        surprise = -log_probability.gather(-1, frames[..., None] - 1).squeeze(-1)
        return {"duration": mean(surprise, real)}
