"""Which utterances make the next batch.

An epoch is a pure function of (utterances, seed, epoch, world size), so that the position of a training is one number:
the steps done since the beginning, epoch = position // n and step = position % n for the n steps of an epoch. Nothing
else needs saving, and a resumed run goes on with exactly the batches that an uninterrupted one has. The samplers of
training have no end; those of evaluation show every utterance once.

Every rank takes the same number of steps. Where the batches do not divide among the ranks, the last ones are split in
two, so that ranks hold disjoint shares; only if batches of one utterance are left does an utterance come twice, the
second time not `counted`. The order of the utterances does not depend on the world size, but for these last batches.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from hmmtts.data.dataset import Draw
from hmmtts.data.manifest import Utterance, read_utterances


class Bucket(NamedTuple):
    """Utterances of similar length and how many of them make a batch."""

    members: list[int]
    size: int


def buckets(seconds: Sequence[float], max_seconds: float, max_items: int, count: int) -> list[Bucket]:
    """From the longest utterance down: as many to a batch as fit, whole batches to a bucket.

    A batch counts as its longest utterance times its number of utterances: what it is once padded.
    """
    order = sorted(range(len(seconds)), key=lambda index: (-seconds[index], index))
    found, first = [], 0
    while first < len(order):
        size = max(1, min(max_items, int(max_seconds / seconds[order[first]])))
        batches = max(1, round(len(order) / count / size))
        found.append(Bucket(order[first : first + size * batches], size))
        first += size * batches
    return found


def divide(batches: list[list[int]], world_size: int) -> tuple[list[list[int]], int]:
    """The batches with the last ones split until they divide among the ranks, and how many are still missing."""
    batches = list(batches)
    missing = -len(batches) % world_size
    place = len(batches) - 1
    while missing and place >= 0:
        batch = batches[place]
        if len(batch) == 1:
            place -= 1
            continue
        middle = (len(batch) + 1) // 2
        batches[place : place + 1] = [batch[:middle], batch[middle:]]
        place += 1
        missing -= 1
    return batches, missing


class Epochs:
    """Batches of at most `max_seconds` (padding included) and `max_items` utterances of similar length."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float,
        max_items: int = 32,
        bucket_count: int = 20,
        world_size: int = 1,
    ) -> None:
        if not utterances:
            raise ValueError("utterances must not be empty: no utterance was left to draw from")
        if max_items < 1 or bucket_count < 1:
            raise ValueError(
                f"max_items and bucket_count must be at least 1, got {max_items} and {bucket_count}"
            )
        longest = max(utterances, key=lambda utterance: utterance.duration)
        if longest.duration > max_seconds:
            raise ValueError(
                f"max_seconds must hold the longest utterance, {longest.where} of {longest.duration:.2f} s, "
                f"got {max_seconds}: raise it, or leave out what is longer"
            )
        self.utterances, self.world_size = utterances, world_size
        seconds = [utterance.duration for utterance in utterances]
        self.buckets = buckets(seconds, max_seconds, max_items, bucket_count)
        self.batches = sum(-(-len(bucket.members) // bucket.size) for bucket in self.buckets)
        self.steps = -(-self.batches // world_size)  # the same in every epoch and on every rank

    def after(self, steps: int, ranks: int, seed: int) -> int:
        """The step with which these ranks go on after `steps` steps of others: the first that holds anything new.

        What the others had drawn of it comes twice; nothing is left out. Both may have split batches, each others.
        """
        epoch, step = divmod(steps, -(-self.batches // ranks))
        theirs, ours = (divide(self.shuffled(seed, epoch), count)[0] for count in (ranks, self.world_size))
        drawn = sum(len(batch) for batch in theirs[: step * ranks])
        ends = list(itertools.accumulate(len(batch) for batch in ours))
        return epoch * self.steps + sum(end <= drawn for end in ends[self.world_size - 1 :: self.world_size])

    def in_order(self) -> list[list[int]]:
        """The batches over all ranks, longest utterances first: numbers of utterances."""
        return [batch for members, size in self.buckets for batch in _cut(members, size)]

    def shuffled(self, seed: int, epoch: int, window: int = 0) -> list[list[int]]:
        """The same number of batches, drawn anew: utterances change places within their bucket, batches everywhere."""
        return drawn(self.buckets, np.random.default_rng([seed, epoch, window]))

    def share(self, batches: list[list[int]], rank: int, epoch: int | None) -> list[list[Draw]]:
        """What of the batches one rank draws."""
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank must be from 0 to world_size - 1, got rank {rank} of {self.world_size}")
        batches, missing = divide(batches, self.world_size)
        draws = [[Draw(self.utterances[index], epoch) for index in batch] for batch in batches]
        draws += [[draw._replace(counted=False) for draw in batch] for batch in draws[:1]] * missing
        return draws[rank :: self.world_size]


def drawn(buckets: Sequence[Bucket], random: np.random.Generator) -> list[list[int]]:
    batches = [
        batch for members, size in buckets for batch in _cut(random.permutation(members).tolist(), size)
    ]
    return [batches[place] for place in random.permutation(len(batches))]


def _cut(members: list[int], size: int) -> list[list[int]]:
    return [members[first : first + size] for first in range(0, len(members), size)]


class TrainingBatches(Sampler[list[Draw]]):
    """Epoch after epoch from `position` on, without end."""

    def __init__(self, epochs: Epochs, seed: int = 0, rank: int = 0, position: int = 0) -> None:
        self.epochs, self.seed, self.rank, self.position = epochs, seed, rank, position

    def __iter__(self) -> Iterator[list[Draw]]:
        first, start = divmod(self.position, self.epochs.steps)
        for epoch in itertools.count(first):
            yield from self.epochs.share(self.epochs.shuffled(self.seed, epoch), self.rank, epoch)[start:]
            start = 0


class EvaluationBatches(Sampler[list[Draw]]):
    """Every utterance once, the same batches every time."""

    def __init__(self, epochs: Epochs, rank: int = 0) -> None:
        self.epochs, self.rank = epochs, rank

    def __len__(self) -> int:
        return self.epochs.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        yield from self.epochs.share(self.epochs.in_order(), self.rank, epoch=None)


class StreamedBatches(Sampler[list[Draw]]):
    """Training batches of a manifest too large for memory, from `position` on, without end.

    The manifest is read in windows of `window` utterances, each an epoch in small: so much is in memory, and so far do
    utterances change places, for which the manifest itself should be in random order. What a window holds is known
    only once it is read, so that resuming reads up to `position` again. (lhotse's dynamic bucketing fills the same
    place, but its batches outgrow max_seconds by the last utterance that they take in.)
    """

    def __init__(
        self,
        manifest: str | Path,
        max_seconds: float,
        max_items: int = 32,
        bucket_count: int = 20,
        window: int = 5000,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.manifest, self.window, self.seed, self.rank, self.position = (
            manifest,
            window,
            seed,
            rank,
            position,
        )
        self.limits = (max_seconds, max_items, bucket_count, world_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        ahead = self.position
        for epoch in itertools.count():
            for number, utterances in enumerate(self._windows()):
                epochs = Epochs(utterances, *self.limits)
                if ahead < epochs.steps:
                    yield from epochs.share(epochs.shuffled(self.seed, epoch, number), self.rank, epoch)[
                        ahead:
                    ]
                ahead = max(0, ahead - epochs.steps)

    def _windows(self) -> Iterator[list[Utterance]]:
        utterances = read_utterances(self.manifest)
        first = next(utterances, None)
        if first is None:
            raise ValueError(f"{self.manifest}: holds no utterance")
        utterances = itertools.chain([first], utterances)
        while window := list(itertools.islice(utterances, self.window)):
            yield window
