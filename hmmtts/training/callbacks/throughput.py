"""How fast training is, over all processes, as scalars; the share of time that the loader and the GPU take of it."""

import time
from contextlib import suppress

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.batch import Batch


class Throughput(Callback):
    """The first batches after a start compile and fill caches: `warm_up` of them are not counted."""

    def __init__(self, every: int = 50, warm_up: int = 5):
        self.every, self.warm_up = every, warm_up
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._steps = self._utterances = self._frames = self._padded = 0
        self._waited = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._cold = self.warm_up
        self._ended = time.monotonic()
        self._begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = time.monotonic()
        self._begin()  # a validation is not training time

    def on_train_batch_start(self, *_: object) -> None:
        self._waited += time.monotonic() - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        self._ended = time.monotonic()
        if self._cold:
            self._cold -= 1
            self._begin()
            return
        self._steps += 1
        self._utterances += len(batch.names)
        self._frames += int(batch.frames.sum())
        self._padded += batch.mel.shape[0] * batch.mel.shape[1]
        if self._steps < self.every:
            return
        seconds = time.monotonic() - self._since
        figures = {
            "speed/batches_per_second": self._steps / seconds,
            "speed/utterances_per_second": trainer.world_size * self._utterances / seconds,
            "speed/frames_per_second": trainer.world_size * self._frames / seconds,
            "speed/share_of_padding": 1 - self._frames / self._padded,
            # For the loader: more data.workers where it is large.
            "speed/share_of_waiting": self._waited / seconds,
            **gpu_use(pl_module.device),
        }
        pl_module.log_dict({name: float(value) for name, value in figures.items()}, rank_zero_only=True)
        self._begin()


def gpu_use(device: torch.device) -> dict[str, float]:
    """Share of the last moments in which the GPU computed, where its driver tells (it needs pynvml or amdsmi)."""
    if device.type == "cuda":
        with suppress(ModuleNotFoundError, RuntimeError, OSError):
            return {"speed/gpu_use": torch.cuda.utilization(device) / 100}
    return {}
