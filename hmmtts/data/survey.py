"""One pass over a corpus: its features come into the cache, and what a model must know of its data is learned."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from hmmtts.audio.normaliser import Moments, Normaliser
from hmmtts.data.cache import FeatureCache
from hmmtts.data.dataset import Transcriber
from hmmtts.data.manifest import Utterance
from hmmtts.data.worker import leave_signals_to_the_run
from hmmtts.text.symbols import SymbolTable

log = logging.getLogger(__name__)
SHOWN = 10  # problems that a message names one by one


class Size(NamedTuple):
    symbols: int
    frames: int
    acoustic_frames: int


@dataclass(frozen=True)
class Survey:
    """What a corpus holds. The training set's is what a model is built with and its bundle keeps."""

    sizes: dict[str, Size]  # by the utterance's id
    symbols: SymbolTable
    mel: Moments
    acoustic: Moments
    speakers: list[str]
    languages: list[str]

    def mel_normaliser(self, per_bin: bool = False) -> Normaliser:
        return Normaliser.fit(self.mel, per_bin)

    def acoustic_normaliser(self) -> Normaliser:
        """One mean and deviation for each coefficient: cepstra differ in size by orders of magnitude."""
        return Normaliser.fit(self.acoustic, per_feature=True)


class Look(NamedTuple):
    """What one utterance adds to a survey."""

    size: Size
    symbols: list[str]
    mel: Moments
    acoustic: Moments
    miss: str | None


class _Looks(Dataset[Look | str]):
    """Index -> Look, or the message of what is wrong with the utterance."""

    def __init__(self, utterances: Sequence[Utterance], cache: FeatureCache, transcribe: Transcriber) -> None:
        self.utterances, self.cache, self.transcribe = utterances, cache, transcribe

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Look | str:
        utterance = self.utterances[index]
        try:
            transcript = self.transcribe(utterance)
            tracks, miss = self.cache.fetch(utterance)
        except (ValueError, OSError) as error:
            message = str(error)
            return message if message.startswith(utterance.where) else f"{utterance.where}: {message}"
        if not transcript.symbols:
            return f"{utterance.where}: the transcript holds no symbol"
        size = Size(len(transcript.symbols), len(tracks.mel), len(tracks.acoustic))
        return Look(size, transcript.symbols, Moments.of(tracks.mel), Moments.of(tracks.acoustic), miss)


def survey(
    utterances: Sequence[Utterance], cache: FeatureCache, transcribe: Transcriber, workers: int = 0
) -> Survey:
    """Extract the features that the cache lacks, in `workers` processes, and take stock.

    Every utterance that cannot be used is found in one run and named in one error.
    """
    if not utterances:
        raise ValueError("utterances must not be empty: there is nothing to survey")
    cache.sweep()
    sizes, problems, misses = {}, [], Counter[str]()
    seen: dict[str, None] = {}
    mel, acoustic = [], []
    for utterance, look in zip(utterances, _looks(utterances, cache, transcribe, workers), strict=True):
        if isinstance(look, str):
            problems.append(look)
            continue
        sizes[utterance.id] = look.size
        seen.update(dict.fromkeys(look.symbols))
        mel.append(look.mel)
        acoustic.append(look.acoustic)
        misses.update([look.miss] if look.miss else [])
    if cache.folder is not None:
        log.info("%s: %d of %d files were cached", cache.folder, len(sizes) - misses.total(), len(sizes))
        for reason, count in misses.items():
            log.info("cache miss: %d file%s (%s)", count, "" if count == 1 else "s", reason)
    if problems:
        shown = "\n".join(problems[:SHOWN]) + ("\n..." if len(problems) > SHOWN else "")
        raise ValueError(
            f"{len(problems)} of {len(utterances)} utterances cannot be used; `hmmtts check` with --fix writes a "
            f"manifest without them:\n{shown}"
        )
    return Survey(
        sizes,
        SymbolTable.learn([seen]),
        _total(mel),
        _total(acoustic),
        sorted({utterance.speaker for utterance in utterances}),
        sorted({utterance.language or "" for utterance in utterances}),
    )


def _looks(
    utterances: Sequence[Utterance], cache: FeatureCache, transcribe: Transcriber, workers: int
) -> Iterator[Look | str]:
    """The first look is taken here: librosa compiles its pitch tracker at first use, and workers that did so at the
    same time, into one cache, have crashed.
    """
    looks = _Looks(utterances, cache, transcribe)
    yield looks[0]
    yield from DataLoader(
        looks,
        batch_size=None,
        sampler=range(1, len(looks)),
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=leave_signals_to_the_run,
        generator=torch.Generator(),  # a loader draws a seed for its workers: not from the global generator
    )


def _unchanged(look: Any) -> Any:
    return look


def _total(moments: Iterable[Moments]) -> Moments:
    first, *others = moments
    for other in others:
        first = first.merge(other)
    return first


def feasible(
    utterances: Iterable[Utterance], sizes: dict[str, Size], states_per_symbol: int
) -> list[Utterance]:
    """The utterances that have a frame of the aligner for every state; the others are left out, each by name.

    A path visits every state for at least one frame: with fewer frames than states no alignment exists.
    """
    kept = []
    for utterance in utterances:
        size = sizes[utterance.id]
        states = states_per_symbol * size.symbols
        if size.acoustic_frames >= states:
            kept.append(utterance)
        else:
            log.warning(
                "%s: left out: %d frames < %d states; shorten features.acoustic.hop or take fewer states per symbol",
                utterance.where, size.acoustic_frames, states,
            )  # fmt: skip
    return kept
