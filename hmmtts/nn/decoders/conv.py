"""Dilated residual convolutions: fast everywhere, and a frame hears only its surroundings."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.nn.decoders.base import Decoder
from hmmtts.nn.layers import ConvBlock
from hmmtts.nn.lengths import mask
from hmmtts.nn.recompute import Stack


class Conv(Decoder):
    def __init__(
        self,
        width: int,
        bins: int,
        kernel: int = 5,
        dilations: Sequence[int] = (1, 2, 4, 1, 2),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.blocks = Stack(ConvBlock(width, kernel, dilation, dropout) for dilation in dilations)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, bins)

    def forward(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t m"]:
        real = mask(frames, x.shape[1])
        x = self.blocks(x, real)
        return self.out(self.norm(x))
