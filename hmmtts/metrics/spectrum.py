"""Distances of spectra that are already paired: mel-cepstral distortion and log-spectral distortion, in dB.

Letters: b utterances, p paired frames, t frames, c cepstral coefficients, k frequency bins, m mel bins.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.metrics.pairing import valid

MCD_CONSTANT = 10 / math.log(10) * math.sqrt(2)  # 6.1418514 dB for one coefficient that differs by 1


def mcd(
    ref: Float[Tensor, "b p c"], hyp: Float[Tensor, "b p c"], length: Int[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Mel-cepstral distortion: 10/ln 10 * sqrt(2 * sum_{d>=1} (c_d - c'_d)^2) dB, mean over the paired frames.

    c0, which holds the level, is left out (Kubichek 1993). NaN for an utterance without frames.
    """
    distance = torch.linalg.vector_norm(ref[..., 1:] - hyp[..., 1:], dim=-1)
    return MCD_CONSTANT * mean_over_frames(distance, length)


def logmel_cepstra(logmel: Float[Tensor, "b t m"], order: int = 24) -> Float[Tensor, "b t {order}+1"]:
    """c0..c_order of a log-mel: orthonormal DCT-II times sqrt(2/m), so that ln|X| = c0 + sum_d c_d cos(.).

    `logmel` is the natural logarithm of mel amplitudes: neither normalised nor in dB.
    """
    bins = logmel.shape[-1]
    if order >= bins:
        raise ValueError(f"order must be below the number of mel bins, {bins}, got {order}: lower order")
    centre = torch.arange(bins, device=logmel.device, dtype=torch.float64) + 0.5
    quefrency = torch.arange(order + 1, device=logmel.device, dtype=torch.float64)
    basis = torch.cos(math.pi / bins * centre[:, None] * quefrency) * (2 / bins)
    basis[:, 0] /= math.sqrt(2)  # the orthonormal DCT's c0
    return logmel @ basis.to(logmel.dtype)


def mcd_from_logmel(
    ref: Float[Tensor, "b p m"], hyp: Float[Tensor, "b p m"], length: Int[Tensor, "b"], order: int = 24
) -> Float[Tensor, "b"]:
    """`mcd` of the cepstra c1..c_order of two paired log-mels. A figure of its own, not to be called "the" MCD."""
    return mcd(logmel_cepstra(ref, order), logmel_cepstra(hyp, order), length)


def spectral_distortion(
    ref: Float[Tensor, "b p k"], hyp: Float[Tensor, "b p k"], length: Int[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Log-spectral distortion: the root mean square, over frequency, of the difference in dB of two power spectra
    (given as natural logarithms), mean over the paired frames.

    The level counts: twice the amplitude is 6.02 dB. NaN for an utterance without frames.
    """
    decibel = 10 / math.log(10) * (ref - hyp)
    return mean_over_frames(decibel.square().mean(-1).sqrt(), length)


def mean_over_frames(x: Float[Tensor, "b p"], length: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """The mean of each utterance's own frames; NaN where it has none (0 / 0)."""
    return torch.where(valid(length, x.shape[1]), x, 0.0).sum(1) / length
