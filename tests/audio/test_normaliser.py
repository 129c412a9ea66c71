import numpy as np
import pytest
import torch

from hmmtts.audio.normaliser import Moments, Normaliser

RANDOM = np.random.default_rng(0)
FEATURES = (RANDOM.normal(size=(300, 4)) * [1, 5, 0.1, 2] + [1e4, 0, -3, 7]).astype(np.float32)


def test_moments_of_parts_are_those_of_the_whole():
    whole = Moments.of(FEATURES)
    parts = Moments.of(FEATURES[:1]).merge(Moments.of(FEATURES[1:120])).merge(Moments.of(FEATURES[120:]))
    assert parts.frames == whole.frames == 300
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-9)
    np.testing.assert_allclose(whole.squares / 300, FEATURES.astype(np.float64).var(0), rtol=1e-9)


@pytest.mark.parametrize("per_feature", [True, False])
def test_the_corpus_has_mean_0_and_deviation_1_and_comes_back(per_feature: bool):
    normaliser = Normaliser.fit(Moments.of(FEATURES), per_feature)
    features = torch.from_numpy(FEATURES.astype(np.float64))
    normal = normaliser(features)
    over = 0 if per_feature else (0, 1)
    torch.testing.assert_close(normal.mean(over), torch.zeros_like(normal.mean(over)), atol=1e-9, rtol=0)
    torch.testing.assert_close(normal.var(over, correction=0), torch.ones_like(normal.mean(over)))
    torch.testing.assert_close(normaliser.inverse(normal), features)
    assert Normaliser.from_state(normaliser.state()) == normaliser


def test_a_constant_feature_is_an_error():
    with pytest.raises(ValueError, match=r"deviation must be positive, got 0.0: a feature is constant"):
        Normaliser.fit(Moments.of(np.ones((5, 2), np.float32)), per_feature=True)
