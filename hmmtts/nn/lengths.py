"""Lengths and the masks they make. b utterances, s anything that is counted per utterance."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mask(lengths: Int[Tensor, "b"], size: int) -> Bool[Tensor, "b s"]:
    """True where an utterance has data, False in its padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class Mean(NamedTuple):
    """A mean not yet divided, so that those of several batches or processes join into that of all their data."""

    total: Float[Tensor, ""]
    number: Int[Tensor, ""]

    @property
    def value(self) -> Float[Tensor, ""]:
        """0 where nothing was counted."""
        return (self.total / self.number.clamp(min=1)).float()


def mean(values: Float[Tensor, "b s"], real: Bool[Tensor, "b s"]) -> Mean:
    """The mean over what is real. What stands elsewhere may be anything, NaN too."""
    return Mean(torch.where(real, values, 0.0).sum(), real.sum())
