"""Durations regressed on the aligner's: FastSpeech's predictor (arXiv 1905.09263), with states inside a symbol.

b utterances, s symbols, k states per symbol, n = s * k states, d width.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.nn.durations.base import Duration, Spoken
from hmmtts.nn.layers import ConvBlock
from hmmtts.nn.lengths import Mean, mask, mean
from hmmtts.nn.recompute import Stack


class Regression(Duration):
    """The median of a symbol's duration, and the shares of it that its states get.

    The absolute error makes it a median, so that an aligner's rare large mistakes do not pull it; of the logarithm
    and of the seconds in equal parts, since the first alone cares most for the shortest symbols.
    """

    TERMS = ("duration", "shares")

    def __init__(
        self,
        width: int,
        states_per_symbol: int,
        hop: float,
        layers: int = 2,
        kernel: int = 5,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.blocks = Stack(ConvBlock(width, kernel, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 1 + states_per_symbol)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.out.bias.data[0] = math.log(TYPICAL)

    def predict(
        self, h: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b s k"]]:
        """Logarithm of the seconds, and logarithms of the shares."""
        real = mask(symbols, h.shape[1])
        h = self.blocks(h, real)
        log_seconds, shares = self.out(self.norm(h)).float().split([1, self.out.out_features - 1], -1)
        return log_seconds.squeeze(-1), shares.log_softmax(-1)

    def forward(
        self, h: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n"]:
        log_seconds, log_shares = self.predict(h, symbols)
        seconds = (log_seconds[..., None] + log_shares).exp()
        return torch.where(mask(symbols, h.shape[1])[..., None], seconds, 0.0).flatten(1)

    def losses(self, h: Float[Tensor, "b s d"], spoken: Spoken) -> dict[str, Mean]:
        real = mask(spoken.symbols, h.shape[1])
        log_seconds, log_shares = self.predict(h, spoken.symbols)
        states = spoken.seconds.unflatten(1, (h.shape[1], -1))
        seconds = states.sum(-1)
        safe = torch.where(real, seconds, 1.0)
        in_log = (log_seconds - safe.log()).abs()
        in_seconds = (log_seconds.exp() - safe).abs() / TYPICAL
        shares = -(states / safe[..., None] * log_shares).sum(-1)
        return {"duration": mean(in_log + in_seconds, real), "shares": mean(shares, real)}


TYPICAL = 0.08  # seconds of a phone in read speech
