"""What an aligner listens to: cepstra of short windows at a fine hop. l samples, u frames, c coefficients.

Measured on speech with exactly known boundaries: a window of 7 to 10 ms, shorter than a pitch period, and no deltas.
Deltas see a boundary before it comes, so that every boundary is found 6 to 9 ms late.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from hmmtts.audio.torchaudio import functional


class Cepstra(nn.Module):
    """Mel-frequency cepstra: [b l] -> [b u c], c = n_cepstra * (1 + deltas).

    Frame i is centred on sample i * hop, u = 1 + l // hop. `window` and `hop` are seconds and count in whole samples:
    `hop_seconds` is the exact hop, 4.989 ms for 5 ms at 22050 Hz.

    `dither` is the standard deviation of the noise added to the samples. Synthetic speech holds digital zeros, whose
    logarithm would outweigh everything else. The noise is the same at every call.
    """

    offset = 0.0  # seconds: the centre of frame 0

    def __init__(
        self,
        sample_rate: int = 22050,
        window: float = 0.0073,
        hop: float = 0.005,
        n_cepstra: int = 13,
        n_mels: int = 26,
        fmin: float = 60.0,
        fmax: float = 8000.0,
        deltas: int = 0,
        dither: float = 3e-4,
    ) -> None:
        super().__init__()
        if fmax > sample_rate / 2:
            raise ValueError(
                f"fmax must not exceed half the sample rate, {sample_rate / 2} Hz, got {fmax}: lower fmax"
            )
        if not 1 <= n_cepstra <= n_mels:
            raise ValueError(f"n_cepstra must be from 1 to n_mels, {n_mels}, got {n_cepstra}")
        if deltas not in (0, 1, 2):
            raise ValueError(f"deltas must be 0, 1 or 2, got {deltas}")
        self.sample_rate, self.n_mels, self.fmin, self.fmax = sample_rate, n_mels, fmin, fmax
        self.deltas, self.dither = deltas, dither
        self.win, self.hop = round(window * sample_rate), round(hop * sample_rate)
        self.hop_seconds = self.hop / sample_rate
        self.dim = n_cepstra * (1 + deltas)
        # Zeros after the window draw the spectrum finer, so that the narrow low bands all hold some bins.
        self.n_fft = max(512, 2 ** math.ceil(math.log2(self.win)))
        filters = functional.melscale_fbanks(self.n_fft // 2 + 1, fmin, fmax, n_mels, sample_rate)
        self.window = nn.Buffer(torch.hamming_window(self.win), persistent=False)
        self.filters = nn.Buffer(filters, persistent=False)
        self.transform = nn.Buffer(functional.create_dct(n_cepstra, n_mels, norm="ortho"), persistent=False)

    def frames(self, samples: int) -> int:
        return samples // self.hop + 1

    def forward(self, wave: Float[Tensor, "b l"]) -> Float[Tensor, "b u c"]:
        noise = torch.randn(wave.shape[1], generator=torch.Generator().manual_seed(0)).to(wave.device)
        centred = pad(wave + self.dither * noise, (self.win // 2, self.win - self.win // 2))
        pieces = centred.unfold(1, self.win, self.hop)
        spectrum = torch.fft.rfft(pieces * self.window, self.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        cepstra = (power @ self.filters).clamp(min=1e-10).log() @ self.transform
        tracks = [cepstra]
        for _ in range(self.deltas):
            tracks.append(slope(tracks[-1]))
        return torch.cat(tracks, -1)


def slope(tracks: Float[Tensor, "b u c"], reach: int = 2) -> Float[Tensor, "b u c"]:
    """The slope of the line through the frames at most `reach` away: HTK's deltas. The ends count as going on."""
    distance = torch.arange(-reach, reach + 1, dtype=tracks.dtype, device=tracks.device)
    around = pad(tracks.mT, (reach, reach), mode="replicate")
    weights = (distance / distance.square().sum()).expand(tracks.shape[-1], 1, -1)
    return conv1d(around, weights, groups=tracks.shape[-1]).mT
