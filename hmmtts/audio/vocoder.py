"""From a log-mel spectrogram back to sound. l samples, t frames, m mel bins, f bins of the Fourier transform."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import pad

from hmmtts.audio.mel import LogMel


class Vocoder(nn.Module, ABC):
    """mel [t m], natural logarithm, not normalised -> wave [l] at `logmel.sample_rate`; the same input, the same sound.

    A trained vocoder (Vocos, HiFi-GAN) is one more subclass: it takes the mel that its own `logmel` describes.
    """

    def __init__(self, logmel: LogMel) -> None:
        super().__init__()
        self.logmel = logmel

    @abstractmethod
    def forward(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "l"]: ...


class GriffinLim(Vocoder):
    """Phases by fast Griffin-Lim (Perraudin et al. 2013), amplitudes by non-negative least squares.

    `iterations`: more costs time in proportion and gains little beyond 60. `momentum` 0 is the plain algorithm of
    1984. The phases start at random from `seed`.
    """

    def __init__(self, logmel: LogMel, iterations: int = 60, momentum: float = 0.99, seed: int = 0) -> None:
        super().__init__(logmel)
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.iterations, self.momentum, self.seed = iterations, momentum, seed
        self.window = nn.Buffer(torch.hann_window(logmel.win), persistent=False)
        # The least-squares answer holds negative amplitudes: clipped, it is where the multiplicative steps start.
        self.unmix = nn.Buffer(torch.linalg.pinv(logmel.filters).contiguous(), persistent=False)

    @torch.no_grad()
    def forward(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "l"]:
        mel = mel.float()  # Fourier transforms have no half precision
        amplitude = self.amplitudes(mel).mT
        # On the CPU whatever the device, so that the same mel gives the same start everywhere.
        noise = torch.rand(amplitude.shape, generator=torch.Generator().manual_seed(self.seed))
        angles = torch.polar(torch.ones_like(amplitude), 2 * torch.pi * noise.to(mel.device))
        previous = torch.zeros_like(angles)
        for _ in range(self.iterations):
            rebuilt = self.stft(self.istft(amplitude * angles))
            angles = rebuilt + self.momentum * (rebuilt - previous)
            angles = angles / (angles.abs() + 1e-16)
            previous = rebuilt
        wave = self.istft(amplitude * angles)
        if self.logmel.padding == "same":  # frame 0 is centred half a hop into the sound
            wave = pad(wave, (self.logmel.hop // 2, self.logmel.hop - self.logmel.hop // 2))
        return wave

    def amplitudes(self, mel: Float[Tensor, "t m"], steps: int = 30) -> Float[Tensor, "t f"]:
        """The Fourier amplitudes whose mel is nearest: Lee and Seung's multiplicative updates stay non-negative."""
        target, filters = mel.exp(), self.logmel.filters
        amplitude = (target @ self.unmix).clamp(min=1e-8)
        wanted = target @ filters.mT
        for _ in range(steps):
            amplitude = amplitude * (wanted / (amplitude @ filters @ filters.mT).clamp(min=1e-12))
        return amplitude

    def stft(self, wave: Float[Tensor, "l"]) -> Complex[Tensor, "f t"]:
        options = self.logmel
        return torch.stft(
            wave,
            options.n_fft,
            options.hop,
            options.win,
            self.window,
            pad_mode="constant",
            return_complex=True,
        )

    def istft(self, spectrum: Complex[Tensor, "f t"]) -> Float[Tensor, "l"]:
        return torch.istft(spectrum, self.logmel.n_fft, self.logmel.hop, self.logmel.win, self.window)
