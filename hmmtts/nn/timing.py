"""States over time: where the decoder's frames lie in them. b utterances, s symbols, k states per symbol,
n = s * k states, t frames of the decoder."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

PLACES = 6  # numbers that describe a frame's place


class Placed(NamedTuple):
    """Where each frame lies."""

    state: Int[Tensor, "b t"]
    place: Float[Tensor, "b t p"]  # in the symbol, in the state: see `place`


def place(seconds: Float[Tensor, "b n"], per_symbol: int, times: Float[Tensor, "t"]) -> Placed:
    """The state at each time, and its place there.

    Durations are seconds and not frames, so the decoder's grid rounds nothing: that an aligner is finer than the
    decoder is not lost. A time beyond the last state counts as its end.
    """
    ends = seconds.cumsum(1)
    b, n = seconds.shape
    at = times.to(seconds).expand(b, -1).contiguous()
    state = torch.searchsorted(ends, at, right=True).clamp(max=n - 1)
    # Padding has no duration, so the last real state is the first that ends where everything ends.
    last = torch.searchsorted(ends, ends[:, -1:].contiguous()).clamp(max=n - 1)
    state = torch.minimum(state, last)
    symbol_seconds = seconds.unflatten(1, (-1, per_symbol)).sum(2)
    symbol_ends = symbol_seconds.cumsum(1)
    symbol = state // per_symbol

    def within(ends: Tensor, lengths: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        length = lengths.gather(1, index).clamp(min=1e-4)
        left = (ends.gather(1, index) - at).clamp(min=0)
        return 1 - (left / length).clamp(max=1), left, length

    in_state, _, _ = within(ends, seconds, state)
    in_symbol, left, length = within(symbol_ends, symbol_seconds, symbol)
    since = (length - left).clamp(min=0)
    near = [torch.exp(-since / NEAR), torch.exp(-left / NEAR)]
    parts = [in_symbol, in_state, *near, length.log() / 2 + 1, in_symbol.square()]
    return Placed(state, torch.stack(parts, -1))


NEAR = 0.02  # seconds: how far the sound of a boundary reaches


def frame_times(frames: int, hop: float, offset: float) -> Float[Tensor, "t"]:
    """The time of each frame: its centre, in seconds."""
    return offset + hop * torch.arange(frames)


def boundaries(
    durations: Float[Tensor, "b n"], per_symbol: int, hop: float, offset: float
) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b s"]]:
    """Start and end of each symbol in seconds, from the frames of its states.

    A frame reaches half a hop to each side of its centre; sound begins at 0, also where frame 0 is centred there.
    """
    ends = durations.unflatten(1, (-1, per_symbol)).sum(2).cumsum(1)
    ends = (offset + (ends - 0.5) * hop).clamp(min=0)
    return torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], 1), ends


def state_seconds(durations: Float[Tensor, "b n"], hop: float, offset: float) -> Float[Tensor, "b n"]:
    """Seconds of each state, such that their sums are the `boundaries`."""
    ends = (offset + (durations.cumsum(1) - 0.5) * hop).clamp(min=0)
    return torch.diff(ends, dim=1, prepend=torch.zeros_like(ends[:, :1]))
