"""WORLD's view of speech, the front end of MCD and of the F0 figures: pitch, spectral envelope, mel-cepstrum.

Letters: t frames of 5 ms, k frequency bins, c coefficients. pyworld is the optional extra `world`; where it is
missing, `available()` says no and `analyse` raises the ValueError that says how to install it.
"""

import warnings
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from hmmtts.audio.io import resample

FRAME = 0.005  # seconds from one frame to the next; frame i is centred on i * FRAME
F0_FLOOR, F0_CEILING = 71.0, 800.0
ORDER = 24
# The warping that comes closest to the mel scale at each rate (SPTK's table). Rates between take the nearest.
ALPHA = {
    8000: 0.312,
    10000: 0.35,
    12000: 0.37,
    16000: 0.41,
    20000: 0.44,
    22050: 0.455,
    24000: 0.466,
    32000: 0.504,
}
ALPHA |= {44100: 0.544, 48000: 0.554}
MISSING = "WORLD is not installed, so MCD and F0 figures are NaN; for them run: pip install 'hmmtts[world]'"


class World(NamedTuple):
    """What WORLD finds in one utterance."""

    f0: Float[ndarray, "t"]  # Hz, 0 where unvoiced
    log_envelope: Float[ndarray, "t k"]  # ln of the smoothed power spectrum, float32: it is large
    mcep: Float[ndarray, "t 25"]  # mel-cepstrum c0..c24 of the amplitude


@cache
def library() -> ModuleType | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyworld imports pkg_resources, which warns about itself
        try:
            import pyworld
        except ImportError:
            return None
    return pyworld


def available() -> bool:
    return library() is not None


@cache
def frequency_warping(
    coefficients: int, order: int, alpha: float
) -> Float[ndarray, "{order}+1 {coefficients}"]:
    """The matrix that takes a cepstrum to a mel-cepstrum.

    Column m is the all-pass-warped expansion of z^-m (Oppenheim and Johnson 1972, eq. 21; SPTK's `freqt`),
    each found from the column before.
    """
    matrix = np.zeros((order + 1, coefficients))
    matrix[0, 0] = 1.0
    for m in range(1, coefficients):
        before, column = matrix[:, m - 1], matrix[:, m]
        column[0] = alpha * before[0]
        column[1] = (1 - alpha**2) * before[0] + alpha * before[1]
        for k in range(2, order + 1):
            column[k] = before[k - 1] + alpha * (before[k] - column[k - 1])
    return matrix


def mel_cepstrum(
    log_envelope: Float[ndarray, "t k"], sample_rate: int, order: int = ORDER
) -> Float[ndarray, "t {order}+1"]:
    """c0..c_order of the amplitude spectrum sqrt(envelope) on a mel-like frequency axis (pysptk's `sp2mc`)."""
    alpha = ALPHA[min(ALPHA, key=lambda rate: abs(rate - sample_rate))]
    # ln|X|^2 = 2 (c0 + ...), so c0 is halved here and the two mirrored halves of the others do the same.
    cepstrum = np.fft.irfft(log_envelope, axis=-1)[:, : log_envelope.shape[1]]
    cepstrum[:, 0] /= 2
    return cepstrum @ frequency_warping(cepstrum.shape[1], order, alpha).T


def analyse(wave: Float[ndarray, "n"], sample_rate: int, fmax: float | None = None) -> World:
    """F0 by Harvest (71 to 800 Hz), envelope by CheapTrick, both every 5 ms.

    With `fmax` the audio is first resampled to 2 x fmax: a mel that ends at fmax leaves nothing above it, and an
    envelope over the empty band says nothing about the voice.
    """
    pyworld = library()
    if pyworld is None:
        raise ValueError(MISSING)
    if not np.isfinite(wave).all():
        raise ValueError("wave must be finite to be analysed, got NaN or infinity; look at what produced it")
    if fmax is not None and round(2 * fmax) < sample_rate:
        wave, sample_rate = resample(wave, sample_rate, round(2 * fmax)), round(2 * fmax)
    samples = np.ascontiguousarray(wave, dtype=np.float64)
    if len(samples) == 0:
        bins = pyworld.get_cheaptrick_fft_size(sample_rate) // 2 + 1
        return World(np.zeros(0), np.zeros((0, bins), np.float32), np.zeros((0, ORDER + 1)))
    f0, times = pyworld.harvest(
        samples, sample_rate, f0_floor=F0_FLOOR, f0_ceil=F0_CEILING, frame_period=1000 * FRAME
    )
    log_envelope = np.log(pyworld.cheaptrick(samples, f0, times, sample_rate))
    return World(f0, log_envelope.astype(np.float32), mel_cepstrum(log_envelope, sample_rate))
