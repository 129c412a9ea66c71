"""A folder of TextGrids against a reference: boundary errors and frame accuracy, over all and per class of phone.

Letters: u utterances, e boundaries.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from hmmtts.metrics.definitions import COUNTS
from hmmtts.metrics.functional import (
    bootstrap_interval,
    boundary_errors,
    boundary_figures,
    duration_figures,
    duration_moments,
    frame_accuracy,
    mean_over_utterances,
    uniform_spans,
)
from hmmtts.metrics.report.folders import TEXTGRID, common
from hmmtts.metrics.report.phone_classes import CLASSES, phone_classes
from hmmtts.metrics.report.textgrid import Phones, read_phones
from hmmtts.metrics.timing import Spans

INTO_PAUSE = "end before a pause"


class Judged(NamedTuple):
    """One utterance whose two sides have the same phones."""

    errors: Float[np.ndarray, "e"]  # signed, ms
    classes: list[str]  # of each boundary: the class of the phone that starts there, or INTO_PAUSE
    accuracy: Float[np.ndarray, "2"]  # of frames: all, and within the reference's phones
    moments: Float[np.ndarray, "8"]  # of durations


class AlignmentReport(NamedTuple):
    """Figures are named as in `DEFINITIONS`."""

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    uniform: dict[str, float]  # the same of a segmentation into equal parts
    classes: dict[str, dict[str, float]]
    utterances: dict[str, dict[str, float]]
    failed: dict[str, str]  # why, by id
    unexpected: list[str]  # ids that the reference does not have
    errors: Float[np.ndarray, "e"]  # of all boundaries, for the picture
    uniform_errors: Float[np.ndarray, "e"]


def evaluate_alignment(
    ref: Path, hyp: Path, seen: Callable[[str, int], None] = lambda name, total: None
) -> AlignmentReport:
    """`seen` is told of every utterance once it is judged, and of how many there are."""
    found = common(ref, hyp, TEXTGRID, inside="alignments")
    failed = dict.fromkeys(found.missing, "missing")
    truths, guesses = {}, {}
    for name, (ref_path, hyp_path) in found.pairs.items():
        truth, guess = read_phones(ref_path), read_phones(hyp_path)
        if problem := _difference(truth.labels, guess.labels):
            failed[name] = problem
        else:
            truths[name], guesses[name] = truth, guess
        seen(name, len(found.pairs))
    if not truths:
        name, reason = next(iter(failed.items()))
        raise ValueError(f"{hyp}: no utterance has the phones of {ref}; e.g. {name}: {reason}")

    classes = phone_classes(label for truth in truths.values() for label in truth.labels)
    judged = {name: _judge(truth, guesses[name].spans, classes) for name, truth in truths.items()}
    uniform = [_judge(truth, _uniform(truth), classes) for truth in truths.values()]
    everything = list(judged.values())
    figures = _figures(everything)
    names = [name for name in figures if name not in COUNTS]

    def resampled(drawn: np.ndarray) -> np.ndarray:
        figures = _figures([everything[index] for index in drawn])
        return np.array([figures[name] for name in names])

    low, high = bootstrap_interval(len(everything), resampled)
    errors = np.concatenate([one.errors for one in everything])
    of = np.array([label for one in everything for label in one.classes])
    return AlignmentReport(
        figures=figures,
        intervals={name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)},
        uniform=_figures(uniform),
        classes={
            name: _boundaries(errors[of == name]) for name in (*CLASSES, INTO_PAUSE) if (of == name).any()
        },
        utterances={name: _figures([one]) for name, one in judged.items()},
        failed=dict(sorted(failed.items())),
        unexpected=found.unexpected,
        errors=errors,
        uniform_errors=np.concatenate([one.errors for one in uniform]),
    )


def _difference(ref: list[str], hyp: list[str]) -> str | None:
    """Where two sequences of phones part, in words."""
    for place, (wanted, got) in enumerate(zip(ref, hyp, strict=False), start=1):
        if wanted != got:
            return f"phone {place} is {got}, the reference has {wanted}"
    if len(ref) != len(hyp):
        return f"{len(hyp)} phones, the reference has {len(ref)}"
    return None if ref else "no phones"


def _uniform(truth: Phones) -> Spans:
    """Equal parts for phones and for the pauses that the reference has: it gets the pauses for nothing."""
    edges = torch.cat([torch.zeros(1, dtype=torch.float64), truth.ends])
    following = torch.cat([truth.starts, torch.tensor([truth.seconds], dtype=torch.float64)])
    pauses = (following - edges > 1e-3).long()
    place = torch.arange(len(truth.starts)) + pauses[:-1].cumsum(0)
    parts = len(truth.starts) + int(pauses.sum())
    spans = uniform_spans(torch.tensor([parts]), torch.tensor([truth.seconds]), parts)
    return Spans(spans.starts[:, place], spans.ends[:, place])


def _judge(truth: Phones, guess: Spans, classes: dict[str, str]) -> Judged:
    count = torch.tensor([len(truth.labels)])
    spoken = torch.ones(1, len(truth.labels), dtype=torch.bool)
    errors = boundary_errors(truth.spans, guess, count, spoken)[0]
    labels = [(classes[label], INTO_PAUSE) for label in truth.labels]
    scored = ~errors.isnan()
    return Judged(
        errors=errors[scored].numpy(),
        classes=[labels[phone][side] for phone, side in scored.nonzero().tolist()],
        accuracy=torch.cat(
            frame_accuracy(
                truth.spans, guess, count, spoken, torch.tensor([truth.seconds], dtype=torch.float64)
            )
        ).numpy(),
        moments=duration_moments(truth.durations[None], guess.ends - guess.starts, count, spoken).numpy(),
    )


def _boundaries(errors: Float[np.ndarray, "e"]) -> dict[str, float]:
    return {name: float(value) for name, value in boundary_figures(torch.from_numpy(errors)).by_key().items()}


def _figures(judged: list[Judged]) -> dict[str, float]:
    overall, phones = mean_over_utterances(np.stack([one.accuracy for one in judged]))
    durations = duration_figures(torch.from_numpy(np.sum([one.moments for one in judged], axis=0)))
    return {
        "alignment_accuracy": float(overall),
        "alignment_accuracy_phones": float(phones),
        "alignment_utterances": len(judged),
        **_boundaries(np.concatenate([one.errors for one in judged])),
        **{f"duration_{name}": float(value) for name, value in durations._asdict().items()},
    }
