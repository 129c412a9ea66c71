"""The figures of a run's test again, for any bundle: in all with confidence intervals, per sentence, and the anchors.

They are those of hmmtts.training.evaluate; here the metrics keep what each sentence adds to them, so that sentences can
be drawn with repetitions.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader
from torchmetrics import Metric

from hmmtts.audio import io
from hmmtts.batch import Batch
from hmmtts.build import objects, program
from hmmtts.build.bundle import Bundle
from hmmtts.build.objects import make
from hmmtts.data.manifest import Utterance
from hmmtts.data.survey import feasible, survey
from hmmtts.metrics.definitions import COUNTS
from hmmtts.metrics.interval import bootstrap_interval
from hmmtts.metrics.report.recognise import Recogniser, WordErrors, words
from hmmtts.training.compose import composed
from hmmtts.training.data import SpeechData, dataset_of, read_splits
from hmmtts.training.evaluate import CONSTANT, FREE, GIVEN, UNIFORM, Sounds, Take, Timing, define_all, speak
from hmmtts.training.prepare import prepare

State = dict  # of a torchmetrics.Metric: name -> sums, or a list of tensors to join
States = dict[tuple[str, str], State]  # by condition and metric

WORDS = "words"  # the one metric that no config names: it needs the extra `asr`


class Report(NamedTuple):
    """Keys are those of metrics.json: condition / figure."""

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # 95 %, of what the model itself does
    utterances: dict[str, dict[str, float]]
    definitions: dict[str, str]


def evaluate_bundle(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    seen: Callable[[str, int], None] = lambda name, total: None,
    recogniser: Recogniser | None = None,
) -> Report:
    """`seen` is told of every utterance once it is judged, and of how many there are.

    With a recogniser, also how many words it gets wrong in the model's own speech and in the recordings.
    """
    loading = objects.loading(bundle.config)
    timing: dict[str, States] = {}
    takes: list[Take] = []
    by_name = {utterance.id: utterance for utterance in utterances}
    dataset = dataset_of(loading, bundle.features, bundle.frontend, bundle.facts, seed=0)
    with torch.inference_mode():
        for batch in SpeechData({"test": list(utterances)}, dataset, loading, seed=0).evaluation("test"):
            made = speak(bundle, batch, anchors=True)
            takes += [Take(by_name[name], mels) for name, mels in zip(batch.names, made, strict=True)]
            timing |= {name: _timing(bundle, batch, place) for place, name in enumerate(batch.names)}
    states: dict[str, States] = {}
    sounds = Sounds(bundle, takes, anchors=True)
    jobs = DataLoader(sounds, batch_size=None, num_workers=loading.workers, generator=torch.Generator())
    for take, heard in zip(takes, jobs, strict=True):
        name = take.utterance.id
        sound = {(condition, _sound_metric(condition)): state for condition, state in heard.items()}
        states[name] = {**timing[name], **sound}
        if recogniser:
            states[name][FREE, WORDS] = _understood(bundle, take, recogniser)
        seen(name, len(takes))
    return _report(bundle, states)


def _timing(bundle: Bundle, batch: Batch, place: int) -> States:
    one = Timing(bundle)
    one.update(batch.take(torch.arange(len(batch.names)) == place))
    metrics = {
        (FREE, "alignment"): one.aligned,
        (FREE, "durations"): one.predicted,
        (UNIFORM, "alignment"): one.uniform,
        (UNIFORM, "durations"): one.uniform_durations,
    }
    return {key: metric.metric_state for key, metric in metrics.items()}


def _understood(bundle: Bundle, take: Take, recogniser: Recogniser) -> State:
    utterance, rate = take.utterance, bundle.features.sample_rate
    recording = io.read(utterance.audio, utterance.start, utterance.duration)
    made = bundle.vocoder(take.mels[FREE]).numpy()
    metric = WordErrors()
    metric.update(words(utterance.text), recogniser(made, rate), recogniser(*recording))
    return metric.metric_state


def _sound_metric(condition: str) -> str:
    return "constant_pitch" if condition == CONSTANT else "speech"


def _report(bundle: Bundle, states: dict[str, States]) -> Report:
    everything = list(states.values())
    metrics = {
        key: WordErrors() if key[1] == WORDS else make(bundle.config["metrics"][key[1]])
        for one in everything
        for key in one
    }
    own = {key: metric for key, metric in metrics.items() if key[0] in (FREE, GIVEN)}
    figures = _figures(metrics, everything)
    names = [key for key in figures if key.split("/")[0] in (FREE, GIVEN) and key.split("/")[1] not in COUNTS]

    def resampled(drawn: np.ndarray) -> np.ndarray:
        found = _figures(own, [everything[index] for index in drawn])
        return np.array([found.get(name, np.nan) for name in names])

    low, high = bootstrap_interval(len(everything), resampled)
    return Report(
        figures=figures,
        intervals={name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)},
        utterances={name: _figures(own, [one]) for name, one in states.items()},
        definitions=define_all(figures),
    )


def _figures(metrics: dict[tuple[str, str], Metric], sentences: Sequence[States]) -> dict[str, float]:
    """A condition that none of the sentences has is left out."""
    figures: dict[str, float] = {}
    for key, metric in metrics.items():
        states = [one[key] for one in sentences if key in one]
        if states:
            figures |= {f"{key[0]}/{name}": float(value) for name, value in _computed(metric, states).items()}
    return figures


def _computed(metric: Metric, states: Sequence[State]) -> dict[str, torch.Tensor]:
    metric.reset()
    for name, value in states[0].items():
        if isinstance(value, list):
            setattr(metric, name, [tensor for state in states for tensor in state[name]])
        else:
            setattr(metric, name, torch.stack([state[name] for state in states]).sum(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of `compute` before `update`: the states were updated elsewhere
        return metric.compute()


def unseen_sentences(bundle: Bundle, overrides: Sequence[str]) -> list[Utterance]:
    """The test split of the bundle's own corpus, or of the recipe that `recipe=NAME` and further options name."""
    source = _source(overrides) if overrides else bundle.config
    _known(source["recipe"])
    corpus: Path = prepare(source["recipe"], source["prepare"], source["data_dir"])
    utterances = read_splits(corpus)["test"]
    loading = objects.loading(bundle.config)
    looked = survey(
        utterances, loading.cache(bundle.features), loading.transcriber(bundle.frontend), loading.workers
    )
    unknown = [symbol for symbol in looked.symbols.symbols if symbol not in bundle.facts.symbols]
    if unknown:
        raise ValueError(
            f"{corpus}: the test sentences use symbols that the voice has not learnt: {' '.join(unknown)}"
        )
    return feasible(utterances, looked.sizes, bundle.model.aligner.states_per_symbol)


def _source(overrides: Sequence[str]) -> dict:
    recipes = [override.removeprefix("recipe=") for override in overrides if override.startswith("recipe=")]
    if len(recipes) != 1:
        raise ValueError(f"options of a corpus need one recipe=NAME, got {' '.join(overrides)}")
    _known(recipes[0])
    config = composed(overrides)
    return {
        "recipe": config["recipe"],
        "prepare": OmegaConf.to_container(config["prepare"], resolve=True),
        "data_dir": config["data_dir"],
    }


def _known(recipe: str) -> None:
    if recipe not in program.recipes():
        known = ", ".join(program.recipes())
        raise ValueError(f"recipe must be one of {known}, got {recipe!r}: name one with recipe=NAME")
