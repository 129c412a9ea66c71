"""The batches of a run: the training set from the run's position on, without an end; the others once, in order."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from hmmtts.audio.features import Features
from hmmtts.batch import Batch
from hmmtts.build.facts import Facts
from hmmtts.data.collate import collate
from hmmtts.data.dataset import Draw, SpeechDataset
from hmmtts.data.loader import Loading
from hmmtts.data.manifest import Utterance, manifests, read_utterances
from hmmtts.data.sampler import EvaluationBatches, TrainingBatches
from hmmtts.text.frontend import Frontend
from hmmtts.training.faults import DataError
from hmmtts.training.worst import worst


def read_splits(folder: Path) -> dict[str, list[Utterance]]:
    """Every split of a prepared corpus; training needs all three."""
    found = {split: list(read_utterances(path)) for split, path in manifests(folder).items()}
    empty = [split for split in ("train", "valid", "test") if not found.get(split)]
    if empty:
        raise DataError(
            f"{folder} has no utterance in the split {', '.join(empty)}: prepare the corpus again"
        )
    return found


class SpeechData(LightningDataModule):
    def __init__(
        self,
        splits: dict[str, list[Utterance]],
        dataset: SpeechDataset,
        loading: Loading,
        seed: int,
        position: int = 0,
        symbols: dict[str, int] | None = None,
    ):
        super().__init__()
        self.splits = splits
        self.dataset = dataset
        self.loading = loading
        self.seed = seed
        self.position = position  # batches trained on in earlier lives of this run
        self.symbols = symbols or {}  # of each utterance

    def train_dataloader(self) -> DataLoader:
        epochs = self.loading.epochs(self.splits["train"], self._world_size)
        return self.loading.loader(
            self.dataset, TrainingBatches(epochs, self.seed, self._rank, self.position)
        )

    def worst_batches(self) -> dict[str, Batch]:
        """Those of training that take most memory, by what is largest in them."""
        utterances = self.splits["train"]
        lengths = [utterance.duration for utterance in utterances]
        symbols = [self.symbols.get(utterance.id, 1) for utterance in utterances]
        return {
            what: collate([self.dataset[Draw(utterances[index])] for index in batch])
            for what, batch in worst(self.loading.epochs(utterances).buckets, lengths, symbols).items()
        }

    def val_dataloader(self) -> DataLoader:
        return self.evaluation("valid", self._rank, self._world_size)

    def evaluation(self, split: str, rank: int = 0, world_size: int = 1) -> DataLoader:
        """Every utterance once; of several ranks, this one's share."""
        epochs = self.loading.epochs(self.splits[split], world_size)
        return self.loading.loader(self.dataset, EvaluationBatches(epochs, rank))

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0


def dataset_of(
    loading: Loading, features: Features, frontend: Frontend, facts: Facts, seed: int
) -> SpeechDataset:
    """The dataset that spells and normalises as the facts say."""
    return SpeechDataset(
        cache=loading.cache(features),
        transcribe=loading.transcriber(frontend),
        symbols=facts.symbols,
        mel=facts.mel,
        acoustic=facts.acoustic,
        speakers=facts.speakers,
        languages=facts.languages,
        augment=loading.augment,
        seed=seed,
    )


def seconds(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.duration for utterance in utterances)
