"""Pitch: predicted from the text's frames, and shown to the decoder. b utterances, t frames, d width."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hmmtts.nn.layers import ConvBlock
from hmmtts.nn.lengths import Mean, mask, mean
from hmmtts.nn.recompute import Stack


class Contour(NamedTuple):
    octaves: Float[Tensor, "b t"]  # above `lowest`
    voicing: Float[Tensor, "b t"]  # logit


class Pitch(nn.Module):
    """Convolutions that predict F0 in octaves and the voicing of each frame.

    The decoder sees an F0 as overlapping bumps on the octave scale, which it can tell apart far more easily than one
    number: the recording's in training, the predicted one in synthesis.
    """

    def __init__(
        self, width: int, lowest: float = 60.0, highest: float = 600.0, bumps: int = 48,
        kernel: int = 5, layers: int = 3, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 < lowest < highest:
            raise ValueError(f"lowest must lie between 0 and highest, got {lowest} and {highest}")
        self.lowest, self.span = lowest, math.log2(highest / lowest)
        self.blocks = Stack(ConvBlock(width, kernel, 2**i, dropout) for i in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2)
        self.centres = nn.Buffer(torch.linspace(0, self.span, bumps), persistent=False)
        self.shown = nn.Linear(bumps + 1, width)

    def forward(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, "b"]) -> Contour:
        real = mask(frames, x.shape[1])
        x = self.blocks(x, real)
        octaves, voicing = self.out(self.norm(x)).float().unbind(-1)
        return Contour(octaves + self.span / 3, voicing)

    def hertz(self, contour: Contour) -> Float[Tensor, "b t"]:
        """0 where unvoiced."""
        f0 = self.lowest * torch.exp2(contour.octaves.clamp(0, self.span))
        return torch.where(contour.voicing > 0, f0, 0.0)

    def octaves(self, f0: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        return torch.log2(f0.clamp(min=self.lowest) / self.lowest)

    def show(self, f0: Float[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """What the decoder sees of an F0 in Hz."""
        spacing = self.centres[1] - self.centres[0]
        bumps = torch.exp(-0.5 * ((self.octaves(f0)[..., None] - self.centres) / spacing).square())
        voiced = (f0 > 0).to(bumps)[..., None]
        return self.shown(torch.cat([bumps * voiced, voiced], -1))

    def losses(self, contour: Contour, f0: Float[Tensor, "b t"], frames: Int[Tensor, "b"]) -> dict[str, Mean]:
        """The absolute error in octaves where the recording is voiced, and the cross-entropy of the voicing."""
        real, voiced = mask(frames, f0.shape[1]), f0 > 0
        off = (contour.octaves - self.octaves(f0)).abs()
        surprise = functional.binary_cross_entropy_with_logits(
            contour.voicing, voiced.float(), reduction="none"
        )
        return {"f0": mean(off, real & voiced), "voicing": mean(surprise, real)}
