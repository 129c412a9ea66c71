"""Features to mean 0 and deviation 1 over a corpus, and back. t frames, m features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor


class Moments(NamedTuple):
    """Number of frames, mean and summed squared deviation of each feature over a stretch of frames."""

    frames: int
    mean: Float[np.ndarray, "m"]
    squares: Float[np.ndarray, "m"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "t m"]) -> "Moments":
        values = features.astype(np.float64)
        mean = values.mean(0)
        return cls(len(values), mean, np.square(values - mean).sum(0))

    def merge(self, other: "Moments") -> "Moments":
        """Chan, Golub and LeVeque 1979: no cancellation, however long the corpus."""
        frames = self.frames + other.frames
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.frames / frames)
        squares = self.squares + other.squares + np.square(gap) * (self.frames * other.frames / frames)
        return Moments(frames, mean, squares)


@dataclass(frozen=True)
class Normaliser:
    """(x - mean) / deviation, with one number for all features or one for each. Plain data, so that a bundle keeps it."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"mean and deviation must have one length, got {len(self.mean)} and {len(self.deviation)}"
            )
        if not all(value > 0 for value in self.deviation):
            raise ValueError(f"deviation must be positive, got {min(self.deviation)}: a feature is constant")

    @classmethod
    def fit(cls, moments: Moments, per_feature: bool) -> "Normaliser":
        """`per_feature` False keeps the shape of the spectrum: one mean and one deviation for all bins."""
        if per_feature:
            variance = moments.squares / moments.frames
            return cls(tuple(moments.mean.tolist()), tuple(np.sqrt(variance).tolist()))
        mean = moments.mean.mean()
        variance = (moments.squares / moments.frames + np.square(moments.mean - mean)).mean()
        return cls((float(mean),), (float(np.sqrt(variance)),))

    def __call__(self, features: Float[Tensor, "*b t m"]) -> Float[Tensor, "*b t m"]:
        return (features - features.new_tensor(self.mean)) / features.new_tensor(self.deviation)

    def inverse(self, features: Float[Tensor, "*b t m"]) -> Float[Tensor, "*b t m"]:
        return features * features.new_tensor(self.deviation) + features.new_tensor(self.mean)

    def state(self) -> dict[str, list[float]]:
        """Plain data for the bundle, which from_state reads back."""
        return {"mean": list(self.mean), "deviation": list(self.deviation)}

    @classmethod
    def from_state(cls, state: dict[str, Sequence[float]]) -> "Normaliser":
        return cls(tuple(state["mean"]), tuple(state["deviation"]))
