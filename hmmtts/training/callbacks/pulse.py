"""Where a rank is, for whoever watches it (hmmtts.training.launch): one that hangs cannot say so itself."""

import os
from pathlib import Path

from lightning.pytorch import Callback, Trainer


class Pulse(Callback):
    """A file that says what is being done; its time says since when."""

    def __init__(self) -> None:
        folder = os.environ.get("HMMTTS_RANKS")
        self.path = Path(folder, f"pulse={os.environ['RANK']}") if folder else None

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._beat(f"step {trainer.global_step + 1}")

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._beat(f"the end of step {trainer.global_step}")

    def on_validation_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._beat(f"the validation after step {trainer.global_step}")

    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        self._beat(f"the end of the validation after step {trainer.global_step}")

    def _beat(self, doing: str) -> None:
        if self.path is not None:
            self.path.write_text(doing)
