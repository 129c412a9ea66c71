"""The settings of conf/data, and the loaders that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Sampler

from hmmtts.audio.features import Features
from hmmtts.data.cache import FeatureCache
from hmmtts.data.collate import collate
from hmmtts.data.dataset import Augmentation, Draw, Item, SpeechDataset, Transcriber
from hmmtts.data.manifest import Utterance
from hmmtts.data.sampler import Epochs, StreamedBatches
from hmmtts.data.worker import leave_signals_to_the_run
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
    augment: Augmentation | None = None

    def cache(self, features: Features) -> FeatureCache:
        return FeatureCache(features, self.cache_dir)

    def transcriber(self, frontend: Frontend) -> Transcriber:
        return Transcriber(frontend, self.corpus_phones)

    def epochs(self, utterances: Sequence[Utterance], world_size: int = 1) -> Epochs:
        return Epochs(utterances, self.max_seconds, self.max_items, self.bucket_count, world_size)

    def stream(
        self, manifest: Path, seed: int = 0, rank: int = 0, world_size: int = 1, position: int = 0
    ) -> StreamedBatches:
        """The sampler of training from a manifest that does not fit in memory."""
        return StreamedBatches(
            manifest, self.max_seconds, self.max_items, self.bucket_count,
            seed=seed, rank=rank, world_size=world_size, position=position,
        )  # fmt: skip

    def loader(self, dataset: SpeechDataset, batches: Sampler[list[Draw]]) -> DataLoader[Item]:
        """It yields Batch, made `prefetch` ahead in each of `workers` processes."""
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            worker_init_fn=leave_signals_to_the_run,
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            generator=torch.Generator(),  # it draws a seed for the workers, which nothing uses: not from the global one
        )
