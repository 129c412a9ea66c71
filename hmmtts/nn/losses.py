"""Errors between two spectrograms. b utterances, t frames, m mel bins."""

from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.nn.lengths import Mean, mask, mean


def spectral_error(
    made: Float[Tensor, "b t m"], natural: Float[Tensor, "b t m"], frames: Int[Tensor, "b"]
) -> Mean:
    """Mean absolute error plus half the mean square: sharp in the middle, and firm with what is far off."""
    error = (made.float() - natural).abs()
    return mean((error + 0.5 * error.square()).mean(-1), mask(frames, natural.shape[1]))
