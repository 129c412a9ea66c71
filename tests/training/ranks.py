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
from hmmtts.training.splitting import SplittingTask
from hmmtts.training.task import Task
from tests.training.test_out_of_memory import MIB, only
from tests.training.toy import Indices, ToyModel, collate

STEPS = 6


class Fault(Callback):
    """What happens to one rank before its third backward pass."""

    def __init__(self, kind: str, rank: int) -> None:
        self.kind, self.rank = kind, rank

    def on_before_backward(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step != 2 or trainer.global_rank != self.rank:
            return
        Path(trainer.default_root_dir).with_name("begun").touch()
        if self.kind in ("KILL", "STOP"):
            os.kill(os.getpid(), signal.Signals[f"SIG{self.kind}"])
        elif self.kind == "abort":
            os.abort()
        elif self.kind == "sleep":
            time.sleep(300)
        elif self.kind == "slow":
            time.sleep(2)
        elif self.kind == "memory":
            trainer.lightning_module.model.room = 700 * MIB
        elif self.kind == "raise":
            raise RuntimeError("the third step went wrong")


class Poisoned(ToyModel):
    """The loss of this rank is NaN in the given steps. Where `room` is set, an utterance takes 500 MiB of it."""

    room = 0

    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self.steps, self.count = steps, 0

    def means(self, batch):
        means = super().means(batch)
        if self.room and torch.is_grad_enabled():
            with only(self.room):
                torch.empty(500 * MIB * len(batch.names), dtype=torch.uint8)
        if self.training:
            self.count += 1
            if self.count in self.steps:
                means["mel"] = means["mel"]._replace(total=means["mel"].total * torch.nan)
        return means


class Halves(LightningDataModule):
    """Every rank every second utterance, one or two at a time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def train_dataloader(self) -> DataLoader:
        own = list(range(self.trainer.global_rank, 22, 2))
        batches = [own[first : first + self.size] for first in range(0, 10, self.size)]
        return DataLoader(Indices(), batch_sampler=batches * 10, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Indices(), batch_sampler=[[0], [1]], collate_fn=collate)


def meet(folder: Path) -> None:
    """On a busy machine one rank may import torch for longer than the other may wait for it."""
    (folder / f"here-{os.environ['RANK']}").touch()
    deadline = time.monotonic() + 200
    while len(list(folder.glob("here-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)


def train(config: dict) -> None:
    path = Path(config["run"]["dir"])
    meet(path.parent)
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
    model, kind = Poisoned(poisoned), Task
    if config["size"] > 1:  # no layer in which utterances depend on each other, or that draws
        model.layers = torch.nn.Sequential(model.layers[0], model.layers[3])
        kind = SplittingTask
    task = kind(model, {"mel": 1.0, "size": 0.1}, partial(torch.optim.Adam, lr=1e-2), Constant())
    trainer.fit(task, Halves(config["size"]))


if __name__ == "__main__":
    rank.serve(train)
