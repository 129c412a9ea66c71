"""What a run says: short lines in the terminal, the same lines with their time in the run folder's train.log."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

CHATTY = ("lightning", "lightning.pytorch", "lightning.fabric", "matplotlib", "numba", "tensorboard")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Both handlers for as long as the run lasts, and nothing of the caller's logging changed after it."""
    root = logging.getLogger()
    terminal = _to_terminal()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    file = PatientHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level, levels = root.level, {name: logging.getLogger(name).level for name in CHATTY}
    root.setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in (terminal, file):
        root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            expect_advice()
            yield
    finally:
        logging.captureWarnings(False)
        for handler in (terminal, file):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


class PatientHandler(logging.FileHandler):
    """A log that cannot be written is no reason to stop, and one line says so: not a traceback for every message."""

    lost = 0  # messages

    def handleError(self, record: logging.LogRecord) -> None:
        self.lost += 1
        if self.lost == 1:
            print(
                f"{self.baseFilename} cannot be written ({sys.exc_info()[1]}); training goes on",
                file=sys.stderr,
            )

    def close(self) -> None:
        with suppress(OSError):
            super().close()
        if self.lost:
            print(f"{self.baseFilename}: {self.lost} messages could not be written", file=sys.stderr)
            self.lost = 0


@cache
def of_terminal(stderr: bool = True) -> Console:
    """One console for lines and progress bar, so that they do not write into each other."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=150)


def _to_terminal() -> logging.Handler:
    console = of_terminal()
    if not console.is_terminal:
        return logging.StreamHandler()
    return RichHandler(console=console, show_path=False, show_level=False, show_time=False, markup=False)


def expect_advice() -> None:
    """No word of Lightning's advice that does not fit a run counted in steps, with its own sampler and sums."""
    for message in (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*srun.*command is available.*",
        ".*Trying to infer the `batch_size`.*",
        ".*was called before the ``update``.*",
        ".*sync_dist=True.*when logging on epoch level.*",  # what is logged is the same on every rank
    ):
        warnings.filterwarnings("ignore", message=message)
