"""Errors of timing: durations, boundaries and frame-wise alignment of phones.

Letters: b utterances, s symbols, f moments. Times are in seconds from the start of the audio. Both sides time the same
symbols; `spoken` is False at pauses and punctuation, which have no time that anyone would judge. A symbol whose time is
unknown on either side (NaN) is left out.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.metrics.pairing import valid
from hmmtts.metrics.spectrum import mean_over_frames

WITHIN_MS = (10, 20, 25, 50)
ADJOINING = 1e-3  # seconds: two phones that are closer than this have no pause between them
ROUNDING = 1e-9  # milliseconds that a boundary exactly at the limit may be beyond it


class Spans(NamedTuple):
    """When each symbol is spoken; NaN where unknown."""

    starts: Float[Tensor, "b s"]
    ends: Float[Tensor, "b s"]


def spans_of_frames(frames: Float[Tensor, "b s"], hop: float, offset: float = 0.0) -> Spans:
    """The spans of symbols that own so many frames each, one after the other.

    Frame i is centred on `offset + i * hop` (what hmmtts.audio's extractors state) and reaches half a hop to each
    side, so a symbol begins halfway between its first frame and the frame before; never before 0.
    """
    ends = ((frames.double().cumsum(1) - 0.5) * hop + offset).clamp(min=0.0)
    return Spans(torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], 1), ends)


def uniform_spans(symbols: Int[Tensor, "b"], seconds: Float[Tensor, "b"], size: int) -> Spans:
    """The baseline that knows nothing: every symbol gets an equal part of the utterance."""
    each = (seconds.double() / symbols)[:, None]
    index = torch.arange(size, device=symbols.device)
    return Spans(index * each, (index + 1) * each)


def _judged(
    ref: Spans, hyp: Spans, symbols: Int[Tensor, "b"], spoken: Bool[Tensor, "b s"]
) -> Bool[Tensor, "b s"]:
    """The spoken symbols whose times both sides know."""
    known = ~(torch.stack([*ref, *hyp]).isnan().any(0))
    return valid(symbols, spoken.shape[1]) & spoken & known


# -- boundaries ---------------------------------------------------------------------------------------------------


def boundary_errors(
    ref: Spans, hyp: Spans, symbols: Int[Tensor, "b"], spoken: Bool[Tensor, "b s"]
) -> Float[Tensor, "b s 2"]:
    """Hypothesis minus reference in ms at the start [..., 0] and end [..., 1] of every phone, NaN where not scored.

    Scored is every phone's start, and its end where the reference has a pause or nothing after it: elsewhere the end
    is the next phone's start and would count twice. float64; times held in less are judged to 0.01 ms.
    """
    judged = _judged(ref, hyp, symbols, spoken)
    starts = torch.where(judged, ref.starts, torch.inf)
    no_more = starts.new_full((len(starts), 1), torch.inf)
    following = torch.cat([starts[:, 1:], no_more], 1).flip(1).cummin(1).values.flip(1)
    before_pause = judged & (following - ref.ends > ADJOINING)
    error = 1000 * torch.stack([hyp.starts - ref.starts, hyp.ends - ref.ends], -1)
    if error.dtype != torch.float64:
        # Times in float32 are off by up to a microsecond, which must not push an error of 10 ms beyond 10 ms.
        error = error.double().round(decimals=2)
    return torch.where(torch.stack([judged, before_pause], -1), error, torch.nan)


class BoundaryFigures(NamedTuple):
    """Scalars, pooled over all boundaries. Shares are fractions; `debiased` has the median error taken off first."""

    boundaries: Int[Tensor, ""]
    median_ms: Float[Tensor, ""]
    mean_ms: Float[Tensor, ""]
    bias_ms: Float[Tensor, ""]
    within: dict[int, Float[Tensor, ""]]
    debiased_within: dict[int, Float[Tensor, ""]]

    def by_key(self) -> dict[str, Tensor]:
        """Under the keys of `DEFINITIONS`."""
        return {
            "boundaries": self.boundaries,
            "boundary_median_ms": self.median_ms,
            "boundary_mean_ms": self.mean_ms,
            "boundary_bias_ms": self.bias_ms,
            **{f"boundary_within_{ms}ms": share for ms, share in self.within.items()},
            **{f"boundary_debiased_within_{ms}ms": share for ms, share in self.debiased_within.items()},
        }


def boundary_figures(errors: Float[Tensor, "*e"]) -> BoundaryFigures:
    """Median and mean of the absolute error in ms, the bias (the median of the signed error: positive is late), and the
    shares within 10, 20, 25 and 50 ms, as they are and with the bias taken off. NaN entries are not boundaries; without
    any boundary every figure is NaN.
    """
    signed = errors[~errors.isnan()].double()
    absolute = signed.abs()
    bias = _quantile(signed, 0.5)
    debiased = (signed - bias).abs()
    return BoundaryFigures(
        boundaries=torch.tensor(len(signed)),
        median_ms=_quantile(absolute, 0.5),
        mean_ms=absolute.mean(),
        bias_ms=bias,
        within={ms: (absolute <= ms + ROUNDING).double().mean() for ms in WITHIN_MS},
        debiased_within={ms: (debiased <= ms + ROUNDING).double().mean() for ms in WITHIN_MS},
    )


def _quantile(x: Float[Tensor, "e"], q: float) -> Float[Tensor, ""]:
    """By sorting, because torch.quantile refuses more than 2^24 values."""
    if len(x) == 0:
        return x.new_tensor(torch.nan)
    ordered, place = x.sort().values, q * (len(x) - 1)
    low = int(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(x) - 1)], place - low)


# -- frames -------------------------------------------------------------------------------------------------------


class FrameAccuracy(NamedTuple):
    """Per utterance, as fractions; NaN where there is no frame to judge."""

    overall: Float[Tensor, "b"]  # all frames of the utterance, pauses included
    spoken: Float[Tensor, "b"]  # the frames where the reference has a phone


def frame_accuracy(
    ref: Spans,
    hyp: Spans,
    symbols: Int[Tensor, "b"],
    spoken: Bool[Tensor, "b s"],
    seconds: Float[Tensor, "b"],
    step: float = 0.005,
) -> FrameAccuracy:
    """The share of frames, judged at their centres (i + 1/2) * step, that lie in the right phone: the same instance,
    not only the same label. A pause is right where both sides have one between the same two phones.
    """
    judged = _judged(ref, hyp, symbols, spoken)
    moments = (
        torch.arange(int(seconds.max() / step) + 1, device=seconds.device, dtype=torch.float64) + 0.5
    ) * step
    length = torch.where(judged.any(1), (moments < seconds[:, None]).sum(1), 0)
    truth, guess = _instance(ref, judged, moments), _instance(hyp, judged, moments)
    right = (truth == guess).double()
    inside = valid(length, len(moments))
    in_phone = inside & (truth % 2 == 1)
    return FrameAccuracy(
        overall=mean_over_frames(right, length),
        spoken=torch.where(in_phone, right, 0.0).sum(1) / in_phone.sum(1),
    )


def _instance(spans: Spans, judged: Bool[Tensor, "b s"], moments: Float[Tensor, "f"]) -> Int[Tensor, "b f"]:
    """How many starts and ends of judged phones have passed: 2k - 1 within phone k, 2k in a pause after it."""
    passed = torch.zeros(len(judged), len(moments), dtype=torch.long, device=moments.device)
    for times in spans:
        ordered = torch.where(judged, times.double(), torch.inf).sort(1).values
        passed += torch.searchsorted(ordered, moments.expand(len(times), -1).contiguous(), right=True)
    return passed


# -- durations ----------------------------------------------------------------------------------------------------


class DurationFigures(NamedTuple):
    """Scalars, pooled over phones."""

    accuracy: Float[Tensor, ""]
    rmse_ms: Float[Tensor, ""]
    correlation: Float[Tensor, ""]
    phones: Float[Tensor, ""]


MOMENTS = ("phones", "ref", "hyp", "ref ref", "hyp hyp", "ref hyp", "absolute error", "squared error")


def duration_moments(
    ref: Float[Tensor, "b s"],
    hyp: Float[Tensor, "b s"],
    symbols: Int[Tensor, "b"],
    spoken: Bool[Tensor, "b s"],
) -> Float[Tensor, "8"]:
    """The sums over all judged phones (named by MOMENTS) that the figures are made of; those of two batches add up."""
    keep = valid(symbols, spoken.shape[1]) & spoken & ~ref.isnan() & ~hyp.isnan()
    r, h = ref[keep].double(), hyp[keep].double()
    terms = (torch.ones_like(r), r, h, r * r, h * h, r * h, (r - h).abs(), (r - h).square())
    return torch.stack([term.sum() for term in terms])


def duration_figures(moments: Float[Tensor, "8"]) -> DurationFigures:
    """Accuracy = 1 - sum |d - d'| / sum d, not below 0; RMSE in ms; Pearson's correlation. All of them pooled over
    phones, pauses excluded; NaN without a phone, the correlation also where one side never varies.
    """
    phones, r, h, rr, hh, rh, absolute, squared = moments
    variances = (rr - r * r / phones) * (hh - h * h / phones)
    # A sum of squares of n equal values differs from n times the square by rounding: that is no variance.
    varies = variances > 1e-24 * (rr * hh).clamp(min=torch.finfo(torch.float64).tiny)
    return DurationFigures(
        accuracy=(1 - absolute / r).clamp(min=0.0),
        rmse_ms=1000 * (squared / phones).sqrt(),
        correlation=torch.where(
            varies, (rh - r * h / phones) / variances.clamp(min=0).sqrt(), torch.nan
        ).clamp(-1, 1),
        phones=phones,
    )


def duration_errors(
    ref: Float[Tensor, "b s"],
    hyp: Float[Tensor, "b s"],
    symbols: Int[Tensor, "b"],
    spoken: Bool[Tensor, "b s"],
) -> DurationFigures:
    """`duration_figures` of one batch."""
    return duration_figures(duration_moments(ref, hyp, symbols, spoken))
