"""Log-mel spectrograms. l samples, t frames, m mel bins.

Every extractor of `hmmtts.audio` says where its frames lie: frame i is centred on `offset + i * hop_seconds` seconds.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from hmmtts.audio.torchaudio import transforms


class LogMel(nn.Module):
    """Natural logarithm of the mel amplitudes, clamped from below at `floor`.

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
        mel_scale: Literal["slaney", "htk"] = "slaney",
        norm: Literal["slaney"] | None = "slaney",
        padding: Literal["center", "same"] = "center",
    ) -> None:
        super().__init__()
        if fmax > sample_rate / 2:
            raise ValueError(
                f"fmax must not exceed half the sample rate, {sample_rate / 2} Hz, got {fmax}: lower fmax"
            )
        if padding not in ("center", "same"):
            raise ValueError(f'padding must be "center" or "same", got {padding!r}')
        self.sample_rate, self.n_fft, self.hop, self.win = sample_rate, n_fft, hop, win
        self.fmin, self.fmax, self.floor, self.padding = fmin, fmax, floor, padding
        self.mel_scale, self.norm = mel_scale, norm
        self.dim = n_mels
        self.hop_seconds = hop / sample_rate
        self.offset = 0.0 if padding == "center" else self.hop_seconds / 2
        self.amplitudes = transforms.MelSpectrogram(
            sample_rate=sample_rate, n_fft=n_fft, win_length=win, hop_length=hop, f_min=fmin, f_max=fmax,
            n_mels=n_mels, power=1.0, center=False, mel_scale=mel_scale, norm=norm,
        )  # fmt: skip

    def frames(self, samples: int) -> int:
        return samples // self.hop + (self.padding == "center")

    def forward(self, wave: Float[Tensor, "b l"]) -> Float[Tensor, "b t m"]:
        around = self.n_fft if self.padding == "center" else self.n_fft - self.hop
        left = around // 2
        if wave.shape[1] <= left:
            raise ValueError(
                f"a log-mel needs more than {left} samples, got {wave.shape[1]}: leave out utterances this short"
            )
        padded = pad(wave, (left, around - left), mode="reflect")
        return self.amplitudes(padded).clamp(min=self.floor).log().mT

    @property
    def filters(self) -> Float[Tensor, "f m"]:
        """The weight of each bin of the Fourier transform in each mel bin."""
        return self.amplitudes.mel_scale.fb


def frame_energy(mel: Float[Tensor, "*b t m"]) -> Float[Tensor, "*b t"]:
    """The level of each frame in nats: the logarithm of the root mean square of its mel amplitudes."""
    return 0.5 * (torch.logsumexp(2 * mel, -1) - torch.log(torch.tensor(float(mel.shape[-1]))))
