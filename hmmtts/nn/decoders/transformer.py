"""Self-attention over all frames: hears the whole sentence, at a cost that grows with the square of its length."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.nn.decoders.base import Decoder
from hmmtts.nn.layers import TransformerBlock, sinusoids
from hmmtts.nn.lengths import mask
from hmmtts.nn.recompute import Stack


class Transformer(Decoder):
    def __init__(
        self, width: int, bins: int, layers: int = 4, heads: int = 4, kernel: int = 9, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.width = width
        self.blocks = Stack(TransformerBlock(width, heads, kernel, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, bins)

    def forward(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t m"]:
        real = mask(frames, x.shape[1])
        x = x + sinusoids(torch.arange(x.shape[1], device=x.device, dtype=x.dtype), self.width)
        x = self.blocks(x, real)
        return self.out(self.norm(x))
