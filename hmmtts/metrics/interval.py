"""How sure a figure is: bootstrap confidence intervals over utterances (Efron 1979, percentile method).

Utterances are drawn, not frames: the frames of one utterance resemble each other, and an interval over frames would be
far too narrow.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Interval(NamedTuple):
    low: float
    high: float


def bootstrap_interval(
    utterances: int,
    statistic: Callable[[Int[np.ndarray, "u"]], float],
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The middle `level` of `statistic` over resampled utterances, which it gets as indices with repetitions.

    NaN for fewer than two utterances. Draws whose statistic is undefined are left out.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}: 0.95 is usual")
    if utterances < 2:
        return Interval(float("nan"), float("nan"))
    generator = np.random.default_rng(seed)
    values = np.array([statistic(generator.integers(utterances, size=utterances)) for _ in range(draws)])
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_interval(
    values: Float[np.ndarray, "u"], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Interval:
    """The interval of the mean of one value per utterance; undefined ones (NaN) are left out."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    return bootstrap_interval(len(defined), lambda drawn: float(defined[drawn].mean()), level, draws, seed)
