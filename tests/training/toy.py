"""A task that trains in a second: one layer with dropout and batch norm, so that every kind of state is in play."""

import logging
import os
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from tensorboard.summary.writer import event_file_writer
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from hmmtts.batch import Batch
from hmmtts.data.worker import leave_signals_to_the_run
from hmmtts.nn.lengths import Mean
from hmmtts.training.callbacks.checkpoint import Checkpoints
from hmmtts.training.callbacks.ema import EMA
from hmmtts.training.callbacks.finite import SkipNonFinite
from hmmtts.training.callbacks.position import Position
from hmmtts.training.callbacks.preemption import Preemption
from hmmtts.training.checkpoint_io import AtomicCheckpointIO
from hmmtts.training.logger import EventLogger
from hmmtts.training.run_folder import RunFolder
from hmmtts.training.schedule import WarmupCosine
from hmmtts.training.task import Task

# Event files of one second are told apart, and read, by this number as text: the tenth in a process came before the ninth.
event_file_writer._global_uid = event_file_writer.AtomicCounter(1000)

log = logging.getLogger(__name__)
UTTERANCES, BATCH, STEPS, EVERY = 22, 3, 24, 6  # 7 batches an epoch: no interval divides another


class ToyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4))

    def means(self, batch: Batch) -> dict[str, Mean]:
        error = (self.layers(batch.mel.flatten(0, 1)) - batch.mel.flatten(0, 1)).square()
        weight = self.layers[0].weight
        return {
            "mel": Mean(error.sum(), torch.tensor(error.numel())),
            "size": Mean(weight.square().sum(), torch.tensor(weight.numel())),
        }


class ToyData(Dataset):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.randn(5, 4, generator=torch.Generator().manual_seed(index))

    def __len__(self) -> int:
        return UTTERANCES


class FromPosition(Sampler[list[int]]):
    """The contract of a sampler: a pure function of the seed, the position and the rank, without an end."""

    def __init__(self, position: int, rank: int = 0, ranks: int = 1):
        self.position = position
        self.rank = rank
        self.ranks = ranks

    def __iter__(self) -> Iterator[list[int]]:
        each_epoch = UTTERANCES // (BATCH * self.ranks)
        position = self.position
        while True:
            order = torch.randperm(
                UTTERANCES, generator=torch.Generator().manual_seed(position // each_epoch)
            ).tolist()
            start = (position % each_epoch * self.ranks + self.rank) * BATCH
            yield order[start : start + BATCH]
            position += 1


def collate(indices: list[int]) -> Batch:
    mel = torch.stack([ToyData()[index] for index in indices])
    count = torch.full((len(indices),), 5)
    zero = torch.zeros(len(indices), dtype=torch.long)
    none = torch.zeros(len(indices), 0)
    return Batch(
        [f"u{index}" for index in indices], none.long(), zero, none.long(), mel, count, none, none[..., None], zero, zero,
        zero, none, none,
    )  # fmt: skip


class Indices(Dataset):
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return UTTERANCES


class ToyModule(LightningDataModule):
    def __init__(self, position: int, workers: int):
        super().__init__()
        self.position = position
        self.workers = workers

    def train_dataloader(self) -> DataLoader:
        batches = FromPosition(self.position, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(
            Indices(), batch_sampler=batches, collate_fn=collate,
            num_workers=self.workers, persistent_workers=self.workers > 0, worker_init_fn=leave_signals_to_the_run,
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Indices(), batch_size=11, collate_fn=collate)


class Diary(Callback):
    """What was seen and when it was validated, over all lives."""

    def __init__(self, seen: list[list[str]], validations: list[int]):
        self.seen = seen
        self.validations = validations

    def on_train_batch_start(self, trainer: Trainer, pl_module: Task, batch: Batch, batch_idx: int) -> None:
        self.seen[trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1 :] = [batch.names]

    def on_validation_end(self, trainer: Trainer, pl_module: Task) -> None:
        self.validations.append(trainer.global_step)


def train(
    folder: Path,
    *extra: Callback,
    model: nn.Module | None = None,
    accumulate: int = 1,
    ranks: int = 1,
    scaled: bool = False,
    logged: bool = False,
    logs: Path | None = None,
    workers: int = 0,
) -> Task:
    """One life of the run in `folder`; the same command every time.

    `ranks`: of gloo, whose processes the caller starts. `scaled`: 16-bit training with a loss scale.
    """
    run = RunFolder(folder)
    with run if int(os.environ.get("LOCAL_RANK", 0)) == 0 else nullcontext():
        start = run.start("auto")
        log.info(start.message)
        torch.manual_seed(1)
        task = Task(
            model or ToyModel(),
            {"mel": 1.0, "size": 0.1},
            partial(torch.optim.AdamW, lr=1e-2),
            WarmupCosine(0.125, STEPS),
        )
        callbacks = [
            Position(seed=7),
            SkipNonFinite(allowed=2),
            EMA(0.9),
            *extra,
            Preemption(),
            Checkpoints(every=4, keep_every=8, monitor="valid/loss"),
        ]
        plugins: list = [AtomicCheckpointIO()]
        if scaled:
            plugins.append(MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", growth_interval=5)))
        trainer = Trainer(
            accelerator="cpu", devices=ranks, max_epochs=-1, max_steps=STEPS, val_check_interval=EVERY * accumulate,
            check_val_every_n_epoch=None, num_sanity_val_steps=0, use_distributed_sampler=False, callbacks=callbacks,
            strategy=DDPStrategy(process_group_backend="gloo", timeout=timedelta(minutes=1)) if ranks > 1 else "auto",
            logger=EventLogger(str(logs or folder), resumed_at=start.step) if logged else False, log_every_n_steps=1,
            plugins=plugins, enable_progress_bar=False, gradient_clip_val=1.0, enable_model_summary=False,
            accumulate_grad_batches=accumulate, default_root_dir=run.path,
        )  # fmt: skip
        trainer.fit(task, ToyModule(start.batches, workers), ckpt_path=start.checkpoint, weights_only=True)
    return task
