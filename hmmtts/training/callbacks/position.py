"""The training loop's position is one number: the count of batches trained on, over all lives of a run.

Everything else follows from it. The sampler starts there, all randomness of a batch is drawn from
(seed, position, rank), and Lightning's own counters are set from it when a run is resumed: restoring their
saved states counted wrongly after a second interruption (docs/reliability.md).
"""

import hashlib
import random

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


def seed_of(*key: int) -> int:
    """32 bits that depend on every part of the key (an arithmetic mix would let (1, 2) collide with (2, 1))."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "little")


class Position(Callback):
    def __init__(self, seed: int, ahead: int = 0):
        self.seed = seed
        # Of `batches`, the position in the data: another number of ranks once trained this run.
        self.ahead = ahead
        self.batches = 0  # trained on, which is also the number of the next batch
        self.validated = 0  # the position of the last validation that was completed

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.batches, "validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.batches = state_dict["batches"]
        self.validated = state_dict["validated"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        drawn = self.batches + self.ahead
        checkpoint.setdefault("hmmtts", {}).update(
            batches=self.batches, drawn=drawn, ranks=trainer.world_size
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        batches, steps = self.batches, self.batches // trainer.accumulate_grad_batches
        for count in ("ready", "started", "processed", "completed"):
            setattr(loop.batch_progress.total, count, batches)
        stepped = loop.automatic_optimization.optim_progress.optimizer.step.total
        stepped.ready = stepped.completed = steps
        loop._batches_that_stepped = steps
        if self.validation_due(trainer) and self.validated < batches:
            # The run ended between its batch and the validation after it, whose figures belong to the step before this.
            loop._batches_that_stepped = steps - 1
            trainer.validating = True
            loop.val_loop.run()
            trainer.training = True
            loop._batches_that_stepped = steps

    def validation_due(self, trainer: Trainer) -> bool:
        """Whether a validation follows the batch just trained on."""
        every = trainer.val_check_interval
        return bool(trainer.enable_validation and self.batches and self.batches % every == 0)

    def between_steps(self, trainer: Trainer) -> bool:
        """Whether all gradients so far have been applied: accumulated ones are in no checkpoint."""
        return self.batches % trainer.accumulate_grad_batches == 0

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        _reseed(self.seed, self.batches, trainer.global_rank)

    def on_train_batch_end(self, *_: object) -> None:
        self.batches += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not the seed of the next batch, and the same at every validation: figures compare over time.
        _reseed(self.seed, -1, trainer.global_rank)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated = self.batches


def _reseed(*key: int) -> None:
    """As lightning.seed_everything does, which besides writes the seed into the environment: the C library keeps every
    value that it ever held, 80 bytes a step.
    """
    seed = seed_of(*key)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what others draw from
    torch.manual_seed(seed)


def position_of(trainer: Trainer) -> Position:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Position))  # type: ignore[attr-defined]
