"""Progress in the terminal: one bar over all steps; where there is no terminal, a line at intervals."""

import logging
import time
from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hmmtts.training.console import of_terminal

log = logging.getLogger(__name__)


class ProgressBar(Callback):
    def __init__(
        self,
        show: Sequence[str] = ("train/loss",),
        validation: Sequence[str] = ("valid/loss",),
        seconds_between_lines: float = 30.0,
    ):
        self.show = show  # logged figures beside the bar
        self.validation = validation  # figures in the line after a validation
        self.seconds_between_lines = seconds_between_lines
        self._bar: Progress | None = None
        self._last_line = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_line = time.monotonic()
        console = of_terminal()
        if trainer.is_global_zero and console.is_terminal:
            columns = (
                "{task.description}",
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(
                *columns, TextColumn("{task.fields[figures]}"), console=console, refresh_per_second=4
            )
            self._bar.add_task("training", total=trainer.max_steps, completed=trainer.global_step, figures="")
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=trainer.global_step, figures=_figures(trainer, self.show))
        elif trainer.is_global_zero and time.monotonic() - self._last_line > self.seconds_between_lines:
            self._last_line = time.monotonic()
            log.info(
                "step %d of %d: %s", trainer.global_step, trainer.max_steps, _figures(trainer, self.show)
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            log.info("step %d: %s", trainer.global_step, _figures(trainer, self.validation))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _figures(trainer: Trainer, names: Sequence[str]) -> str:
    known = trainer.callback_metrics
    return "  ".join(f"{name} {float(known[name]):.3f}" for name in names if name in known)
