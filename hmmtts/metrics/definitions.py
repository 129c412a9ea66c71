"""The sentence that is printed with every figure: a key of metrics.json is a condition, a slash and a figure."""

from hmmtts.metrics.timing import WITHIN_MS

DTW = "frames paired along the exact DTW path of c1..c24"
BY_INDEX = "frames paired by index"

CONDITIONS: dict[str, str] = {
    "test": f"free synthesis, from the text alone, with the model's own durations; {DTW}",
    "valid": f"free synthesis of the validation sentences, from the text alone, with the model's own durations; {DTW}",
    "test_given_durations": f"synthesis with the true durations; {BY_INDEX}",
    "valid_given_durations": f"synthesis of the validation sentences with the true durations; {BY_INDEX}",
    "floor": "anchor: the natural recording through the same mel and vocoder; no model can be expected to do better",
    "ceiling": "anchor: the mean mel for every frame; a model that does no better has learnt nothing",
    "constant": "baseline: every voiced frame at its recording's own mean F0",
    "uniform": "baseline: the utterance cut into equal parts",
}

_BAND = "audio resampled to twice the mel's upper limit"
_F0 = "F0 by Harvest, 71 to 800 Hz, every 5 ms; mean over utterances"
_BOUNDARIES = "phone starts, and phone ends before a pause; pooled over all boundaries"

DEFINITIONS: dict[str, str] = {
    "mcd_db": f"mel-cepstral distortion, 10/ln 10 * sqrt(2 * sum (c_d - c'_d)^2) over c1..c24 (c0 excluded), of WORLD envelopes every 5 ms; {_BAND}; mean over frame pairs, then over utterances",
    "mcd_by_index_db": "as mcd_db, with frame i against frame i until the shorter side ends",
    "mcd_logmel_db": "the MCD formula on c1..c24 of a DCT of the ln-mel, without a vocoder: another scale than mcd_db; mean over utterances",
    "spectral_distortion_db": f"log-spectral distortion: root mean square over frequency of the difference of WORLD envelopes in dB, level included; {_BAND}; mean over utterances",
    "f0_rmse_hz": f"RMSE over the frames voiced on both sides; {_F0}",
    "f0_rmse_ln": f"RMSE of ln F0 over the frames voiced on both sides; {_F0}",
    "f0_rmse_cents": f"RMSE in cents over the frames voiced on both sides; {_F0}",
    "f0_median_abs_hz": f"median absolute error over the frames voiced on both sides; {_F0}",
    "vuv_error": f"share of all frames whose voicing differs; {_F0}",
    "f0_covoiced_frames": "number of frames voiced on both sides, in all utterances",
    "f0_undefined_utterances": "number of utterances without a frame voiced on both sides: left out of the F0 errors",
    "speech_utterances": "number of utterances whose audio was compared",
    "duration_accuracy": "1 - sum |d - d'| / sum d, not below 0; pauses excluded; pooled over phones",
    "duration_rmse_ms": "RMSE of phone durations; pauses excluded; pooled over phones",
    "duration_correlation": "Pearson's correlation of phone durations; pauses excluded; pooled over phones",
    "duration_phones": "number of phones whose durations were compared",
    "alignment_accuracy": "share of frames, judged at their centres every 5 ms, in the right phone instance; pauses included; mean over utterances",
    "alignment_accuracy_phones": "as alignment_accuracy, over the frames where the reference has a phone",
    "alignment_utterances": "number of utterances whose alignment was compared",
    "boundary_median_ms": f"median absolute boundary error; {_BOUNDARIES}",
    "boundary_mean_ms": f"mean absolute boundary error; {_BOUNDARIES}",
    "boundary_bias_ms": f"median signed boundary error, positive where the hypothesis is late; {_BOUNDARIES}",
    "boundaries": "number of boundaries that were compared",
    "word_error_rate": "substitutions, insertions and deletions of pocketsphinx (its US English model) over the words of the text; pooled over words",
    "word_error_rate_natural": "as word_error_rate, of the natural recordings",
}
for _ms in WITHIN_MS:
    DEFINITIONS[f"boundary_within_{_ms}ms"] = f"share of boundaries within {_ms} ms; {_BOUNDARIES}"
    DEFINITIONS[f"boundary_debiased_within_{_ms}ms"] = (
        f"share of boundaries within {_ms} ms once boundary_bias_ms is taken off; {_BOUNDARIES}"
    )

# Figures that count what the others were measured on: they have no interval and are no shares.
COUNTS = frozenset(name for name, sentence in DEFINITIONS.items() if sentence.startswith("number of"))


# Under `test` and `valid`, the aligner hears the recordings, and predicted durations stand beside the true ones.
_HEARD = {
    "test": "the test sentences, their recordings and true times",
    "valid": "the validation sentences, their recordings and true times",
}


def define(key: str) -> str:
    """The definition of a key such as `test/mcd_db`, with what its condition means."""
    condition, _, figure = key.rpartition("/")
    if figure not in DEFINITIONS or (condition and condition not in CONDITIONS):
        raise ValueError(
            f"key must be a figure of DEFINITIONS under a condition of CONDITIONS, got {key!r}: define it"
        )
    times = figure.startswith(("alignment", "boundar", "duration"))
    meaning = _HEARD.get(condition) if times else None
    return f"{meaning or CONDITIONS[condition]}: {DEFINITIONS[figure]}" if condition else DEFINITIONS[figure]
