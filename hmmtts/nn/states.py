"""From symbols to the states of the HMM. b utterances, s symbols, n = s * count states, d width."""

from jaxtyping import Float
from torch import Tensor, nn


class States(nn.Module):
    """Every symbol becomes `count` states in a row, each its own linear view of the symbol's vector.

    Cutting one wide vector into pieces, as public neural HMMs do, gives the first state only what the forward half of
    a bidirectional LSTM knows; here every state sees the whole vector.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"states_per_symbol must be at least 1, got {count}")
        self.count = count
        self.views = nn.Linear(width, count * width)

    def forward(self, h: Float[Tensor, "b s d"]) -> Float[Tensor, "b n d"]:
        b, s, d = h.shape
        return self.views(h).view(b, s * self.count, d)
