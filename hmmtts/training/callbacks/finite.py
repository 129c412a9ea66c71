"""A loss or gradient that is not finite costs one update, not the run; many in a row stop it (exit code 5)."""

import logging
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor
from torch.optim import Optimizer

from hmmtts.batch import Batch
from hmmtts.training.faults import NumericsError
from hmmtts.training.joining import gather

log = logging.getLogger(__name__)


class SkipNonFinite(Callback):
    """All ranks decide together, after backward, so that no collective operation is left out by one of them.

    Dropping the gradients is what skips: an optimizer passes over parameters without one, its moments included.
    """

    def __init__(self, allowed: int = 5):
        self.allowed = allowed  # updates skipped in a row before the run stops
        self.in_a_row = 0
        self._batch: Batch | None = None
        self._lost: list[str] = []  # utterances of this step's batches whose loss was not finite
        self._seen: list[str] = []  # all utterances of this step

    def state_dict(self) -> dict[str, int]:
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.in_a_row = state_dict["in_a_row"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._batch = batch
        self._seen += batch.names

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        assert self._batch is not None
        if not torch.isfinite(loss.detach()):
            self._lost += self._batch.names
            self._dump(trainer, self._batch)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        lost, seen, self._lost, self._seen = self._lost, self._seen, [], []
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        whole = all(bool(torch.isfinite(norm)) for norm in torch._foreach_norm(gradients))
        bad = torch.tensor(float(bool(lost) or not whole), device=pl_module.device)
        if float(trainer.strategy.reduce(bad, reduce_op="max")) == 0:
            self.in_a_row = 0
            return
        everywhere = gather((lost, seen))
        if not any(names for names, _ in everywhere) and _is_scaled(trainer):
            return  # 16-bit training finds its loss scale by overflowing; its scaler skips such a step itself
        optimizer.zero_grad(set_to_none=True)
        self.in_a_row += 1
        message = (
            f"step {trainer.global_step + 1}: {blamed(everywhere)}; "
            f"update skipped ({self.in_a_row} of {self.allowed} allowed in a row)"
        )
        if self.in_a_row > self.allowed:
            raise NumericsError(
                f"{message}: stopping; lower optim.optimizer.lr, or see the batches kept in {_folder(trainer)}"
            )
        if trainer.is_global_zero:
            log.warning(message)

    def _dump(self, trainer: Trainer, batch: Batch) -> None:
        """The batch, for whoever looks for the cause; plain tensors and lists."""
        _folder(trainer).mkdir(parents=True, exist_ok=True)
        path = _folder(trainer) / f"nonfinite-step={trainer.global_step + 1}-rank={trainer.global_rank}.pt"
        torch.save({"batch": list(batch)}, path)


def blamed(everywhere: list[tuple[list[str], list[str]]]) -> str:
    """The ranks whose loss it was; where every loss was finite and a gradient was not, nobody can be told apart."""
    lost = [(rank, names) for rank, (names, _) in enumerate(everywhere) if names]
    what = "loss" if lost else "gradient"
    parts = lost or [(rank, names) for rank, (_, names) in enumerate(everywhere)]
    where = "" if len(everywhere) == 1 else " on rank {}"
    return f"non-finite {what}" + ";".join(
        f"{where.format(rank)}, utterances {', '.join(names)}" for rank, names in parts
    )


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "faults"


def _is_scaled(trainer: Trainer) -> bool:
    return (
        isinstance(trainer.precision_plugin, MixedPrecision) and trainer.precision_plugin.scaler is not None
    )
