"""How fast sound becomes features, beside a plain librosa loop in the same run, and whether loading keeps up.

All times are of one thread per process. Rivals take turns within every round and the median round counts, so that a
busy machine slows both alike.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import soundfile
import torch
from torch import nn

from hmmtts.audio.features import Features
from hmmtts.audio.io import Wave, read
from hmmtts.data.cache import FeatureCache
from hmmtts.data.dataset import SpeechDataset
from hmmtts.data.loader import Loading
from hmmtts.data.manifest import Utterance
from hmmtts.data.sampler import TrainingBatches
from hmmtts.data.survey import survey
from hmmtts.text.phones import Phones

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class Rates(NamedTuple):
    """Seconds of sound handled in one second."""

    log_mel: float
    librosa: float  # the same log-mel
    read_log_mel: float  # with reading the files
    read_librosa: float
    acoustic: float
    f0: float
    cached: float  # all features, from the cache


class Loader(NamedTuple):
    workers: int
    steps: int
    step_ms: float  # of the training alone
    wait_share: float  # of the time of a training, spent waiting for a batch


def utterances_of(folder: Path, limit: int) -> list[Utterance]:
    """The sound files of a folder, each as an utterance of one symbol."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:limit]
    if not paths:
        raise ValueError(f"{folder} holds no sound file ({', '.join(SUFFIXES)})")
    return [_utterance(path) for path in paths]


def _utterance(path: Path) -> Utterance:
    info = soundfile.info(path)
    seconds = info.frames / info.samplerate
    return Utterance(str(path), path, info.samplerate, 0.0, seconds, seconds, "a", phones=["a"])


def librosa_log_mel(wave: Wave, rate: int, features: Features) -> np.ndarray:
    mel = features.mel
    amplitudes = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=mel.n_fft, hop_length=mel.hop, win_length=mel.win, power=1.0, n_mels=mel.dim,
        fmin=mel.fmin, fmax=mel.fmax, htk=mel.mel_scale == "htk", norm=mel.norm, pad_mode="reflect",
    )  # fmt: skip
    return np.log(np.maximum(amplitudes, mel.floor)).T


@torch.no_grad()
def rates(utterances: Sequence[Utterance], features: Features, rounds: int) -> Rates:
    torch.set_num_threads(1)
    seconds = sum(utterance.duration for utterance in utterances)
    waves = [read(utterance.audio) for utterance in utterances]
    tensors = [torch.from_numpy(wave)[None] for wave, _ in waves]
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(features, folder)
        for utterance in utterances:
            cache(utterance)
        turns: dict[str, Callable[[], object]] = {
            "log_mel": lambda: [features.mel(wave) for wave in tensors],
            "librosa": lambda: [librosa_log_mel(wave, rate, features) for wave, rate in waves],
            "read_log_mel": lambda: [
                features.mel(torch.from_numpy(read(u.audio)[0])[None]) for u in utterances
            ],
            "read_librosa": lambda: [
                librosa_log_mel(*librosa.load(u.audio, sr=None), features)  # type: ignore[arg-type]
                for u in utterances
            ],
            "acoustic": lambda: [features.acoustic(wave) for wave in tensors],
            "f0": lambda: [features.f0(wave) for wave, _ in waves],
            "cached": lambda: [cache(utterance) for utterance in utterances],
        }
        taken: dict[str, list[float]] = {name: [] for name in turns}
        for turn in turns.values():
            turn()  # compiled code and the disk's cache are warm from here on
        for _ in range(rounds):
            for name, turn in turns.items():
                taken[name].append(_timed(turn))
    return Rates(**{name: seconds / statistics.median(times) for name, times in taken.items()})


def _timed(turn: Callable[[], object]) -> float:
    start = time.perf_counter()
    turn()
    return time.perf_counter() - start


def process_rates(
    utterances: Sequence[Utterance], features: Features, processes: int, rounds: int
) -> list[float]:
    """Seconds of sound read and turned to log-mel in one second, by 1, 2, ... processes together."""
    seconds = rounds * sum(utterance.duration for utterance in utterances)
    found = []
    for count in range(1, processes + 1):
        context = get_context("fork")
        ready, go = context.Barrier(count + 1), context.Barrier(count + 1)
        workers = [
            context.Process(target=_extract, args=(utterances, features, rounds, ready, go))
            for _ in range(count)
        ]
        for worker in workers:
            worker.start()
        ready.wait()
        start = time.perf_counter()
        go.wait()
        for worker in workers:
            worker.join()
        found.append(count * seconds / (time.perf_counter() - start))
    return found


@torch.no_grad()
def _extract(
    utterances: Sequence[Utterance], features: Features, rounds: int, ready: Barrier, go: Barrier
) -> None:
    torch.set_num_threads(1)
    ready.wait()
    go.wait()
    for _ in range(rounds):
        for utterance in utterances:
            features.mel(torch.from_numpy(read(utterance.audio)[0])[None])


def loader_wait(
    utterances: Sequence[Utterance], features: Features, workers: int, steps: int, width: int = 256
) -> Loader:
    """Train a small recurrent net on batches from the cache and see how long it waits for them."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        loading = Loading(
            max_seconds=max(60.0, *(u.duration for u in utterances)), workers=workers, cache_dir=folder
        )
        cache, transcribe = loading.cache(features), loading.transcriber(Phones())
        facts = survey(utterances, cache, transcribe)
        dataset = SpeechDataset(
            cache,
            transcribe,
            facts.symbols,
            facts.mel_normaliser(),
            facts.acoustic_normaliser(),
            facts.speakers,
        )
        net = nn.LSTM(features.mel.dim, width, batch_first=True)
        batches = iter(loading.loader(dataset, TrainingBatches(loading.epochs(utterances))))
        next(batches)  # the workers start with the first batch, once in a run
        waits, works = [], []
        for _ in range(steps):
            start = time.perf_counter()
            batch = next(batches)
            arrived = time.perf_counter()
            net(batch.mel)[0].square().mean().backward()
            works.append(time.perf_counter() - arrived)
            waits.append(arrived - start)
    return Loader(workers, steps, 1000 * statistics.median(works), sum(waits) / (sum(waits) + sum(works)))
