"""torchmetrics around the functions: they add up over batches and ranks, and `compute` gives a dictionary of figures.

The caller names the condition: `MetricCollection({...}, prefix="test/")` turns `mcd_db` into `test/mcd_db`, and
`hmmtts.metrics.functional.define("test/mcd_db")` is the sentence to print with it. Arguments of `update` are named
apart, so that a collection can be given all of them at once. States are sums in float64 (and, for the medians of
boundary errors, the errors themselves), so that any split of the utterances over ranks gives the same figures; a rank
without a single utterance takes part too.
"""

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from hmmtts.audio import world
from hmmtts.metrics import functional
from hmmtts.metrics.functional import Spans
from hmmtts.metrics.speech import Pairing, analyse, check_pairing, compare_speech


class _Figures(Metric):
    """Sums named by the class, in float64."""

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    def __init__(self) -> None:
        super().__init__()
        self.set_dtype(torch.float64)

    def _add_sums(self, **sizes: int) -> None:
        for name, size in sizes.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")


class SpeechMetrics(_Figures):
    """Synthesised audio against the recording: MCD, log-spectral distortion, F0 and voicing.

    Means over utterances. An utterance in which a figure is undefined is left out of that figure, and
    `f0_undefined_utterances` counts those without a frame voiced on both sides. Without pyworld every figure is NaN.
    """

    FIGURES = (
        "mcd_db",
        "spectral_distortion_db",
        "f0_rmse_hz",
        "f0_rmse_cents",
        "f0_median_abs_hz",
        "vuv_error",
    )
    total: Tensor
    defined: Tensor
    covoiced: Tensor
    utterances: Tensor

    def __init__(self, sample_rate: int, fmax: float | None = None, pairing: Pairing = "dtw") -> None:
        super().__init__()
        check_pairing(pairing)
        self.sample_rate, self.fmax, self.pairing = sample_rate, fmax, pairing
        self._add_sums(total=len(self.FIGURES), defined=len(self.FIGURES), covoiced=1, utterances=1)
        if not world.available():
            warnings.warn(world.MISSING, stacklevel=2)

    def update(
        self, ref_audio: Sequence[Float[Tensor, "n"]], hyp_audio: Sequence[Float[Tensor, "o"]]
    ) -> None:
        """Recordings and syntheses of the same utterances, each a waveform without padding."""
        if not world.available():
            return
        for recording, synthesis in zip(ref_audio, hyp_audio, strict=True):
            ref, hyp = (analyse(wave, self.sample_rate, self.fmax) for wave in (recording, synthesis))
            errors = compare_speech(ref, hyp, self.pairing)
            values = self.total.new_tensor([getattr(errors, name) for name in self.FIGURES])
            self.total += values.nan_to_num(0.0)
            self.defined += ~values.isnan()
            self.covoiced += errors.f0_covoiced_frames
            self.utterances += 1

    def compute(self) -> dict[str, Tensor]:
        figures = dict(zip(self.FIGURES, self.total / self.defined, strict=True))
        rmse = self.FIGURES.index("f0_rmse_hz")
        return figures | {
            "f0_covoiced_frames": self.covoiced[0],
            "f0_undefined_utterances": self.utterances[0] - self.defined[rmse],
            "speech_utterances": self.utterances[0],
        }


class ConstantPitch(_Figures):
    """The F0 errors of a voice that speaks each recording at its own mean pitch: what a model has to beat."""

    FIGURES = ("f0_rmse_hz", "f0_rmse_cents", "f0_median_abs_hz")
    total: Tensor
    defined: Tensor

    def __init__(self, sample_rate: int, fmax: float | None = None) -> None:
        super().__init__()
        self.sample_rate, self.fmax = sample_rate, fmax
        self._add_sums(total=len(self.FIGURES), defined=len(self.FIGURES))
        if not world.available():
            warnings.warn(world.MISSING, stacklevel=2)

    def update(self, ref_audio: Sequence[Float[Tensor, "n"]]) -> None:
        if not world.available():
            return
        for recording in ref_audio:
            f0 = torch.from_numpy(analyse(recording, self.sample_rate, self.fmax).f0)[None]
            length = torch.tensor([f0.shape[1]])
            errors = functional.pitch_errors(f0, functional.constant_pitch(f0, length), length)
            values = torch.cat([errors.rmse_hz, errors.rmse_cents, errors.median_abs_hz]).to(self.total)
            self.total += values.nan_to_num(0.0)
            self.defined += ~values.isnan()

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(self.FIGURES, self.total / self.defined, strict=True))


class LogMelDistortion(_Figures):
    """`mcd_from_logmel`, for validation without a vocoder. The mels are ln-amplitudes, not normalised."""

    total: Tensor
    defined: Tensor

    def __init__(self, order: int = 24, pairing: Pairing = "dtw") -> None:
        super().__init__()
        check_pairing(pairing)
        self.order, self.pairing = order, pairing
        self._add_sums(total=1, defined=1)

    def update(
        self,
        ref_mel: Float[Tensor, "b t m"],
        ref_frames: Int[Tensor, "b"],
        hyp_mel: Float[Tensor, "b u m"],
        hyp_frames: Int[Tensor, "b"],
    ) -> None:
        a, b = (functional.logmel_cepstra(mel.double(), self.order) for mel in (ref_mel, hyp_mel))
        pairs = (
            functional.by_index(ref_frames, hyp_frames)
            if self.pairing == "index"
            else functional.by_dtw(a[..., 1:], ref_frames, b[..., 1:], hyp_frames)
        )
        distortion = functional.mcd(
            functional.select(a, pairs.ref), functional.select(b, pairs.hyp), pairs.length
        )
        self.total += distortion.nansum()
        self.defined += (~distortion.isnan()).sum()

    def compute(self) -> dict[str, Tensor]:
        return {"mcd_logmel_db": (self.total / self.defined)[0]}


class DurationMetrics(_Figures):
    """Predicted against true durations of phones, pooled over the corpus."""

    moments: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums(moments=8)

    def update(
        self,
        ref_durations: Float[Tensor, "b s"],
        hyp_durations: Float[Tensor, "b s"],
        symbols: Int[Tensor, "b"],
        spoken: Bool[Tensor, "b s"],
    ) -> None:
        self.moments += functional.duration_moments(ref_durations, hyp_durations, symbols, spoken)

    def compute(self) -> dict[str, Tensor]:
        figures = functional.duration_figures(self.moments)
        return {f"duration_{name}": value for name, value in figures._asdict().items()}


class AlignmentMetrics(_Figures):
    """An alignment of recordings against the true one: frame accuracy (mean over utterances), boundary errors (pooled).

    Utterances whose true alignment is unknown are left out, and `alignment_utterances` counts the others.
    """

    accuracy: Tensor
    defined: Tensor
    errors: list[Tensor]

    def __init__(self, step: float = 0.005) -> None:
        super().__init__()
        self.step = step
        self._add_sums(accuracy=2, defined=2)
        self.add_state("errors", [], dist_reduce_fx="cat")

    def update(
        self,
        ref_spans: Spans,
        hyp_spans: Spans,
        symbols: Int[Tensor, "b"],
        spoken: Bool[Tensor, "b s"],
        seconds: Float[Tensor, "b"],
    ) -> None:
        accuracy = torch.stack(
            functional.frame_accuracy(ref_spans, hyp_spans, symbols, spoken, seconds, self.step)
        )
        self.accuracy += accuracy.nansum(1)
        self.defined += (~accuracy.isnan()).sum(1)
        errors = functional.boundary_errors(ref_spans, hyp_spans, symbols, spoken)
        self.errors.append(errors[~errors.isnan()].double())

    def compute(self) -> dict[str, Tensor]:
        # A list of each update's errors before the ranks are joined, one tensor after; either may be empty.
        errors = dim_zero_cat(self.errors) if len(self.errors) else torch.zeros(0, dtype=torch.float64)
        figures = functional.boundary_figures(errors)
        overall, spoken = self.accuracy / self.defined
        return {
            "alignment_accuracy": overall,
            "alignment_accuracy_phones": spoken,
            "alignment_utterances": self.defined[0],
            **figures.by_key(),
        }
