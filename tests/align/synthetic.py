"""Utterances drawn from a known model of Gaussian states: the truth about boundaries, without any sound."""

import numpy as np

from hmmtts.align.aligner import Track
from hmmtts.align.script import Script

HOP = 0.01
SOUNDS = ("sil", "a", "b", "c", "d", "e")


def utterances(
    count: int, seed: int, distance: float = 2.0, coefficients: int = 6
) -> tuple[list[Track], list[np.ndarray]]:
    """Tracks whose sounds are Gaussians `distance` apart, and the true first frame of each symbol."""
    random = np.random.default_rng(seed)
    means = distance * random.standard_normal((len(SOUNDS), coefficients))
    tracks, truth = [], []
    for _ in range(count):
        symbols = ["sil", *(SOUNDS[1 + i] for i in _no_repeats(random, 8)), "sil"]
        lengths = random.integers(4, 20, len(symbols))
        owners = np.repeat(np.arange(len(symbols)), lengths)
        features = means[[SOUNDS.index(symbols[i]) for i in owners]] + random.standard_normal(
            (len(owners), coefficients)
        )
        script = Script(symbols, ["word"], [-1, *[0] * 8, -1], [0] * len(symbols))
        tracks.append(Track((features / features.std(0)).astype(np.float32), script, len(owners) * HOP))
        truth.append(np.append(0, lengths.cumsum()[:-1]))
    return tracks, truth


def _no_repeats(random: np.random.Generator, length: int) -> list[int]:
    """Neighbours differ: between equal sounds there is no boundary to find."""
    found = [int(random.integers(len(SOUNDS) - 1))]
    while len(found) < length:
        found.append(int((found[-1] + 1 + random.integers(len(SOUNDS) - 2)) % (len(SOUNDS) - 1)))
    return found
