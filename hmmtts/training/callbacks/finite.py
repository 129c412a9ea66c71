"""A loss or gradient that is not finite costs one update, not the run; many in a row stop it (exit code 5)."""

import logging
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor
from torch.optim import Optimizer

from hmmtts.training.faults import NumericsError

log = logging.getLogger(__name__)


class SkipNonFinite(Callback):
    """All ranks decide together, after backward, so that no collective operation is left out by one of them.

    Dropping the gradients is what skips: an optimizer passes over parameters without one, its moments included.
    """

    def __init__(self, allowed: int = 5):
        self.allowed = allowed  # updates skipped in a row before the run stops
        self.in_a_row = 0
        self._batch: tuple = ()
        self._bad = 0

    def state_dict(self) -> dict[str, int]:
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.in_a_row = state_dict["in_a_row"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple, batch_idx: int
    ) -> None:
        self._batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if not torch.isfinite(loss.detach()):
            self._bad = 1
            self._dump(trainer)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = (
            torch.stack([g.detach().float().norm() for g in gradients]).sum()
            if gradients
            else torch.zeros(())
        )
        bad = torch.tensor(float(self._bad or not torch.isfinite(norm)), device=pl_module.device)
        agreed = float(trainer.strategy.reduce(bad, reduce_op="max")) > 0
        lost, self._bad = self._bad, 0
        if not agreed:
            self.in_a_row = 0
            return
        if not lost and _is_scaled(trainer):
            return  # 16-bit training finds its loss scale by overflowing; its scaler skips such a step itself
        optimizer.zero_grad(set_to_none=True)
        self.in_a_row += 1
        names = ", ".join(self._batch[0]) if self._batch else "?"
        message = (
            f"step {trainer.global_step + 1}: non-finite loss or gradient, utterances {names}; "
            f"update skipped ({self.in_a_row} of {self.allowed} allowed in a row)"
        )
        if self.in_a_row > self.allowed:
            raise NumericsError(
                f"{message}: stopping; lower optim.lr, or see the batches kept in {_folder(trainer)}"
            )
        log.warning(message)

    def _dump(self, trainer: Trainer) -> None:
        """The batch, for whoever looks for the cause; plain tensors and lists."""
        _folder(trainer).mkdir(parents=True, exist_ok=True)
        path = _folder(trainer) / f"nonfinite-step={trainer.global_step + 1}-rank={trainer.global_rank}.pt"
        torch.save({"batch": list(self._batch)}, path)


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "faults"


def _is_scaled(trainer: Trainer) -> bool:
    return (
        isinstance(trainer.precision_plugin, MixedPrecision) and trainer.precision_plugin.scaler is not None
    )
