"""A folder of synthesised speech against the recordings: every figure per utterance and in all, beside its anchors.

Letters: n samples, t frames, m mel bins.
"""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.audio.io import read
from hmmtts.audio.mel import LogMel
from hmmtts.audio.vocoder import GriffinLim
from hmmtts.audio.world import World
from hmmtts.metrics.definitions import COUNTS
from hmmtts.metrics.functional import (
    SpeechErrors,
    bootstrap_interval,
    compare_speech,
    constant_pitch,
    duration_figures,
    duration_moments,
    mean_over_utterances,
    pitch_errors,
)
from hmmtts.metrics.report.folders import AUDIO, TEXTGRID, common, files_by_id
from hmmtts.metrics.report.recognise import Recogniser, word_errors
from hmmtts.metrics.report.textgrid import read_phones
from hmmtts.metrics.speech import analyse
from hmmtts.metrics.timing import MOMENTS

GRIFFIN_LIM_ITERATIONS = 60
Wave = tuple[Float[np.ndarray, "n"], int]  # samples and their rate


class Compared(NamedTuple):
    """One utterance; sums are zeros where the corpus gives no times or no text was asked for."""

    errors: SpeechErrors
    moments: Float[np.ndarray, "8"]  # of the durations of phones
    words: Float[np.ndarray, "3"]  # in the text, errors in the synthesis, errors in the recording


class SpeechReport(NamedTuple):
    """Figures are named as in `DEFINITIONS`, conditions as in `CONDITIONS`."""

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    anchors: dict[str, dict[str, float]]
    utterances: dict[str, dict[str, float]]
    missing: list[str]  # ids without a hypothesis
    unexpected: list[str]  # ids without a reference
    other_phones: list[str]  # ids whose TextGrids differ in their phones, so that no durations were compared
    fmax: float  # both sides were resampled to twice this


def evaluate_speech(
    ref: Path,
    hyp: Path,
    fmax: float = 8000.0,
    anchors: bool = True,
    texts: dict[str, list[str]] | None = None,
    seen: Callable[[str, int], None] = lambda name, total: None,
) -> SpeechReport:
    """`texts` are the words of each utterance, for the word error rates; None leaves those out. `seen` is told of every
    utterance once it is compared, and of how many there are.
    """
    found = common(ref, hyp, AUDIO, inside="wavs")
    if texts is not None and (without := [name for name in found.pairs if not texts.get(name)]):
        raise ValueError(
            f"{without[0]}: no words in the texts given ({len(without)} of {len(found.pairs)} utterances)"
        )
    fmax = min(fmax, *(_sample_rate(path) / 2 for pair in found.pairs.values() for path in pair))
    moments, other_phones = _duration_moments(ref, hyp, found.pairs)
    recogniser = None if texts is None else Recogniser()
    mean_mels = _mean_mels((path for path, _ in found.pairs.values()), fmax) if anchors else {}

    compared: dict[str, Compared] = {}
    floor, ceiling, constant = [], [], []
    for name, (ref_path, hyp_path) in found.pairs.items():
        recording, synthesis = read(ref_path), read(hyp_path)
        truth = _analyse(recording, fmax)
        words = np.zeros(3)
        if recogniser and texts is not None:
            heard = [word_errors(texts[name], recogniser(*wave)) for wave in (synthesis, recording)]
            words = np.array([len(texts[name]), *heard], dtype=np.float64)
        errors = compare_speech(truth, _analyse(synthesis, fmax))
        compared[name] = Compared(errors, moments.get(name, np.zeros(len(MOMENTS))), words)
        constant.append(_constant(truth))
        if anchors:
            natural, mean = _through_vocoder(recording, mean_mels[recording[1]], fmax)
            floor.append(compare_speech(truth, _analyse(natural, fmax)))
            ceiling.append(compare_speech(truth, _analyse(mean, fmax)))
        seen(name, len(found.pairs))

    everything = list(compared.values())
    figures = _figures(everything)
    names = [name for name in figures if name not in COUNTS]

    def resampled(drawn: np.ndarray) -> np.ndarray:
        figures = _figures([everything[index] for index in drawn])
        return np.array([figures.get(name, np.nan) for name in names])  # durations, where none was drawn

    low, high = bootstrap_interval(len(everything), resampled)
    others = {"floor": floor, "ceiling": ceiling} if anchors else {}
    return SpeechReport(
        figures=figures,
        intervals={name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)},
        anchors={condition: _means(errors) for condition, errors in others.items()}
        | {"constant": _constants(constant)},
        utterances={name: _figures([one]) for name, one in compared.items()},
        missing=found.missing,
        unexpected=found.unexpected,
        other_phones=other_phones,
        fmax=fmax,
    )


def _sample_rate(path: Path) -> int:
    try:
        return soundfile.info(path).samplerate
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: not readable as sound: {error}") from error


def _analyse(wave: Wave, fmax: float) -> World:
    return analyse(torch.from_numpy(wave[0]), wave[1], fmax)


def _means(errors: list[SpeechErrors]) -> dict[str, float]:
    table = np.array(errors, dtype=np.float64)
    figures = dict(zip(SpeechErrors._fields, mean_over_utterances(table).tolist(), strict=True))
    return figures | {
        "f0_covoiced_frames": float(table[:, SpeechErrors._fields.index("f0_covoiced_frames")].sum()),
        "f0_undefined_utterances": float(np.isnan(table[:, SpeechErrors._fields.index("f0_rmse_hz")]).sum()),
    }


def _figures(compared: list[Compared]) -> dict[str, float]:
    """Without the durations and the word error rates that nothing is known about."""
    figures = _means([one.errors for one in compared]) | {"speech_utterances": float(len(compared))}
    durations = duration_figures(torch.from_numpy(np.sum([one.moments for one in compared], axis=0)))
    if durations.phones:
        figures |= {f"duration_{name}": value.item() for name, value in durations._asdict().items()}
    spoken, wrong, natural = np.sum([one.words for one in compared], axis=0)
    if spoken:
        figures |= {
            "word_error_rate": float(wrong / spoken),
            "word_error_rate_natural": float(natural / spoken),
        }
    return figures


# -- anchors ------------------------------------------------------------------------------------------------------


@cache
def _vocoder(rate: int, fmax: float) -> GriffinLim:
    return GriffinLim(LogMel(sample_rate=rate, fmax=fmax), iterations=GRIFFIN_LIM_ITERATIONS)


def _mel(wave: Wave, fmax: float) -> Float[Tensor, "t m"]:
    return _vocoder(wave[1], fmax).logmel(torch.from_numpy(wave[0])[None])[0]


def _mean_mels(paths: Iterable[Path], fmax: float) -> dict[int, Float[Tensor, "m"]]:
    """The mean of all frames, for each sample rate that there is."""
    sums: dict[int, tuple[Tensor, int]] = {}
    for path in paths:
        wave = read(path)
        mel = _mel(wave, fmax).double()
        total, frames = sums.get(wave[1], (torch.zeros(mel.shape[1], dtype=torch.float64), 0))
        sums[wave[1]] = total + mel.sum(0), frames + len(mel)
    return {rate: (total / frames).float() for rate, (total, frames) in sums.items()}


def _through_vocoder(recording: Wave, mean_mel: Float[Tensor, "m"], fmax: float) -> tuple[Wave, Wave]:
    """The recording through mel and Griffin-Lim, and the mean mel for each of its frames."""
    rate, mel = recording[1], _mel(recording, fmax)
    vocoder = _vocoder(rate, fmax)
    return (vocoder(mel).numpy(), rate), (vocoder(mean_mel.expand_as(mel)).numpy(), rate)


def _constant(truth: World) -> tuple[float, float, float]:
    f0, length = torch.from_numpy(truth.f0)[None], torch.tensor([len(truth.f0)])
    errors = pitch_errors(f0, constant_pitch(f0, length), length)
    return errors.rmse_hz.item(), errors.rmse_cents.item(), errors.median_abs_hz.item()


def _constants(errors: list[tuple[float, float, float]]) -> dict[str, float]:
    means = mean_over_utterances(np.array(errors)).tolist()
    return dict(zip(("f0_rmse_hz", "f0_rmse_cents", "f0_median_abs_hz"), means, strict=True))


# -- durations ----------------------------------------------------------------------------------------------------


def _duration_moments(
    ref: Path, hyp: Path, names: Iterable[str]
) -> tuple[dict[str, Float[np.ndarray, "8"]], list[str]]:
    """Of the utterances that have TextGrids on both sides, and the ids of those whose phones differ."""
    refs, hyps = (files_by_id(folder, TEXTGRID, "alignments") for folder in (ref, hyp))
    found, differ = {}, []
    for name in names:
        if name not in refs or name not in hyps:
            continue
        truth, guess = read_phones(refs[name]), read_phones(hyps[name])
        if truth.labels != guess.labels:
            differ.append(name)
            continue
        count, spoken = torch.tensor([len(truth.labels)]), torch.ones(1, len(truth.labels), dtype=torch.bool)
        found[name] = duration_moments(truth.durations[None], guess.durations[None], count, spoken).numpy()
    return found, differ
