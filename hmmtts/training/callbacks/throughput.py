"""How fast training is and how much memory it takes, as scalars."""

import resource
import sys
import time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.batch import Batch


class Throughput(Callback):
    def __init__(self, every: int = 50):
        self.every = every
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._steps = self._utterances = self._frames = self._padded = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()  # a validation is not training time

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        self._steps += 1
        self._utterances += len(batch.names)
        self._frames += int(batch.frames.sum())
        self._padded += batch.mel.shape[0] * batch.mel.shape[1]
        if self._steps < self.every:
            return
        seconds = time.monotonic() - self._since
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )
        figures = {
            "speed/batches_per_second": self._steps / seconds,
            "speed/utterances_per_second": self._utterances / seconds,
            "speed/frames_per_second": self._frames / seconds,
            "speed/share_of_padding": 1 - self._frames / self._padded,
            "memory/peak_mib": peak,
        }
        if pl_module.device.type == "cuda":
            figures["memory/peak_gpu_mib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**20
        pl_module.log_dict({name: float(value) for name, value in figures.items()}, rank_zero_only=True)
        self._begin()
