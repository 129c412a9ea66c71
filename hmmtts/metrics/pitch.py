"""Errors of a pitch contour: F0 of two sides that are already paired, in Hz, 0 where unvoiced.

Letters: b utterances, p paired frames, t frames. What tracked the F0 is part of the definition of every figure here.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.metrics.pairing import valid


class PitchErrors(NamedTuple):
    """Per utterance. Without a frame voiced on both sides the first four are NaN, and `covoiced` says so with a 0."""

    rmse_hz: Float[Tensor, "b"]
    rmse_ln: Float[Tensor, "b"]
    rmse_cents: Float[Tensor, "b"]
    median_abs_hz: Float[Tensor, "b"]
    vuv_error: Float[Tensor, "b"]
    covoiced: Int[Tensor, "b"]


def pitch_errors(
    ref: Float[Tensor, "b p"], hyp: Float[Tensor, "b p"], length: Int[Tensor, "b"]
) -> PitchErrors:
    """RMSE over the frames voiced on both sides, of F0 in Hz, of ln F0, and in cents (1200 to the octave); the median
    of the absolute error in Hz over the same frames; the share of all frames whose voicing differs; the number of
    frames voiced on both sides.
    """
    inside = valid(length, ref.shape[1])
    ref_voiced, hyp_voiced = inside & (ref > 0), inside & (hyp > 0)
    both = ref_voiced & hyp_voiced
    covoiced = both.sum(1)
    hertz = torch.where(both, hyp - ref, torch.nan)
    # ln 1 = 0 stands where one side has no pitch, so that no logarithm of 0 is taken.
    ratio = (torch.where(both, hyp, 1.0) / torch.where(both, ref, 1.0)).log()
    rmse_ln = (ratio.square().sum(1) / covoiced).sqrt()
    return PitchErrors(
        rmse_hz=(hertz.square().nansum(1) / covoiced).sqrt(),
        rmse_ln=rmse_ln,
        rmse_cents=1200 / math.log(2) * rmse_ln,
        median_abs_hz=_median(hertz.abs()),
        vuv_error=(ref_voiced != hyp_voiced).sum(1) / length,
        covoiced=covoiced,
    )


def constant_pitch(f0: Float[Tensor, "b t"], length: Int[Tensor, "b"]) -> Float[Tensor, "b t"]:
    """The baseline that any model must beat: each voiced frame at its own utterance's mean F0.

    It knows that mean from the recording itself, so it scores no worse than one pitch for all utterances would.
    """
    voiced = valid(length, f0.shape[1]) & (f0 > 0)
    mean = torch.where(voiced, f0, 0.0).sum(1) / voiced.sum(1)
    return torch.where(voiced, mean[:, None], 0.0)


def _median(x: Float[Tensor, "b p"]) -> Float[Tensor, "b"]:
    """Of the values that are not NaN, halfway between the middle two when their number is even."""
    if x.shape[1] == 0:
        return x.new_full((len(x),), torch.nan)
    return torch.nanquantile(x, 0.5, dim=1)
