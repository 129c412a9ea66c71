"""Self-attention over the whole sentence, with sinusoidal places."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.nn.encoders.base import Encoder
from hmmtts.nn.layers import TransformerBlock, sinusoids
from hmmtts.nn.lengths import mask
from hmmtts.nn.recompute import Stack


class Transformer(Encoder):
    def __init__(
        self, width: int = 256, layers: int = 4, heads: int = 4, kernel: int = 5, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.width = width
        self.blocks = Stack(TransformerBlock(width, heads, kernel, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"]) -> Float[Tensor, "b s d"]:
        size = x.shape[1]
        real = mask(symbols, size)
        x = x + sinusoids(torch.arange(size, device=x.device, dtype=x.dtype), self.width)
        x = self.blocks(x, real)
        return self.norm(x)
