"""Signals ask a run to end: the handler sets a flag, all ranks agree on it at the end of a batch, save, and leave.

SIGTERM, SIGUSR1 and SIGHUP exit with 143, SIGINT with 130; a second SIGINT leaves at once. Saving inside a handler
would catch the optimizer between two parameters.
"""

import os
import signal
import sys
import threading
from types import FrameType

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.training.callbacks.checkpoint import Checkpoints
from hmmtts.training.callbacks.position import position_of
from hmmtts.training.faults import Interrupted
from hmmtts.training.signals import SIGNALS, exit_code_of


class Preemption(Callback):
    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, object] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After Lightning has installed its own handlers, which save inside the handler."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT == self.received:
            print("second SIGINT: leaving now; the last checkpoint is intact", file=sys.stderr, flush=True)
            os._exit(130)
        self.received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if not position_of(trainer).between_steps(trainer):
            return
        flag = torch.tensor(self.received, device=pl_module.device)
        agreed = int(trainer.strategy.reduce(flag, reduce_op="max"))
        if not agreed:
            return
        saved = [
            callback.save_after_batch(trainer)
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, Checkpoints)
        ]
        code = exit_code_of(agreed)
        done = "saved" if all(saved) else "could not save"
        name = signal.Signals(agreed).name
        raise Interrupted(f"received {name}: {done} step {trainer.global_step}, exiting {code}", code, agreed)
