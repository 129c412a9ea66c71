"""How sure a figure is: bootstrap confidence intervals over utterances (Efron 1979, percentile method).

Utterances are drawn, not frames: the frames of one utterance resemble each other, and an interval over frames would be
far too narrow. Letters: u utterances, k figures.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Interval(NamedTuple):
    low: Float[np.ndarray, "k"]
    high: Float[np.ndarray, "k"]


def bootstrap_interval(
    utterances: int,
    statistic: Callable[[Int[np.ndarray, "u"]], Float[np.ndarray, "k"]],
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The middle `level` of `statistic` over resampled utterances, which it gets as indices with repetitions.

    NaN for fewer than two utterances. Draws in which a figure is undefined are left out of that figure.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}: 0.95 is usual")
    if utterances < 2:
        undefined = np.full_like(statistic(np.arange(utterances)), np.nan)
        return Interval(undefined, undefined)
    generator = np.random.default_rng(seed)
    values = np.stack([statistic(generator.integers(utterances, size=utterances)) for _ in range(draws)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a figure that no draw defines is NaN, without a word about it
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low, high)


def mean_over_utterances(values: Float[np.ndarray, "u k"]) -> Float[np.ndarray, "k"]:
    """Means of the defined values (those that are not NaN); NaN where there is none."""
    defined = (~np.isnan(values)).sum(0)
    return np.where(defined, np.nansum(values, 0) / np.maximum(defined, 1), np.nan)


def mean_interval(
    values: Float[np.ndarray, "u k"], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Interval:
    """The interval of `mean_over_utterances`."""
    values = np.asarray(values, dtype=np.float64)
    return bootstrap_interval(
        len(values), lambda drawn: mean_over_utterances(values[drawn]), level, draws, seed
    )
