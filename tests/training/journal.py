"""What every rank of train.py trained on, batch by batch: a callback of a user's own, as HMMTTS_CONF would bring it in."""

from pathlib import Path

from lightning.pytorch import Callback, Trainer

from hmmtts.batch import Batch
from hmmtts.training.callbacks.position import position_of


class Journal(Callback):
    """A line a batch: its position in the data, then its utterances."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer: Trainer, pl_module: object, batch: Batch, batch_idx: int) -> None:
        position = position_of(trainer)
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"rank-{trainer.global_rank}").open("a") as file:
            file.write(f"{position.batches + position.ahead} {' '.join(batch.names)}\n")


def read(folder: Path) -> dict[int, list[str]]:
    """The utterances at every position, those of the first rank first."""
    found: dict[int, list[str]] = {}
    for path in sorted(folder.glob("rank-*")):
        for line in path.read_text().splitlines():
            position, *names = line.split()
            found.setdefault(int(position), []).extend(names)
    return found
