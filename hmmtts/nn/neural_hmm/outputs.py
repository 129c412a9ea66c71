"""From memory and cell to the law of a frame. n states, t frames, m mel bins, d cell, h memory, f hidden, c pairs."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, relu, softplus


class Law(NamedTuple):
    """Of the next frame, in one state."""

    mean: Float[Tensor, "*c m"]
    deviation: Float[Tensor, "*c m"]
    leave: Float[Tensor, "*c"]  # logit of leaving the state after this frame


class Outputs(nn.Module):
    """Two layers on [h_t; cell_n]. The first is split into its two halves, so that a pair of frame and state costs an
    addition where it would cost a matrix product: W [h; e] = W_h h + W_e e.

    The start is flat: every state the same law, mean 0, deviation 1, and a duration of `frames_per_state`.
    """

    def __init__(
        self, memory: int, cell: int, bins: int, hidden: int = 1024, floor: float = 0.01, frames_per_state: float = 7.0
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 < floor < 1:
            raise ValueError(
                f"floor must lie between 0 and 1, the deviation of the normalised mel, got {floor}"
            )
        if frames_per_state <= 1:
            raise ValueError(
                f"frames_per_state must be more than 1, got {frames_per_state}: no state lasts less"
            )
        self.memory, self.bins, self.floor = memory, bins, floor
        self.first = nn.Linear(memory + cell, hidden)
        self.last = nn.Linear(hidden, 2 * bins + 1)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias[:bins] = 0
            self.last.bias[bins : 2 * bins] = math.log(math.expm1(1 - floor))
            self.last.bias[2 * bins] = -math.log(frames_per_state - 1)

    def of_frames(self, h: Float[Tensor, "*b h"]) -> Float[Tensor, "*b f"]:
        return linear(h, self.first.weight[:, : self.memory], self.first.bias)

    def of_cells(self, cells: Float[Tensor, "b n d"]) -> Float[Tensor, "b n f"]:
        return linear(cells, self.first.weight[:, self.memory :])

    def forward(self, frames: Float[Tensor, "*c f"], cells: Float[Tensor, "*c f"]) -> Law:
        """Of pairs, given as the halves of the first layer."""
        return law(exact(self.last(relu(frames + cells))), self.floor)


def law(out: Float[Tensor, "*c o"], floor: float) -> Law:
    """floor + softplus, so that the gradient of a deviation lives at any size."""
    bins = out.shape[-1] // 2
    return Law(out[..., :bins], floor + softplus(out[..., bins : 2 * bins]), out[..., 2 * bins])


def log_density(x: Float[Tensor, "*#c m"], law: Law) -> Float[Tensor, "*c"]:
    """log N(x; mean, deviation^2), the bins independent."""
    distance = ((x - law.mean) / law.deviation).square().sum(-1)
    return -0.5 * (distance + x.shape[-1] * math.log(2 * math.pi)) - law.deviation.log().sum(-1)


def exact(x: Float[Tensor, "*c o"]) -> Float[Tensor, "*c o"]:
    """Half precision widened: densities and all that follows are computed in float32, or in float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
