"""The HMM's own durations: a state that is left with probability p after each frame lasts as the geometric law says.

b utterances, s symbols, k states per symbol, n = s * k states, d width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from hmmtts.nn.durations.base import Duration, Spoken, Statistic, check_statistic
from hmmtts.nn.lengths import Mean, mask, mean
from hmmtts.nn.states import States


class Geometric(Duration):
    """P(d) = (1 - p)^(d - 1) p frames, p from the text; trained by the likelihood of the aligner's durations.

    `statistic` says what synthesis takes of the law: "expected" 1/p, a "quantile" (the smallest d with
    P(D <= d) >= quantile), or "sampled" with the generator given.
    """

    TERMS = ("duration",)

    def __init__(
        self,
        width: int,
        states_per_symbol: int,
        hop: float,
        statistic: Statistic = "expected",
        quantile: float = 0.5,
    ) -> None:
        super().__init__()
        check_statistic(statistic, quantile)
        self.hop, self.statistic, self.quantile = hop, statistic, quantile
        self.states = States(width, states_per_symbol)
        self.leave = nn.Linear(width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.constant_(self.leave.bias, -1.0)

    def logits(self, h: Float[Tensor, "b s d"]) -> Float[Tensor, "b n"]:
        return self.leave(self.states(h)).squeeze(-1).float()

    def forward(
        self, h: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n"]:
        logits = self.logits(h)
        if self.statistic == "expected":
            frames = 1 / logits.sigmoid()
        else:
            below = torch.full_like(logits, self.quantile)
            if self.statistic == "sampled":
                below = torch.rand(logits.shape, generator=generator).to(logits)
            # P(D <= d) = 1 - (1 - p)^d, solved for d.
            frames = (torch.log1p(-below) / logsigmoid(-logits)).ceil().clamp(min=1)
        real = mask(symbols * self.states.count, logits.shape[1])
        return torch.where(real, frames * self.hop, 0.0)

    def losses(self, h: Float[Tensor, "b s d"], spoken: Spoken) -> dict[str, Mean]:
        logits, frames = self.logits(h), spoken.seconds / self.hop
        real = mask(spoken.symbols * self.states.count, logits.shape[1])
        surprise = -(logsigmoid(logits) + (frames - 1) * logsigmoid(-logits))
        return {"duration": mean(surprise, real)}
