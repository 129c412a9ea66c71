"""Lengths and the masks they make. b utterances, s anything that is counted per utterance."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mask(lengths: Int[Tensor, "b"], size: int) -> Bool[Tensor, "b s"]:
    """True where an utterance has data, False in its padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def mean(values: Float[Tensor, "b s"], real: Bool[Tensor, "b s"]) -> Float[Tensor, ""]:
    """The mean over what is real; 0 where nothing is. What stands elsewhere may be anything, NaN too."""
    return torch.where(real, values, 0.0).sum() / real.sum().clamp(min=1)
