"""TensorBoard events in the run folder: without gaps or doubles over resumes, and never a reason to stop training."""

import logging
from collections.abc import Callable

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

log = logging.getLogger(__name__)


class EventLogger(TensorBoardLogger):
    """`resumed_at` marks later events of an earlier life, which was killed after its checkpoint, as superseded."""

    def __init__(self, folder: str, resumed_at: int = 0):
        super().__init__(
            save_dir=folder,
            name="",
            version="",
            purge_step=resumed_at + 1 if resumed_at else None,
            max_queue=1000,
        )
        self.failures = 0

    def log_metrics(self, metrics: dict[str, float | Tensor], step: int | None = None) -> None:  # type: ignore[override]
        figures = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self._attempt(
            lambda: [self.experiment.add_scalar(name, value, step) for name, value in figures.items()]
        )

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """image: [height width 3], 8 bits a channel."""
        self._attempt(lambda: self.experiment.add_image(name, image, step, dataformats="HWC"))

    def audio(self, name: str, wave: np.ndarray, rate: int, step: int) -> None:
        self._attempt(lambda: self.experiment.add_audio(name, wave[None], step, sample_rate=rate))

    def text(self, name: str, words: str, step: int) -> None:
        self._attempt(lambda: self.experiment.add_text(name, words, step))

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """The composed config lies in the run folder as config.yaml."""

    def save(self) -> None:
        self._attempt(self.experiment.flush)

    def finalize(self, status: str) -> None:
        self._attempt(lambda: (self.experiment.flush(), self.experiment.close()))

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                log.warning("TensorBoard events cannot be written (%s); training goes on without them", error)
