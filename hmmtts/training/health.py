"""Is the alignment sound? Figures that need no reference, and a verdict in plain words. b utterances, n states, u frames."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.batch import Alignment
from hmmtts.nn.lengths import Mean


class Health(NamedTuple):
    """Means over utterances unless said; NaN where an aligner has no such thing, and for what was never measured."""

    nats_per_frame: float  # -log p / frames
    entropy: float  # of the state posterior of a frame, in nats: 0 is certain
    shortest: float  # share of symbols whose states last one frame each: they could not be any shorter
    # 1: every symbol's middle lies where uniform durations put it; 0: half an utterance away
    diagonality: float
    boundary_shift_ms: float  # mean move of the symbols' starts since the last validation
    floored: float  # share of deviations within 1 % of their floor
    leave: float  # mean probability of leaving a state

    @classmethod
    def of(cls, means: Mapping[str, Mean]) -> "Health":
        return cls(
            **{
                name: float(mean.total) / n if (n := int(mean.number)) else math.nan
                for name, mean in means.items()
            }
        )


NEVER = Mean(torch.tensor(0.0), torch.tensor(0))


def entropy(posterior: Float[Tensor, "b u n"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Mean entropy of the posterior over the frames of each utterance."""
    each = -(posterior * posterior.clamp(min=1e-30).log()).sum(-1)
    real = torch.arange(posterior.shape[1], device=frames.device) < frames[:, None]
    return torch.where(real, each, 0.0).sum(1) / frames


def shortest(
    durations: Float[Tensor, "b n"], symbols: Int[Tensor, "b"], per_symbol: int
) -> Float[Tensor, "b"]:
    whole = durations.unflatten(1, (-1, per_symbol)).sum(2)
    real = torch.arange(whole.shape[1], device=symbols.device) < symbols[:, None]
    return ((whole <= per_symbol) & real).sum(1) / symbols


def diagonality(durations: Float[Tensor, "b n"], states: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    real = torch.arange(durations.shape[1], device=states.device) < states[:, None]
    durations = torch.where(real, durations, 0.0)
    middle = (durations.cumsum(1) - durations / 2) / durations.sum(1, keepdim=True)
    uniform = (torch.arange(durations.shape[1], device=states.device) + 0.5) / states[:, None]
    away = torch.where(real, (middle - uniform).abs(), 0.0).sum(1) / states
    return 1 - 2 * away


def measure(
    alignment: Alignment, frames: Int[Tensor, "b"], symbols: Int[Tensor, "b"], per_symbol: int
) -> dict[str, Mean]:
    """Of one batch. The shift of boundaries is the caller's, who knows the validation before, and so is what only a
    Gaussian HMM has."""
    each = {
        "nats_per_frame": -alignment.log_likelihood / frames,
        "entropy": entropy(alignment.posterior, frames),
        "shortest": shortest(alignment.durations, symbols, per_symbol),
        "diagonality": diagonality(alignment.durations, symbols * per_symbol),
    }
    return dict.fromkeys(Health._fields, NEVER) | {name: over(values) for name, values in each.items()}


def over(values: Tensor) -> Mean:
    """The mean of everything there is."""
    return Mean(values.double().sum(), torch.tensor(values.numel(), device=values.device))


def verdict(health: Health, flat_nats: float, step: int) -> str:
    """`flat_nats`: nats per frame of one Gaussian for everything, which is what knowing no alignment costs."""
    gain = flat_nats - health.nats_per_frame
    causes = []
    if not math.isfinite(health.nats_per_frame):
        return f"alignment broken at step {step}: the likelihood is not finite; lower optim.optimizer.lr"
    if gain < 0.05 * flat_nats:
        causes.append(
            "the states explain the sound no better than one state for everything: train longer, or the transcripts do not "
            "belong to the recordings (hmmtts check)"
        )
    if health.entropy > 1.0:
        causes.append(
            "most frames could belong to several states: train longer, or take fewer states per symbol"
        )
    if health.shortest > 0.3:
        causes.append(
            f"{100 * health.shortest:.0f} % of the symbols are as short as their states allow: too many states per symbol "
            "for this hop, or a text that is longer than the speech"
        )
    # By itself no fault: a high floor keeps states from shrinking onto one frame.
    if causes and health.floored > 0.98:
        causes.append(
            "all deviations lie on their floor: features that are constant (silence?) or a floor too high"
        )
    if causes:
        return f"alignment not formed at step {step}: likely causes: {'; '.join(causes)}"
    moved = (
        f", moved {health.boundary_shift_ms:.1f} ms since the last validation"
        if health.boundary_shift_ms >= 0
        else ""
    )
    return (
        f"alignment formed at step {step}{moved}: {gain:.1f} nats a frame better than no alignment, "
        f"posterior entropy {health.entropy:.2f} nats, {100 * health.shortest:.0f} % of the symbols as short as can be"
    )
