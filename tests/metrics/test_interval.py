"""Bootstrap intervals: they cover the truth as often as they say, and undefined values stay out."""

import numpy as np
import pytest

from hmmtts.metrics.functional import bootstrap_interval, mean_interval, mean_over_utterances


def test_coverage():
    """Of 200 samples of 50 normal values about 95 % of the intervals hold the true mean (binomial error 1.5 %)."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = mean_interval(generator.normal(3.0, 2.0, size=(50, 1)), draws=200)
        hits += bool(low[0] <= 3.0 <= high[0])
    assert 0.89 <= hits / 200 <= 0.99


def test_width_is_the_standard_error():
    values = np.random.default_rng(1).normal(size=(400, 1))
    low, high = mean_interval(values, draws=4000)
    assert (high - low)[0] == pytest.approx(2 * 1.96 * values.std() / 400**0.5, rel=0.06)
    assert np.array_equal(mean_interval(values), mean_interval(values))  # the same seed, the same interval


def test_undefined():
    values = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.nan]])
    assert mean_over_utterances(values).tolist() == pytest.approx([2, np.nan, 2], nan_ok=True)
    low, high = mean_interval(values)
    assert (low[0], high[0]) == (1, 3)
    assert np.isnan([low[1], high[1]]).all()
    assert (low[2], high[2]) == (2, 2)
    assert np.isnan(mean_interval(values[:1])).all()
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        bootstrap_interval(3, lambda drawn: drawn, level=95)
