"""The settings of conf/data, and the loaders that they make."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from hmmtts.audio.features import Features
from hmmtts.data.cache import FeatureCache
from hmmtts.data.collate import collate
from hmmtts.data.dataset import Item, SpeechDataset, Transcriber
from hmmtts.data.manifest import Utterance
from hmmtts.data.sampler import BucketedBatches, StreamedBatches
from hmmtts.text.frontend import Frontend


@dataclass(frozen=True)
class Loading:
    """How utterances become batches: conf/data/*.yaml says what each setting trades."""

    max_seconds: float = 60.0
    max_items: int = 32
    bucket_count: int = 20
    workers: int = 2
    prefetch: int = 4
    pin_memory: bool = True
    cache_dir: str | None = None
    corpus_phones: bool = True

    def cache(self, features: Features) -> FeatureCache:
        return FeatureCache(features, self.cache_dir)

    def transcriber(self, frontend: Frontend) -> Transcriber:
        return Transcriber(frontend, self.corpus_phones)

    def batches(
        self,
        utterances: Sequence[Utterance],
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> BucketedBatches:
        """The sampler of training (shuffle=True) or evaluation (shuffle=False)."""
        return BucketedBatches(
            utterances, self.max_seconds, self.max_items, self.bucket_count, shuffle, seed, rank, world_size
        )

    def loader(self, dataset: SpeechDataset, batches: BucketedBatches | StreamedBatches) -> DataLoader[Item]:
        """It yields Batch, made `prefetch` ahead in each of `workers` processes; `loader.batch_sampler` has the position."""
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            generator=torch.Generator(),  # it draws a seed for the workers, which nothing uses: not from the global one
        )
