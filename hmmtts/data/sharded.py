"""Training from shards: batches that stay within a few shards at a time, and features of audio that is fetched for them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hmmtts.audio.features import Features, Tracks
from hmmtts.data.cache import FeatureCache
from hmmtts.data.loader import Loading
from hmmtts.data.manifest import Utterance
from hmmtts.data.sampler import Epochs, buckets, drawn
from hmmtts.data.shards import INDEX, Index, parse
from hmmtts.data.spool import Spool

ATTEMPTS = 5  # to open a file that other processes keep giving up
SOURCE = "source"  # beside the manifests: where the shards are


class Room(NamedTuple):
    """Where shards are kept, and how many are in use at a time."""

    folder: Path
    limit: float  # bytes
    window: int  # shards


@dataclass(frozen=True)
class ShardedLoading(Loading):
    """conf/data/shar.yaml says what each setting trades."""

    window: int = 8
    spool: str = "runs/spool"
    spool_gb: float = 50.0

    def cache(self, features: Features) -> FeatureCache:
        return ShardedCache(
            features, self.cache_dir, Room(Path(self.spool), self.spool_gb * 1e9, self.window)
        )

    def epochs(self, utterances: Sequence[Utterance], world_size: int = 1) -> Epochs:
        return ShardedEpochs(
            utterances, self.max_seconds, self.max_items, self.bucket_count, world_size, self.window
        )


class ShardedEpochs(Epochs):
    """Epochs whose batches come from `window` shards at a time.

    The windows are the same in every epoch, so an epoch has the same number of steps and the position of a run is
    still one number; their order, and everything in them, is drawn anew.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float,
        max_items: int = 32,
        bucket_count: int = 20,
        world_size: int = 1,
        window: int = 8,
    ) -> None:
        super().__init__(utterances, max_seconds, max_items, bucket_count, world_size)
        if window < 1:
            raise ValueError(f"window must be at least 1 shard, got {window}")
        shards: dict[Path, list[int]] = {}
        for index, utterance in enumerate(utterances):
            shards.setdefault(utterance.audio.parent, []).append(index)
        members = list(shards.values())
        self.windows = []
        for first in range(0, len(members), window):
            indices = [index for shard in members[first : first + window] for index in shard]
            seconds = [utterances[index].duration for index in indices]
            self.windows.append(
                [
                    bucket._replace(members=[indices[place] for place in bucket.members])
                    for bucket in buckets(seconds, max_seconds, max_items, bucket_count)
                ]
            )
        self.buckets = [bucket for window_buckets in self.windows for bucket in window_buckets]
        self.steps = -(-len(self.in_order()) // world_size)

    def shuffled(self, seed: int, epoch: int, window: int = 0) -> list[list[int]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.windows)).tolist()
        generators = {number: np.random.default_rng([seed, epoch, 1 + number]) for number in order}
        return [batch for number in order for batch in drawn(self.windows[number], generators[number])]


class ShardedCache(FeatureCache):
    """A FeatureCache for utterances whose audio may still be in a shard. What is cached needs no audio at all."""

    def __init__(self, features: Features, root: str | Path | None, room: Room) -> None:
        super().__init__(features, root)
        self.room = room

    def content(self, utterance: Utterance) -> bytes:
        """The index pins the shard's content, and with it that of all its files."""
        corpus, shard = place(utterance)
        pinned = index_of(corpus).shards.get(shard)
        if pinned is None:
            return super().content(utterance)
        return hashlib.blake2b(f"{pinned.sha256} {utterance.audio.name}".encode(), digest_size=16).digest()

    def compute(self, utterance: Utterance) -> Tracks:
        corpus, shard = place(utterance)
        if utterance.audio.exists() or shard not in index_of(corpus).shards:
            return super().compute(utterance)
        spool = spool_of(corpus, self.room)
        for _ in range(ATTEMPTS):
            try:
                return super().compute(utterance._replace(audio=spool.audio(shard, utterance.audio.name)))
            except FileNotFoundError:
                continue
        raise ValueError(
            f"{utterance.where}: its shard {shard} was given up {ATTEMPTS} times while it was read: raise data.spool_gb"
        )


def place(utterance: Utterance) -> tuple[Path, str]:
    """Of CORPUS/audio/SPLIT/NUMBER/ID.flac: the corpus, and SPLIT/NUMBER."""
    folder = utterance.audio.parent
    return folder.parent.parent.parent, f"{folder.parent.name}/{folder.name}"


@lru_cache
def index_of(corpus: Path) -> Index:
    """Of a corpus that recipes/shards prepared."""
    try:
        source = (corpus / SOURCE).read_text(encoding="utf-8")
        return parse((corpus / INDEX).read_bytes(), source)
    except FileNotFoundError as error:
        raise ValueError(
            f"data=shar reads a corpus that recipe=shards prepared; {corpus} holds none ({error.filename} is missing)"
        ) from error


@lru_cache
def spool_of(corpus: Path, room: Room) -> Spool:
    """One for each source: corpora may share the folder."""
    index = index_of(corpus)
    largest = max(shard.size for shard in index.shards.values())
    if 2 * room.window * largest > room.limit:
        raise ValueError(
            f"data.spool_gb must hold two windows of data.window={room.window} shards of up to {largest / 1e9:.3g} GB, "
            f"{2 * room.window * largest / 1e9:.3g}, got {room.limit / 1e9:.3g}: every batch would fetch shards anew"
        )
    name = hashlib.blake2b(index.source.encode(), digest_size=8).hexdigest()
    return Spool(index, room.folder / name, room.limit)
