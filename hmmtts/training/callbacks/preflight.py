"""The worst batches of the corpus once before training: what does not fit is known in the first minute."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from hmmtts.training.data import SpeechData
from hmmtts.training.out_of_memory import stopping
from hmmtts.training.task import Task
from hmmtts.training.trial import backward, peak, start_peak

log = logging.getLogger(__name__)


class Preflight(Callback):
    """Forward and backward beside an optimiser's state, on every rank. Weights, buffers and randomness stay as they are."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Task)
        if not isinstance(trainer.datamodule, SpeechData):  # type: ignore[attr-defined]
            return
        begun, resting, words = time.monotonic(), start_peak(pl_module.device), []
        with isolate_rng(), untouched(pl_module), room_of(trainer):
            lightning.seed_everything(0, verbose=False)
            for what, batch in trainer.datamodule.worst_batches().items():  # type: ignore[attr-defined]
                batch = trainer.strategy.batch_to_device(batch, pl_module.device)
                with stopping(f"preflight: the batch with the {what}", batch, pl_module.mend):
                    backward(pl_module, batch, trainer.precision_plugin.forward_context())
                pl_module.zero_grad(set_to_none=True)
                words.append(
                    f"{what}: T={int(batch.frames.max())}, S={int(batch.symbols.max())}, {len(batch.names)} utterances"
                )
        if trainer.is_global_zero:
            log.info(
                "preflight: the worst batches fit, %.0f MiB beyond weights and data, %.1f s (%s)",
                (peak(pl_module.device) - resting) / 2**20, time.monotonic() - begun, "; ".join(words),
            )  # fmt: skip


@contextmanager
def untouched(module: torch.nn.Module) -> Iterator[None]:
    """Parameters too: some layers set theirs from the first batch that they see."""
    before = {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in module.state_dict().items():
                value.copy_(before[name])


@contextmanager
def room_of(trainer: Trainer) -> Iterator[None]:
    """What the optimiser will hold from its first step on: two numbers for each parameter, as Adam does."""
    held: list[Tensor] = [
        torch.zeros_like(parameter)
        for optimizer in trainer.optimizers
        if not optimizer.state
        for group in optimizer.param_groups
        for parameter in (*group["params"], *group["params"])
    ]
    yield
    held.clear()
