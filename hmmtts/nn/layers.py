"""The building blocks that encoders and decoders share. b utterances, s places in a sequence, d width."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Sequence = Float[Tensor, "b s d"]


class ConvBlock(nn.Module):
    """A residual convolution over the sequence that reads zeros, and never the padding, beyond an utterance's end."""

    def __init__(self, width: int, kernel: int, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a middle, got {kernel}: take {kernel + 1}")
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Sequence, real: Bool[Tensor, "b s"]) -> Sequence:
        y = torch.where(real[..., None], self.norm(x), 0.0)
        return x + self.dropout(functional.gelu(self.conv(y.mT).mT))


class TransformerBlock(nn.Module):
    """Self-attention, then a convolutional feed-forward layer (FastSpeech, arXiv 1905.09263), both after their norm."""

    def __init__(self, width: int, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = ConvBlock(width, kernel, dropout=dropout)

    def forward(self, x: Sequence, real: Bool[Tensor, "b s"]) -> Sequence:
        b, s, d = x.shape
        parts = self.query_key_value(self.norm(x)).view(b, s, 3, self.heads, d // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=real[:, None, None], dropout_p=self.dropout if self.training else 0.0
        )
        x = x + functional.dropout(
            self.out(heard.transpose(1, 2).reshape(b, s, d)), self.dropout, self.training
        )
        return self.feed_forward(x, real)


def sinusoids(places: Float[Tensor, "*b s"], width: int) -> Float[Tensor, "*b s d"]:
    """Sines and cosines of geometrically spaced periods (arXiv 1706.03762, section 3.5)."""
    if width % 2:
        raise ValueError(f"width must be even: half sines, half cosines; got {width}")
    rates = torch.exp(torch.arange(0, width, 2, device=places.device) * (-math.log(10000.0) / width))
    angles = places[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
