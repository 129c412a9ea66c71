"""When checkpoints are written: last.ckpt at intervals, best.ckpt by a validation figure, step=N.ckpt to keep."""

import logging
import math
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from hmmtts.training.callbacks.position import position_of
from hmmtts.training.checkpoint_io import AtomicCheckpointIO
from hmmtts.training.faults import EnvironmentFault, NumericsError

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """Lightning runs checkpoint callbacks after all others, so what is saved is the state after the whole step."""

    def __init__(
        self, every: int, monitor: str, mode: str = "min", keep_every: int = 0, allowed_failures: int = 3
    ):
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be min or max, got {mode!r}")
        self.every = every  # steps between two last.ckpt
        self.keep_every = keep_every  # steps between two step=N.ckpt; 0 keeps none
        self.monitor = monitor
        self.sign = 1.0 if mode == "min" else -1.0
        self.allowed_failures = allowed_failures
        self.best = math.inf
        self.best_step = 0
        self.tried_step = -1  # of the last attempt to write last.ckpt
        self.kept_step = 0  # of the last.ckpt on the disk; 0: there is none
        self.failures = 0  # in a row: steps of which something could not be written
        self.failed_step = -1  # the last of them

    def state_dict(self) -> dict:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict) -> None:
        self.best = state_dict["best"]
        self.best_step = state_dict["best_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tried_step = self.kept_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        step = trainer.global_step
        if step == self.tried_step or (step % self.every and not self._keeps(step)):
            return
        if position_of(trainer).validation_due(trainer):
            return  # saved after it, so that a resumed run neither repeats nor loses it
        self.save_after_batch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(
                f"callbacks.checkpoint.monitor={self.monitor!r} is not logged; "
                f"logged are {', '.join(sorted(trainer.callback_metrics))}"
            )
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            before = self.best, self.best_step
            self.best, self.best_step = value, trainer.global_step
            if not self._save(trainer, "best.ckpt"):
                self.best, self.best_step = before  # what best.ckpt still is
        self.save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.kept_step != trainer.global_step and not self.save_last(trainer):
            raise EnvironmentFault(
                f"the last step, {trainer.global_step}, could not be saved, so the run is not finished; "
                f"{self._kept()}. Make room and resume"
            )

    def save_after_batch(self, trainer: Trainer) -> bool:
        """Lightning logs a step's figures only after the hooks of its end: a life that ends here would lose them."""
        trainer._logger_connector.update_train_step_metrics()
        return self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> bool:
        """Whether last.ckpt is of this step now."""
        step = self.tried_step = trainer.global_step
        if self._keeps(step):
            self._save(trainer, f"step={step}.ckpt")
        if self._save(trainer, "last.ckpt"):
            self.kept_step = step
        return self.kept_step == step

    def _keeps(self, step: int) -> bool:
        return bool(self.keep_every) and step % self.keep_every == 0

    def _save(self, trainer: Trainer, name: str) -> bool:
        """A disk that is full costs a retry, never the last good file; only several failures in a row stop the run."""
        require_finite(trainer.lightning_module)
        # Said, because Lightning writes a line into the log at every save where it is not.
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / name, weights_only=False)
        checkpoint_io = trainer.strategy.checkpoint_io
        assert isinstance(checkpoint_io, AtomicCheckpointIO)
        failure = trainer.strategy.broadcast(checkpoint_io.failure)  # only rank 0 writes
        if failure is None:
            self.failures = 0
            return True
        step = trainer.global_step
        self.failures += step != self.failed_step
        self.failed_step = step
        message = f"checkpoint {name} of step {step} not written: {failure}; {self._kept()}."
        if self.failures > self.allowed_failures:
            raise EnvironmentFault(f"{message} {self.failures} failures in a row: stopping")
        log.warning("%s The next attempt is at step %d", message, (step // self.every + 1) * self.every)
        return False

    def _kept(self) -> str:
        return f"last.ckpt of step {self.kept_step} is kept" if self.kept_step else "there is no earlier one"


def require_finite(module: LightningModule) -> None:
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise NumericsError(f"{name} is not finite: no checkpoint is written, the last one is good")
