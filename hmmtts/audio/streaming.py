"""Features while the sound comes in: the frames of LogMel and Cepstra, without waiting for its end. l samples, u frames.

    ears = begin(extractor)
    ears, frames = hear(extractor, ears, samples)          # any number of samples, none included
    ears, frames = hear(extractor, ears, samples, ended=True)

A frame is given out as soon as all of its samples are there: half a window after its centre, plus two frames for each
delta. The extractor itself makes it, from a stretch of sound just long enough, so that beginnings, ends and dither are
those of the whole; only the rounding of matrix products of another size differs. Frames are made `block` at a time,
wherever the pieces of the sound end: the same bits for any pieces.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import soxr
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.io import Wave
from hmmtts.audio.mel import LogMel

DRAWN = 16  # samples of noise that torch draws together; the last ones of a sound it draws anew


class Ears(NamedTuple):
    """What of the sound is still needed."""

    sound: Float[Tensor, "l"]  # with dither, from sample `first` on
    raw: Float[Tensor, "r"]  # after it, still without
    first: int
    frames: int  # given out so far
    noise: UInt8[Tensor, "g"]  # state of the generator


class Reach(NamedTuple):
    """What a frame needs of the sound around sample i * hop."""

    left: int  # samples
    right: int
    frames: int  # neighbours on both sides, for deltas


def begin(extractor: LogMel | Cepstra) -> Ears:
    del extractor  # all begin alike
    nothing = torch.zeros(0)
    return Ears(nothing, nothing, 0, 0, torch.Generator().manual_seed(0).get_state())


def hear(
    extractor: LogMel | Cepstra, ears: Ears, samples: Wave, ended: bool = False, block: int = 1
) -> tuple[Ears, Float[Tensor, "u c"]]:
    """The frames that these samples complete. A larger `block` is later by so many frames, and cheaper."""
    reach, hop = _reach(extractor), extractor.hop
    ears, quiet = _dithered(extractor, ears, torch.from_numpy(np.asarray(samples, np.float32)), ended)
    heard = ears.first + len(ears.sound)
    # One frame more than overlaps the cut, so that the stretch is long enough to be reflected at its ends.
    margin = reach.frames + math.ceil((reach.left + 1) / hop) + 1
    out = []
    frames = ears.frames
    while True:
        begin = max(0, frames - margin)
        last = max((frames + block - 1 + reach.frames) * hop + reach.right, begin * hop + reach.left + 1)
        if last > heard:
            break
        made = _frames(quiet, ears.sound[begin * hop - ears.first : last - ears.first])
        out.append(made[frames - begin : frames - begin + block])
        frames += block
    begin = max(0, frames - margin)
    rest = ears.sound[begin * hop - ears.first :]
    if ended:
        out.append(_frames(quiet, rest)[frames - begin :])
        frames = begin + quiet.frames(len(rest))
    ears = ears._replace(sound=rest.clone(), first=begin * hop, frames=frames)
    return ears, torch.cat(out) if out else torch.zeros(0, extractor.dim)


def _reach(extractor: LogMel | Cepstra) -> Reach:
    if isinstance(extractor, Cepstra):
        return Reach(extractor.win // 2, extractor.win - extractor.win // 2, 2 * extractor.deltas)
    around = extractor.n_fft if extractor.padding == "center" else extractor.n_fft - extractor.hop
    return Reach(around // 2, extractor.n_fft - around // 2, 0)


def _dithered(
    extractor: LogMel | Cepstra, ears: Ears, samples: Float[Tensor, "l"], ended: bool
) -> tuple[Ears, LogMel | Cepstra]:
    """The sound with the noise that the whole would get, and an extractor that adds none."""
    if not isinstance(extractor, Cepstra):
        return ears._replace(sound=torch.cat([ears.sound, samples])), extractor
    raw = torch.cat([ears.raw, samples])
    ready = len(raw) if ended else max(0, len(raw) - DRAWN) // DRAWN * DRAWN
    generator = torch.Generator()
    generator.set_state(ears.noise)
    noise = torch.randn(ready, generator=generator)
    sound = torch.cat([ears.sound, raw[:ready] + extractor.dither * noise])
    quiet = copy.copy(extractor)
    quiet.dither = 0.0
    return ears._replace(sound=sound, raw=raw[ready:], noise=generator.get_state()), quiet


@torch.no_grad()
def _frames(extractor: LogMel | Cepstra, sound: Float[Tensor, "l"]) -> Float[Tensor, "u c"]:
    return extractor(sound[None])[0]


def resampled(pieces: Iterable[Wave], rate: float, to: float) -> Iterator[Wave]:
    """The same sound at another rate, as io.resample makes it of the whole."""
    if rate == to:
        yield from pieces
        return
    stream = soxr.ResampleStream(rate, to, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(np.asarray(piece, np.float32))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
