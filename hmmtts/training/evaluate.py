"""A trained voice judged on unseen sentences: what it aligns, what it speaks, and the anchors beside every figure.

Keys are those of hmmtts.metrics.definitions: condition / figure. b utterances, s symbols, t frames, m mel bins.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hmmtts.audio import io
from hmmtts.batch import Batch
from hmmtts.build.bundle import Bundle
from hmmtts.build.objects import make
from hmmtts.data.manifest import Utterance
from hmmtts.metrics.definitions import define
from hmmtts.metrics.timing import Spans, uniform_spans
from hmmtts.training.judge import spoken, synthesize

FREE, GIVEN = "test", "test_given_durations"
FLOOR, CEILING, CONSTANT, UNIFORM = "floor", "ceiling", "constant", "uniform"
PAIRED_BY_INDEX = (GIVEN,)  # durations equal by construction; everything else is paired by DTW


class Take(NamedTuple):
    """One utterance and what has been made of it, as mels that are not normalised, by condition."""

    utterance: Utterance
    mels: dict[str, Float[Tensor, "t m"]]


def evaluate(
    bundle: Bundle, batches: Iterable[Batch], utterances: Sequence[Utterance], anchors: bool, workers: int
) -> dict:
    """Figures by key. `anchors` adds floor, ceiling, constant and uniform, which do not depend on the weights."""
    by_name = {utterance.id: utterance for utterance in utterances}
    timing, takes = Timing(bundle), []
    with torch.inference_mode():
        for batch in batches:
            timing.update(batch)
            mels = speak(bundle, batch, anchors)
            takes += [Take(by_name[name], made) for name, made in zip(batch.names, mels, strict=True) if name]
    return {**timing.compute(anchors), **judge_sound(bundle, takes, anchors, workers)}


def define_all(figures: dict) -> dict[str, str]:
    """The sentence to print with each figure."""
    return {key: define(key) for key in figures if not key.startswith("train/")}


class Timing:
    """Alignment of the recordings and predicted durations, against the corpus's own times; uniform ones beside them."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        alignment, durations = (bundle.config["metrics"][name] for name in ("alignment", "durations"))
        self.aligned, self.uniform = make(alignment), make(alignment)
        self.predicted, self.uniform_durations = make(durations), make(durations)

    def update(self, batch: Batch) -> None:
        known, speech = Spans(batch.starts, batch.ends), spoken(batch)
        seconds = batch.frames * self.bundle.features.mel.hop_seconds
        aligned = self.bundle.model.align(batch)
        even = uniform_spans(batch.symbols, seconds, batch.ids.shape[1])
        self.aligned.update(known, Spans(aligned.starts, aligned.ends), batch.symbols, speech, seconds)
        self.uniform.update(known, even, batch.symbols, speech, seconds)
        truth = batch.ends - batch.starts
        self.predicted.update(truth, synthesize(self.bundle.model, batch).durations, batch.symbols, speech)
        self.uniform_durations.update(truth, even.ends - even.starts, batch.symbols, speech)

    def compute(self, anchors: bool) -> dict[str, float]:
        conditions = {FREE: (self.aligned, self.predicted)}
        if anchors:
            conditions[UNIFORM] = (self.uniform, self.uniform_durations)
        return {
            f"{condition}/{name}": float(value)
            for condition, metrics in conditions.items()
            for metric in metrics
            for name, value in metric.compute().items()
        }


def speak(bundle: Bundle, batch: Batch, anchors: bool) -> list[dict[str, Float[Tensor, "t m"]]]:
    """For every utterance, the mel of each condition. True durations are given only where all of them are known."""
    inverse = bundle.facts.mel.inverse
    truth = batch.ends - batch.starts
    real = torch.arange(truth.shape[1], device=truth.device) < batch.symbols[:, None]
    known = (~truth.isnan() | ~real).all(1)
    free = synthesize(bundle.model, batch)
    given = synthesize(bundle.model, batch, torch.where(real & known[:, None], truth, 0.05))
    made: list[dict[str, Tensor]] = []
    for index in range(len(batch.names)):
        mels = {FREE: inverse(free.mel[index, : free.frames[index]])}
        if known[index]:
            mels[GIVEN] = inverse(given.mel[index, : given.frames[index]])
        if anchors:
            natural = batch.mel[index, : batch.frames[index]]
            mels |= {FLOOR: inverse(natural), CEILING: inverse(torch.zeros_like(natural))}
        made.append(mels)
    return made


class Sounds(Dataset):
    """Index -> the metrics of one utterance, by condition: vocoder and WORLD cost seconds, and run in every worker."""

    def __init__(self, bundle: Bundle, takes: Sequence[Take], anchors: bool) -> None:
        self.takes, self.anchors = takes, anchors
        self.vocoder, self.features, self.metrics = bundle.vocoder, bundle.features, bundle.config["metrics"]

    def __len__(self) -> int:
        return len(self.takes)

    def __getitem__(self, index: int) -> dict:
        take = self.takes[index]
        wave, rate = io.read(take.utterance.audio, take.utterance.start, take.utterance.duration)
        recording = torch.from_numpy(io.resample(wave, rate, self.features.sample_rate))
        results = {}
        for condition, mel in take.mels.items():
            metric = make(self.metrics["speech"], pairing="index" if condition in PAIRED_BY_INDEX else "dtw")
            metric.update([recording], [self.vocoder(mel)])
            results[condition] = metric
        if self.anchors:
            results[CONSTANT] = make(self.metrics["constant_pitch"])
            results[CONSTANT].update([recording])
        return {condition: metric.metric_state for condition, metric in results.items()}


def judge_sound(bundle: Bundle, takes: Sequence[Take], anchors: bool, workers: int) -> dict[str, float]:
    totals = {}
    jobs = DataLoader(
        Sounds(bundle, takes, anchors), batch_size=None, num_workers=workers, generator=torch.Generator()
    )
    for states in jobs:
        for condition, state in states.items():
            if condition not in totals:
                totals[condition] = make(
                    bundle.config["metrics"]["constant_pitch" if condition == CONSTANT else "speech"]
                )
                totals[condition].reset()
            for name, value in state.items():
                getattr(totals[condition], name).add_(value)
    return {
        f"{condition}/{name}": float(value)
        for condition, metric in totals.items()
        for name, value in metric.compute().items()
    }
