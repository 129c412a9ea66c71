"""An invertible decoder: the neural HMM then models z where x = f(z) is heard (OverFlow, arXiv 2211.06892).

The layers are Glow-TTS's (arXiv 2005.11129). b utterances, t frames, m mel bins, y = t // 2 pairs of frames, k = 2m.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed, nn
from torch.nn.utils.parametrizations import weight_norm

from hmmtts.nn.lengths import mask
from hmmtts.nn.recompute import Stack, called

# Nats that one value of the mel may gain: as if none were known better than to a thousandth of its deviation.
# Real speech begins at 1 and came to 2.3 in 126 steps.
MOST = math.log(1000)


class Mapped(NamedTuple):
    y: Float[Tensor, "b t m"]
    log_determinant: Float[Tensor, "b"]  # of the Jacobian of y by what went in


class Flow(nn.Module):
    """x [b t m], frames [b] -> z of the same shape, and log |det dz/dx|. `inverse` goes back, exactly.

    Frames are taken in pairs. The last frame of an odd number of them has no other: an affine layer of its own maps it,
    so that what comes out is a density of all of x. The padding is never read and comes out as zeros.

    Every layer could scale constant sound up without end, which costs nothing and gains likelihood. So the determinant
    counts up to `MOST` for each value, which bounds the likelihood as the floor of a deviation does.
    """

    def __init__(
        self, bins: int, blocks: int = 12, width: int = 150, kernel: int = 5, layers: int = 4,
        groups: int = 4, dropout: float = 0.05,
    ) -> None:  # fmt: skip
        super().__init__()
        if bins % 2:
            raise ValueError(
                f"bins must be even: a pair of frames is cut in halves of whole groups; got {bins}"
            )
        self.blocks = Stack()
        for _ in range(blocks):
            coupling = Coupling(2 * bins, width, kernel, layers, dropout)
            self.blocks.extend([ActNorm(2 * bins), GroupedMix(2 * bins, groups), coupling])
        self.single = ActNorm(bins)
        self.reach = 2 * blocks * layers * (kernel // 2)  # frames on either side that a frame depends on

    def forward(self, x: Float[Tensor, "b t m"], frames: Int[Tensor, "b"]) -> Mapped:
        real = mask(frames, x.shape[1])
        x = torch.where(real[..., None], x, 0.0)
        last, paired = _last_and_paired(frames, x.shape[1])
        self.single.see(x, real)
        y, total = self.single(x, last)
        pairs = _squeeze(x)
        present = mask(frames // 2, pairs.shape[1])
        for block in self.blocks:
            pairs, log_determinant = called(block, pairs, present, recompute=self.blocks.recompute)
            total = total + log_determinant
        z = torch.where(paired[..., None], _unsqueeze(pairs, x.shape[1]), y)
        return Mapped(z, total.clamp(max=MOST * x.shape[2] * frames))

    def inverse(self, z: Float[Tensor, "b t m"], frames: Int[Tensor, "b"]) -> Float[Tensor, "b t m"]:
        z = torch.where(mask(frames, z.shape[1])[..., None], z, 0.0)
        last, paired = _last_and_paired(frames, z.shape[1])
        pairs = _squeeze(z)
        present = mask(frames // 2, pairs.shape[1])
        for block in reversed(self.blocks):
            assert isinstance(block, Invertible)
            pairs = block.inverse(pairs, present)
        return torch.where(paired[..., None], _unsqueeze(pairs, z.shape[1]), self.single.inverse(z, last))

    def inverse_stream(
        self, z: Iterable[Float[Tensor, "m"]], chunk: int = 64
    ) -> Iterator[Float[Tensor, "m"]]:
        """`inverse` of one utterance while it comes: the same frames, `reach` to `reach + chunk` frames behind.

        Every `chunk` frames a stretch that holds their whole surroundings is inverted: a larger chunk costs less and
        comes later.
        """
        if chunk < 2 or chunk % 2:
            raise ValueError(
                f"chunk must be even, for frames are taken in pairs, and at least 2, got {chunk}"
            )
        kept: list[Tensor] = []
        before = 0  # of the frames kept, those that have been given out
        for frame in z:
            kept.append(frame)
            if len(kept) == before + chunk + self.reach:
                yield from self._one(kept)[before : before + chunk]
                before += chunk
                kept = kept[max(0, before - self.reach) :]
                before = min(before, self.reach)
        if kept:
            yield from self._one(kept)[before:]

    def _one(self, z: list[Float[Tensor, "m"]]) -> Float[Tensor, "t m"]:
        whole = torch.stack(z)[None]
        return self.inverse(whole, torch.tensor([len(z)], device=whole.device))[0]


class Invertible(nn.Module, ABC):
    """x [b y k] -> y of the same shape and the log-determinant [b], and back; padding adds nothing to it."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Mapped: ...

    @abstractmethod
    def inverse(self, y: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Float[Tensor, "b y k"]: ...


class ActNorm(Invertible):
    """A scale and a shift per channel, such that the first batch comes out with mean 0 and deviation 1.

    The first batch is that of all processes together: on each its own would leave them with different weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.seen = nn.Buffer(torch.tensor(False))

    @torch.no_grad()
    def see(self, x: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> None:
        """Start from what is real in x, if nothing was seen before."""
        if not self.training or bool(self.seen):
            return
        rows = x[real].double()
        sums = torch.stack(
            [rows.sum(0), rows.square().sum(0), torch.full_like(self.shift.double(), len(rows))]
        )
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        count = sums[2].clamp(min=1)
        mean = sums[0] / count
        deviation = (sums[1] / count - mean.square()).clamp(min=0).sqrt()
        # A channel that does not vary is only shifted: a large scale in each layer would blow up the first step.
        deviation = torch.where(deviation > 1e-3, deviation, 1.0)
        self.log_scale.copy_(-deviation.log())
        self.shift.copy_(-mean / deviation)
        self.seen.fill_(True)

    def forward(self, x: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Mapped:
        self.see(x, real)
        y = torch.where(real[..., None], x * self.log_scale.exp() + self.shift, 0.0)
        return Mapped(y, self.log_scale.sum() * real.sum(1))

    def inverse(self, y: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Float[Tensor, "b y k"]:
        return torch.where(real[..., None], (y - self.shift) * (-self.log_scale).exp(), 0.0)


class GroupedMix(Invertible):
    """Glow-TTS's invertible 1x1 convolution: one matrix of `groups` x `groups` mixes that many channels at a time, half
    of them from each half of the channels, so that the coupling that follows sees both halves change."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        if groups % 2 or channels % groups:
            raise ValueError(f"groups must be even and divide the {channels} channels, got {groups}")
        self.times = channels // groups
        weight = torch.linalg.qr(torch.randn(groups, groups)).Q
        weight[:, 0] *= torch.linalg.det(weight).sign()  # a rotation: its determinant is 1
        self.weight = nn.Parameter(weight)

    def mix(self, x: Float[Tensor, "b y k"], weight: Float[Tensor, "g g"]) -> Float[Tensor, "b y k"]:
        b, y, k = x.shape
        parts = x.view(b, y, 2, self.times, len(weight) // 2).transpose(2, 3).reshape(b, y, self.times, -1)
        mixed = (parts @ weight.mT).view(b, y, self.times, 2, -1).transpose(2, 3)
        return mixed.reshape(b, y, k)

    def forward(self, x: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Mapped:
        with torch.autocast(x.device.type, enabled=False):
            log_determinant = torch.linalg.slogdet(self.weight).logabsdet * self.times
            return Mapped(self.mix(x, self.weight), log_determinant * real.sum(1))

    def inverse(self, y: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Float[Tensor, "b y k"]:
        with torch.autocast(y.device.type, enabled=False):
            return self.mix(y, torch.linalg.inv(self.weight))


class Coupling(Invertible):
    """The first half of the channels passes, and says how the second is scaled and shifted; at the start, not at all."""

    def __init__(self, channels: int, width: int, kernel: int, layers: int, dropout: float) -> None:
        super().__init__()
        half = channels // 2
        self.start = nn.Linear(half, width)
        self.net = GatedConvolutions(width, kernel, layers, dropout)
        self.end = nn.Linear(width, channels)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def scale_and_shift(
        self, half: Float[Tensor, "b y j"], real: Bool[Tensor, "b y"]
    ) -> tuple[Float[Tensor, "b y j"], Float[Tensor, "b y j"]]:
        out = self.end(self.net(self.start(half), real))
        out = torch.where(real[..., None], out, 0.0).to(half.dtype)  # exact from here on, under autocast too
        shift, log_scale = out.chunk(2, -1)
        return log_scale, shift

    def forward(self, x: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Mapped:
        first, second = x.chunk(2, -1)
        log_scale, shift = self.scale_and_shift(first, real)
        return Mapped(torch.cat([first, second * log_scale.exp() + shift], -1), log_scale.sum((1, 2)))

    def inverse(self, y: Float[Tensor, "b y k"], real: Bool[Tensor, "b y"]) -> Float[Tensor, "b y k"]:
        first, second = y.chunk(2, -1)
        log_scale, shift = self.scale_and_shift(first, real)
        return torch.cat([first, (second - shift) * (-log_scale).exp()], -1)


class GatedConvolutions(nn.Module):
    """WaveNet's layers (arXiv 1609.03499): tanh times sigmoid, a residual and a skip connection each."""

    def __init__(self, width: int, kernel: int, layers: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a middle, got {kernel}: take {kernel + 1}")
        self.into = nn.ModuleList(
            weight_norm(nn.Conv1d(width, 2 * width, kernel, padding=kernel // 2)) for _ in range(layers)
        )
        outs = [2 * width] * (layers - 1) + [width]  # the last has nothing to pass a residual to
        self.outof = nn.ModuleList(weight_norm(nn.Linear(width, size)) for size in outs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b y w"], real: Bool[Tensor, "b y"]) -> Float[Tensor, "b y w"]:
        heard, width = torch.zeros_like(x), x.shape[-1]
        for convolution, linear in zip(self.into, self.outof, strict=True):
            x = torch.where(real[..., None], x, 0.0)
            value, gate = convolution(self.dropout(x).mT).mT.chunk(2, -1)
            out = linear(value.tanh() * gate.sigmoid())
            heard = heard + out[..., -width:]
            if out.shape[-1] > width:
                x = x + out[..., :width]
        return heard


def _squeeze(x: Float[Tensor, "b t m"]) -> Float[Tensor, "b y k"]:
    """In pairs, at least one, which may be padding: a convolution takes no empty sequence."""
    b, t, m = x.shape
    x = nn.functional.pad(x, (0, 0, 0, 1)) if t == 1 else x[:, : t // 2 * 2]
    return x.reshape(b, -1, 2 * m)


def _unsqueeze(pairs: Float[Tensor, "b y k"], frames: int) -> Float[Tensor, "b t m"]:
    b, _, k = pairs.shape
    x = pairs.reshape(b, -1, k // 2)
    return nn.functional.pad(x, (0, 0, 0, frames - x.shape[1]))


def _last_and_paired(frames: Int[Tensor, "b"], size: int) -> tuple[Bool[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """The last frame of an odd number, and all that have another beside them."""
    paired = mask(frames // 2 * 2, size)
    return mask(frames, size) & ~paired, paired
