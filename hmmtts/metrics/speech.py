"""One synthesised utterance against its recording: both through WORLD, paired, then every figure of speech."""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.audio import world
from hmmtts.metrics.pairing import Pairs, by_dtw, by_index, select
from hmmtts.metrics.pitch import pitch_errors
from hmmtts.metrics.spectrum import mcd, spectral_distortion

Pairing = Literal["dtw", "index"]


class SpeechErrors(NamedTuple):
    """The figures of one utterance, named as in `DEFINITIONS`."""

    mcd_db: float
    mcd_by_index_db: float
    spectral_distortion_db: float
    f0_rmse_hz: float
    f0_rmse_ln: float
    f0_rmse_cents: float
    f0_median_abs_hz: float
    vuv_error: float
    f0_covoiced_frames: int


def check_pairing(pairing: str) -> None:
    if pairing not in ("dtw", "index"):
        raise ValueError(
            f'pairing must be "dtw" (the two sides differ in length) or "index", got {pairing!r}'
        )


def analyse(wave: Float[Tensor, "n"], sample_rate: int, fmax: float | None = None) -> world.World:
    """`world.analyse`, which remembers the last few waves: one recording is compared with the synthesis, the floor and
    the ceiling in turn, and Harvest takes a sixth of the audio's duration.
    """
    return _analyse(wave.detach().float().cpu().numpy().tobytes(), sample_rate, fmax)


@lru_cache(maxsize=32)
def _analyse(samples: bytes, sample_rate: int, fmax: float | None) -> world.World:
    return world.analyse(np.frombuffer(samples, dtype=np.float32), sample_rate, fmax)


def compare_speech(ref: world.World, hyp: world.World, pairing: Pairing = "dtw") -> SpeechErrors:
    """Frames are paired by index, or along the exact DTW path of c1..c24, the F0 along the same path."""
    check_pairing(pairing)
    frames = torch.tensor([len(ref.f0)]), torch.tensor([len(hyp.f0)])
    ref_mcep, hyp_mcep = (torch.from_numpy(side.mcep)[None] for side in (ref, hyp))
    straight = by_index(*frames)
    pairs = (
        straight if pairing == "index" else by_dtw(ref_mcep[..., 1:], frames[0], hyp_mcep[..., 1:], frames[1])
    )

    def paired(name: str, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        a, b = (torch.from_numpy(getattr(side, name))[None] for side in (ref, hyp))
        return select(a, pairs.ref), select(b, pairs.hyp), pairs.length

    pitch = pitch_errors(*paired("f0", pairs))
    return SpeechErrors(
        mcd_db=mcd(*paired("mcep", pairs)).item(),
        mcd_by_index_db=mcd(*paired("mcep", straight)).item(),
        spectral_distortion_db=spectral_distortion(*paired("log_envelope", pairs)).item(),
        f0_rmse_hz=pitch.rmse_hz.item(),
        f0_rmse_ln=pitch.rmse_ln.item(),
        f0_rmse_cents=pitch.rmse_cents.item(),
        f0_median_abs_hz=pitch.median_abs_hz.item(),
        vuv_error=pitch.vuv_error.item(),
        f0_covoiced_frames=int(pitch.covoiced.item()),
    )
