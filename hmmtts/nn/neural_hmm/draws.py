"""Randomness that belongs to an utterance: the same alone and in a batch, at once and frame by frame, on any device.

b utterances, t frames, p prenet, m mel bins.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK = 64  # frames drawn at a time; another number gives other draws


def keys(ids: Int[Tensor, "b s"], symbols: Int[Tensor, "b"], seed: int) -> list[int]:
    """One key per utterance, from the seed and its symbols."""
    rows = zip(ids.cpu(), symbols.tolist(), strict=True)
    return [
        zlib.crc32(row[:count].to(torch.int32).numpy().tobytes(), seed & 0xFFFFFFFF) for row, count in rows
    ]


class Frame(NamedTuple):
    """What one frame of every utterance is drawn from."""

    kept: Bool[Tensor, "b 2 p"]  # units of the prenet that its dropout leaves on
    noise: Float[Tensor, "b m"]  # standard normal
    chance: Float[Tensor, "b"]  # uniform: for drawn durations


def kept_units(
    keys: Sequence[int], frames: int, prenet: int, dropout: float, device: torch.device
) -> Bool[Tensor, "b t 2 p"]:
    """Dropout of the prenet for whole utterances."""
    rows = []
    for key in keys:
        generator = torch.Generator().manual_seed(key)
        blocks = [_kept(generator, prenet, dropout) for _ in range(-(-frames // BLOCK))]
        rows.append(torch.cat(blocks)[:frames])
    return torch.stack(rows).to(device)


def frame_by_frame(
    keys: Sequence[int], prenet: int, dropout: float, bins: int, like: Tensor
) -> Iterator[Frame]:
    """Without end; `kept` is the same as of whole utterances."""
    dropouts = [torch.Generator().manual_seed(key) for key in keys]
    sounds = [torch.Generator().manual_seed(~key & 0xFFFFFFFF) for key in keys]
    while True:
        kept = torch.stack([_kept(generator, prenet, dropout) for generator in dropouts], 1).to(like.device)
        noise = torch.stack([torch.randn(BLOCK, bins, generator=generator) for generator in sounds], 1).to(
            like
        )
        chance = torch.stack([torch.rand(BLOCK, generator=generator) for generator in sounds], 1).to(like)
        yield from map(Frame, kept, noise, chance)


def _kept(generator: torch.Generator, prenet: int, dropout: float) -> Bool[Tensor, "t 2 p"]:
    return torch.rand(BLOCK, 2, prenet, generator=generator) >= dropout
