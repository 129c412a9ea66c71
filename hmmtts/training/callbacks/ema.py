"""Exponential moving average of the weights: what is validated, saved for synthesis and shipped."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class EMA(Callback):
    """Keeps the average beside the live weights and exchanges the two around a validation.

    The average starts with a short memory, min(decay, (1 + n) / (10 + n)) after n updates, so that the first
    validations do not judge the initial weights.
    """

    def __init__(self, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(
                f"decay must be at least 0 and below 1, got {decay}; 0.999 remembers about 1000 steps"
            )
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}

    def state_dict(self) -> dict:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state_dict: dict) -> None:
        self.updates = state_dict["updates"]
        self.average = state_dict["average"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        live = pl_module.state_dict()
        if not self.average:
            self.average = {name: value.detach().clone() for name, value in live.items()}
        self.average = {name: value.to(live[name].device) for name, value in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == self.updates:  # gradients were only accumulated
            return
        self.updates = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, live in pl_module.state_dict().items():
            if live.is_floating_point():
                self.average[name].lerp_(live, 1 - decay)
            else:
                self.average[name].copy_(live)

    @torch.no_grad()
    def exchange(self, pl_module: LightningModule) -> None:
        for name, live in pl_module.state_dict().items():
            kept = live.clone()
            live.copy_(self.average[name])
            self.average[name].copy_(kept)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.exchange(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.exchange(pl_module)
