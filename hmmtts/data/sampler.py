"""Which utterances make the next batch.

`BucketedBatches` is a pure function of (utterances, seed, epoch, world size), so that the position of a training is one
number, `position`: the steps done since the beginning, epoch = position // n and step = position % n for the n steps of
an epoch. Nothing else needs saving, and a resumed run goes on with exactly the batches that an uninterrupted one has.

Every rank takes the same number of steps. Where the batches do not divide among the ranks, the last ones are split in
two, so that ranks hold disjoint shares; only if batches of one utterance are left does an utterance come twice, the
second time not `counted`. The order of the utterances does not depend on the world size, but for these last batches.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lhotse import CutSet
from lhotse.dataset.sampling import DynamicBucketingSampler
from torch.utils.data import Sampler

from hmmtts.data.dataset import Draw
from hmmtts.data.manifest import Utterance, from_cut


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


class BucketedBatches(Sampler[list[Draw]]):
    """Batches of at most `max_seconds` (padding included) and `max_items`, of one rank, for one epoch per iteration.

    `position` says where the next iteration begins; set it when a run resumes. The loader draws ahead of the training,
    so a checkpoint stores the number of steps trained, not this. Evaluation: shuffle=False.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float,
        max_items: int = 64,
        bucket_count: int = 20,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not utterances:
            raise ValueError("utterances must not be empty: no utterance was left to draw from")
        if max_items < 1 or bucket_count < 1:
            raise ValueError(
                f"max_items and bucket_count must be at least 1, got {max_items} and {bucket_count}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size - 1, got rank {rank} of {world_size}")
        longest = max(utterances, key=lambda utterance: utterance.duration)
        if longest.duration > max_seconds:
            raise ValueError(
                f"max_seconds must hold the longest utterance, {longest.where} of {longest.duration:.2f} s, "
                f"got {max_seconds}: raise it, or leave out what is longer"
            )
        self.utterances, self.shuffle, self.seed = utterances, shuffle, seed
        self.rank, self.world_size = rank, world_size
        seconds = [utterance.duration for utterance in utterances]
        self.buckets = buckets(seconds, max_seconds, max_items, bucket_count)
        self.position = 0

    def __len__(self) -> int:
        """Steps of an epoch, the same in every epoch and on every rank."""
        batches = sum(-(-len(bucket.members) // bucket.size) for bucket in self.buckets)
        return -(-batches // self.world_size)

    def order(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch over all ranks: numbers of utterances."""
        random = np.random.default_rng([self.seed, epoch])
        batches = []
        for members, size in self.buckets:
            drawn = random.permutation(members).tolist() if self.shuffle else members
            batches += [drawn[first : first + size] for first in range(0, len(drawn), size)]
        if self.shuffle:
            batches = [batches[place] for place in random.permutation(len(batches))]
        return batches

    def steps(self, epoch: int) -> list[list[Draw]]:
        """The batches of an epoch on this rank."""
        batches, missing = divide(self.order(epoch), self.world_size)
        draws = [[Draw(self.utterances[index], epoch) for index in batch] for batch in batches]
        draws += [[draw._replace(counted=False) for draw in batch] for batch in draws[:1]] * missing
        return draws[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, start = divmod(self.position, len(self))
        for batch in self.steps(epoch)[start:]:
            self.position += 1
            yield batch


class StreamedBatches(Sampler[list[Draw]]):
    """Batches of a manifest too large for memory, by lhotse's dynamic bucketing: epoch after epoch without end.

    Only `buffer` utterances are in memory. The order is still a function of (seed, world size), but it is found by
    reading, so that resuming at `position` reads up to there again.
    """

    def __init__(
        self,
        manifest: str | Path,
        max_seconds: float,
        max_items: int = 64,
        bucket_count: int = 20,
        buffer: int = 5000,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.manifest = Path(manifest)
        self.position = 0
        self.options = {
            "max_duration": max_seconds, "max_cuts": max_items, "num_buckets": bucket_count, "buffer_size": buffer,
            "num_cuts_for_bins_estimate": buffer, "shuffle": shuffle, "seed": seed, "rank": rank,
            "world_size": world_size,
        }  # fmt: skip

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in itertools.islice(self._endless(), self.position, None):
            self.position += 1
            yield batch

    def _endless(self) -> Iterator[list[Draw]]:
        for epoch in itertools.count():
            sampler = DynamicBucketingSampler(CutSet.from_jsonl_lazy(self.manifest), **self.options)
            sampler.set_epoch(epoch)
            for cuts in sampler:
                yield [Draw(from_cut(cut, self.manifest.parent), epoch) for cut in cuts]
