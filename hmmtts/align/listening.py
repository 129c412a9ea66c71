"""What the aligner hears, and what time a frame has. l samples, u frames, c coefficients.

A frame stands for the time of its centre: frame i of phase p is centred at p + i * hop seconds, and a boundary between
frames i - 1 and i lies half way between their centres. Each listening is one choice of window and hop; listening again
at a shifted phase is a second opinion whose grid falls elsewhere.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.io import Wave, resample

RATE = 16_000  # every recording is heard at this rate, so that one model fits them all
EMPHASIS = 0.97  # of high frequencies, which short windows would else bury under the leakage of low ones


class Listening(NamedTuple):
    """Measured on six corpora (docs/alignment.md): COARSE makes few gross errors, FINE is exact to a few ms."""

    window: float  # seconds
    hop: float
    deltas: int
    states: int  # of a symbol, at most
    components: int  # Gaussians of a state


COARSE = Listening(window=0.025, hop=0.010, deltas=2, states=3, components=1)
FINE = Listening(window=0.010, hop=0.005, deltas=0, states=5, components=2)


def prepared(wave: Wave, rate: int) -> Wave:
    """The sound at RATE with emphasis, as `listen` takes it."""
    heard = resample(wave, rate, RATE)
    return np.append(heard[:1], heard[1:] - EMPHASIS * heard[:-1]).astype(np.float32)


def listen(sound: Wave, listening: Listening, phase: float = 0.0) -> Float[np.ndarray, "u c"]:
    """Cepstra of the prepared sound from `phase` seconds on."""
    heard = sound[round(phase * RATE) :]
    with torch.inference_mode():
        return cepstra(listening)(torch.from_numpy(heard)[None])[0].numpy()


@cache
def cepstra(listening: Listening) -> Cepstra:
    return Cepstra(RATE, window=listening.window, hop=listening.hop, deltas=listening.deltas, fmax=RATE / 2)


def edges(firsts: Int[np.ndarray, "s"], listening: Listening, phase: float) -> Float[np.ndarray, "s"]:
    """The time at which each of these frames begins: half a hop before its centre."""
    return phase + (firsts - 0.5) * listening.hop


def frames_at(times: Float[np.ndarray, "s"], listening: Listening, phase: float) -> Float[np.ndarray, "s"]:
    """The inverse of `edges`, not rounded."""
    return (times - phase) / listening.hop + 0.5
