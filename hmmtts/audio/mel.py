"""Log-mel spectrograms. l samples, t frames, m mel bins.

Every extractor of `hmmtts.audio` says where its frames lie: frame i is centred on `offset + i * hop_seconds` seconds.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from hmmtts.audio.torchaudio import functional


class LogMel(nn.Module):
    """Natural logarithm of the mel amplitudes, clamped from below at `floor`.

    `mel_scale` is "slaney" or "htk"; `norm` "slaney" gives every filter the same area, None the same peak.
    `padding` places the frames. With "center" frame i is centred on sample i * hop, so that t = 1 + l // hop; with
    "same" on sample i * hop + hop / 2, so that t = l // hop: HiFi-GAN's convention, whose checkpoints expect it.
    """

    def __init__(
        self,
        sample_rate: int = 22050,
        n_fft: int = 1024,
        hop: int = 256,
        win: int = 1024,
        n_mels: int = 80,
        fmin: float = 0.0,
        fmax: float = 8000.0,
        floor: float = 1e-5,
        mel_scale: str = "slaney",
        norm: str | None = "slaney",
        padding: str = "center",
    ) -> None:
        super().__init__()
        if fmax > sample_rate / 2:
            raise ValueError(
                f"fmax must not exceed half the sample rate, {sample_rate / 2} Hz, got {fmax}: lower fmax"
            )
        if not 0 < win <= n_fft:
            raise ValueError(f"win must be from 1 to n_fft, {n_fft}, got {win}")
        if mel_scale not in ("slaney", "htk") or norm not in ("slaney", None):
            raise ValueError(
                f'mel_scale must be "slaney" or "htk" and norm "slaney" or null, got {mel_scale!r} and {norm!r}'
            )
        if padding not in ("center", "same"):
            raise ValueError(f'padding must be "center" or "same", got {padding!r}')
        self.sample_rate, self.n_fft, self.hop, self.win = sample_rate, n_fft, hop, win
        self.fmin, self.fmax, self.floor, self.padding = fmin, fmax, floor, padding
        self.mel_scale, self.norm = mel_scale, norm
        self.dim = n_mels
        self.hop_seconds = hop / sample_rate
        self.offset = 0.0 if padding == "center" else self.hop_seconds / 2
        filters = functional.melscale_fbanks(n_fft // 2 + 1, fmin, fmax, n_mels, sample_rate, norm, mel_scale)
        window = pad(torch.hann_window(win), ((n_fft - win) // 2, (n_fft - win + 1) // 2))
        # Not persistent: a model that holds an extractor must not find it in its checkpoints.
        self.filters = nn.Buffer(filters, persistent=False)  # [f m], f bins of the Fourier transform
        self.window = nn.Buffer(window, persistent=False)
        self.bins = int(filters.any(1).nonzero().max()) + 1  # what lies above fmax need not be computed

    def frames(self, samples: int) -> int:
        return samples // self.hop + (self.padding == "center")

    def forward(self, wave: Float[Tensor, "b l"]) -> Float[Tensor, "b t m"]:
        around = self.n_fft if self.padding == "center" else self.n_fft - self.hop
        left = around // 2
        if wave.shape[1] <= left:
            raise ValueError(
                f"a log-mel needs more than {left} samples, got {wave.shape[1]}: leave out utterances this short"
            )
        frames = pad(wave, (left, around - left), mode="reflect").unfold(1, self.n_fft, self.hop)
        spectrum = torch.fft.rfft(frames * self.window)[..., : self.bins]
        # Three times as fast as abs(). The clamp keeps the gradient of the root finite where there is no sound.
        amplitude = (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-18).sqrt()
        return (amplitude @ self.filters[: self.bins]).clamp(min=self.floor).log()


def frame_energy(mel: Float[Tensor, "*b t m"]) -> Float[Tensor, "*b t"]:
    """The level of each frame in nats: the logarithm of the root mean square of its mel amplitudes."""
    return 0.5 * (torch.logsumexp(2 * mel, -1) - torch.log(torch.tensor(float(mel.shape[-1]))))
