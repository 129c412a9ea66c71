"""`python -m tests.training.ranks`: one rank of the toy run, with a fault where the job says."""

import os
import signal
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from hmmtts.training import rank
from hmmtts.training.callbacks.checkpoint import Checkpoints
from hmmtts.training.callbacks.finite import SkipNonFinite
from hmmtts.training.callbacks.position import Position
from hmmtts.training.callbacks.preemption import Preemption
from hmmtts.training.callbacks.pulse import Pulse
from hmmtts.training.checkpoint_io import AtomicCheckpointIO
from hmmtts.training.run_folder import RunFolder
from hmmtts.training.schedule import Constant
from hmmtts.training.task import Task
from tests.training.toy import Indices, ToyModel, collate

STEPS = 6


class Fault(Callback):
    """What happens to one rank before its third backward pass."""

    def __init__(self, kind: str, rank: int) -> None:
        self.kind, self.rank = kind, rank

    def on_before_backward(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step != 2 or trainer.global_rank != self.rank:
            return
        if self.kind in ("KILL", "STOP", "TERM", "INT"):
            os.kill(os.getpid(), signal.Signals[f"SIG{self.kind}"])
        elif self.kind == "abort":
            os.abort()
        elif self.kind == "sleep":
            time.sleep(300)
        elif self.kind == "raise":
            raise RuntimeError("the third step went wrong")


class Poisoned(ToyModel):
    """The loss of this rank is NaN in the given steps."""

    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self.steps, self.count = steps, 0

    def means(self, batch):
        means = super().means(batch)
        if self.training:
            self.count += 1
            if self.count in self.steps:
                means["mel"] = means["mel"]._replace(total=means["mel"].total * torch.nan)
        return means


class Halves(LightningDataModule):
    """Every rank its share of batches of four."""

    def _batches(self, own: range) -> DataLoader:
        return DataLoader(Indices(), batch_sampler=[[i] for i in own] * 10, collate_fn=collate)

    def train_dataloader(self) -> DataLoader:
        return self._batches(range(self.trainer.global_rank, 22, self.trainer.world_size))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Indices(), batch_sampler=[[0], [1]], collate_fn=collate)


def train(config: dict) -> None:
    path = Path(config["run"]["dir"])
    first = RunFolder(path) if os.environ["RANK"] == "0" else None
    if first:
        first.__enter__()
    torch.manual_seed(1)
    poisoned = config["poisoned"] if os.environ["RANK"] == "1" else []
    trainer = Trainer(
        accelerator="cpu", devices=2, max_epochs=-1, max_steps=STEPS, val_check_interval=3, logger=False,
        check_val_every_n_epoch=None, num_sanity_val_steps=0, use_distributed_sampler=False,
        strategy=DDPStrategy(timeout=timedelta(seconds=config["trainer"]["strategy"]["timeout"]["seconds"])),
        callbacks=[
            Position(7), Pulse(), SkipNonFinite(allowed=2), Fault(config["fault"], config["rank"]), Preemption(),
            Checkpoints(every=1, monitor="valid/loss"),
        ],
        plugins=[AtomicCheckpointIO()], enable_progress_bar=False, enable_model_summary=False, default_root_dir=path,
    )  # fmt: skip
    task = Task(Poisoned(poisoned), {"mel": 1.0, "size": 0.1}, partial(torch.optim.Adam, lr=1e-2), Constant())
    trainer.fit(task, Halves())


if __name__ == "__main__":
    rank.serve(train)
