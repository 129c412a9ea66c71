"""Features with mean 0 and variance 1 over the corpus, and each voice or room brought to the common mean.

The mean of an utterance says who speaks into what microphone, but also what is said. How much of its spread over the
utterances is more than the sentences' own chance is estimated (a random-effects model, by moments), and only that
share of an utterance's deviation is removed: almost none with one speaker, almost all with many.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PHONE = 0.08  # seconds for which a sound lasts: frames closer than this say the same thing


class Centring(NamedTuple):
    mean: Float[np.ndarray, "c"]
    deviation: Float[np.ndarray, "c"]
    within: Float[np.ndarray, "c"]  # variance of one phone's worth of frames within an utterance
    between: Float[np.ndarray, "c"]  # variance of the utterances' true means
    hop: float

    def __call__(self, features: Float[np.ndarray, "u c"]) -> Float[np.ndarray, "u c"]:
        chance = self.within / max(1.0, len(features) * self.hop / PHONE)
        share = self.between / np.maximum(self.between + chance, 1e-12)
        shift = self.mean + share * (features.mean(0) - self.mean)
        return ((features - shift) / self.deviation).astype(np.float32)


def learn(corpus: Sequence[Float[np.ndarray, "u c"]], hop: float) -> Centring:
    lengths = np.array([len(features) for features in corpus])
    means = np.stack([features.mean(0) for features in corpus])
    within = np.stack([features.var(0) for features in corpus]).mean(0)
    mean = np.average(means, axis=0, weights=lengths)
    chance = within * np.mean(1 / np.maximum(1.0, lengths * hop / PHONE))
    between = np.maximum(((means - mean) ** 2).mean(0) - chance, 0.0)
    centring = Centring(mean, np.ones_like(mean), within, between, hop)
    spread = np.average(
        np.stack([centring(features).var(0) + centring(features).mean(0) ** 2 for features in corpus]),
        axis=0,
        weights=lengths,
    )
    return centring._replace(deviation=np.sqrt(np.maximum(spread, 1e-8)))
