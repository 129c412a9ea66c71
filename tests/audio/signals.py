"""Sounds whose features are known beforehand."""

import numpy as np

RATE = 22050


def chirp(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Rising from 100 to 4000 Hz with its harmonics falling off, so that every band hears something."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (100 * time + 1950 * time**2 / seconds)
    return (0.3 * np.sin(phase) + 0.1 * np.sin(2.5 * phase)).astype(np.float32)


def pulses(hertz: float, seconds: float = 0.6, rate: int = RATE) -> np.ndarray:
    """A buzz: ten harmonics of one pitch."""
    time = np.arange(round(seconds * rate)) / rate
    return sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 11)).astype(np.float32) * 0.2


def click(at: int, samples: int) -> np.ndarray:
    wave = np.zeros(samples, np.float32)
    wave[at] = 1.0
    return wave
