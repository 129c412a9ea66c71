"""Every metric as a pure function of padded tensors and their lengths; undefined is NaN, never 0.

The definition of a figure is its function's docstring, and the sentence printed beside it is `define(key)`.
"""

from hmmtts.metrics.definitions import CONDITIONS, DEFINITIONS, define
from hmmtts.metrics.interval import bootstrap_interval, mean_interval, mean_over_utterances
from hmmtts.metrics.pairing import Pairs, by_dtw, by_index, select, valid
from hmmtts.metrics.pitch import PitchErrors, constant_pitch, pitch_errors
from hmmtts.metrics.spectrum import (
    MCD_CONSTANT,
    logmel_cepstra,
    mcd,
    mcd_from_logmel,
    mean_over_frames,
    spectral_distortion,
)
from hmmtts.metrics.speech import SpeechErrors, compare_speech
from hmmtts.metrics.timing import (
    BoundaryFigures,
    DurationFigures,
    FrameAccuracy,
    Spans,
    boundary_errors,
    boundary_figures,
    duration_errors,
    duration_figures,
    duration_moments,
    frame_accuracy,
    spans_of_frames,
    uniform_spans,
)

__all__ = [
    "CONDITIONS",
    "DEFINITIONS",
    "MCD_CONSTANT",
    "BoundaryFigures",
    "DurationFigures",
    "FrameAccuracy",
    "Pairs",
    "PitchErrors",
    "Spans",
    "SpeechErrors",
    "bootstrap_interval",
    "boundary_errors",
    "boundary_figures",
    "by_dtw",
    "by_index",
    "compare_speech",
    "constant_pitch",
    "define",
    "duration_errors",
    "duration_figures",
    "duration_moments",
    "frame_accuracy",
    "logmel_cepstra",
    "mcd",
    "mcd_from_logmel",
    "mean_interval",
    "mean_over_frames",
    "mean_over_utterances",
    "pitch_errors",
    "select",
    "spans_of_frames",
    "spectral_distortion",
    "uniform_spans",
    "valid",
]
