"""TensorBoard events in the run folder: without gaps or doubles over resumes, and never a reason to stop training."""

import logging
import threading
from collections.abc import Callable
from functools import cache, partial

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

log = logging.getLogger(__name__)


class EventLogger(TensorBoardLogger):
    """What is logged of step N is that of the Nth step, wherever it comes from.

    `resumed_at` marks later events of an earlier life, which was killed after its checkpoint, as superseded.
    """

    def __init__(self, folder: str, resumed_at: int = 0):
        super().__init__(
            save_dir=folder,
            name="",
            version="",
            # From 0 too: a life that began there may have died before its first checkpoint.
            purge_step=resumed_at + 1,
            max_queue=1000,
        )
        _silence_writers()
        self.failures = 0  # entries that could not be written
        self._logged: dict[str, int] = {}  # the last step of every figure

    def log_metrics(self, metrics: dict[str, float | Tensor], step: int | None = None) -> None:  # type: ignore[override]
        """Lightning counts the steps before the one it logs, and hands over a step's figures again after Checkpoints
        has had them logged.
        """
        step = (step or 0) + 1
        for name, value in metrics.items():
            if name != "epoch" and self._logged.get(name) != step:
                self._logged[name] = step
                self._attempt(partial(self._scalar, name, float(value), step))

    def _scalar(self, name: str, value: float, step: int) -> None:
        self.experiment.add_scalar(name, value, step)

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
        self._attempt(lambda: self.experiment.flush())

    def finalize(self, status: str) -> None:
        if self.failures:
            log.warning("%d entries of TensorBoard could not be written", self.failures)
        else:
            self._attempt(lambda: (self.experiment.flush(), self.experiment.close()))

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                log.warning("TensorBoard events cannot be written (%s); training goes on without them", error)


@cache
def _silence_writers() -> None:
    """TensorBoard's writing thread hands its error over at the next entry, and would print a traceback besides."""
    others = threading.excepthook

    def hook(died: threading.ExceptHookArgs) -> None:
        if not (type(died.thread).__name__ == "_AsyncWriterThread" and isinstance(died.exc_value, OSError)):
            others(died)

    threading.excepthook = hook
