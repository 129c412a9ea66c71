"""A symbol and its nearest neighbours: all the context that the emissions of an aligner need."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from hmmtts.nn.encoders.base import Encoder
from hmmtts.nn.lengths import mask


class Neighbours(Encoder):
    """The symbol's own vector plus what an MLP makes of it and its neighbours.

    Which side decides where a boundary falls in a slow transition: a symbol that knows what follows it explains the
    transition out, and the boundary comes late; one that knows what went before explains the transition in. With both
    neither is preferred, and boundaries do not drift as training goes on.

    The neighbours are heard only after `patience` batches of training. With full context from a flat start any
    segmentation explains the sound, and the right one is not found: measured, 86 instead of 94 % of the frames.
    """

    def __init__(
        self, width: int = 128, side: Literal["none", "left", "right", "both"] = "both", patience: int = 60
    ) -> None:
        super().__init__()
        if side not in SIDES:
            raise ValueError(f"side must be one of {', '.join(SIDES)}, got {side!r}")
        self.width, self.patience = width, patience
        self.shifts = SIDES[side]
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear((1 + len(self.shifts)) * width, width), nn.GELU(), last)
        self.batches: Tensor = nn.Buffer(torch.tensor(0))  # of training so far: part of the checkpoint

    def forward(self, x: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"]) -> Float[Tensor, "b s d"]:
        if self.training:
            self.batches.add_(1)
        clean = torch.where(mask(symbols, x.shape[1])[..., None], x, 0.0)
        around = [shifted(clean, shift) for shift in self.shifts]
        heard = self.mlp(torch.cat([clean, *around], -1))
        return x + torch.where(self.batches > self.patience, heard, 0.0)


SIDES = {"none": (), "left": (-1,), "right": (1,), "both": (-1, 1)}


def shifted(x: Float[Tensor, "b s d"], by: int) -> Float[Tensor, "b s d"]:
    """The vector `by` places further on at every place; zeros beyond the ends."""
    return pad(x[:, max(by, 0) : x.shape[1] + min(by, 0)], (0, 0, max(-by, 0), max(by, 0)))
