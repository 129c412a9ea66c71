"""The run folder runs/RECIPE/NAME: one live run at a time, found again by name, complete when it is finished.

config.yaml  train.log  metrics.json  report.html  checkpoints/{best,last,step=N}.ckpt  events.out.tfevents.*
"""

import fcntl
import json
import math
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from hmmtts.build import checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.faults import ConfigError, EnvironmentFault

RESUME = ("auto", "must", "never")


class Start(NamedTuple):
    """Where a run begins, and the sentence that says so."""

    checkpoint: Path | None
    step: int  # of the optimizer
    batches: int  # trained on: the position in the data
    message: str


class RunFolder:
    """Use as a context manager: inside, no other live process may use the folder."""

    def __init__(self, path: Path):
        self.path = path.resolve()
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.json"
        self._lock: int | None = None

    def __enter__(self) -> "RunFolder":
        """The lock is the kernel's, so that it ends with its process, however that dies; the text is for people."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise EnvironmentFault(f"{self.path} is in use by {owner}; choose another run.name=...") from None
        os.truncate(lock, 0)
        os.write(
            lock,
            f"pid {os.getpid()} on host {socket.gethostname()} since {time.strftime('%H:%M:%S')}".encode(),
        )
        self._lock = lock
        for leftover in self.checkpoints.glob(".tmp-*"):  # of a process that was killed while it saved
            leftover.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def finished(self) -> dict | None:
        """metrics.json is written last: a folder that has it is complete."""
        return json.loads(self.metrics.read_text(encoding="utf-8")) if self.metrics.is_file() else None

    def start(self, resume: str) -> Start:
        """Choose the checkpoint to go on from, newest first, and never begin again without saying so."""
        if resume not in RESUME:
            raise ConfigError(f"resume must be one of {', '.join(RESUME)}, got {resume!r}")
        found = sorted(self.checkpoints.glob("*.ckpt"))
        if resume == "never":
            if found:
                raise ConfigError(
                    f"resume=never, but {self.path} holds {len(found)} checkpoints: choose another run.name=... or "
                    "delete the folder"
                )
            return Start(None, 0, 0, "resume=never: starting at step 0")
        path, rejected = checkpoint.newest(self.checkpoints)
        if path is not None:
            header = checkpoint.header(path)
            left = "".join(f"{reason}; " for reason in rejected)
            message = f"{left}resumed at step {header['step']} from {path.name} (verified)"
            return Start(path, header["step"], header["batches"], message)
        if rejected:
            raise CheckpointError(f"no checkpoint of {self.checkpoints} can be used: {'; '.join(rejected)}")
        if resume == "must":
            raise CheckpointError(f"resume=must, but {self.checkpoints} holds no checkpoint")
        return Start(None, 0, 0, "no checkpoint: starting at step 0")


def write_json(path: Path, content: dict) -> None:
    """NaN is not JSON: an undefined figure is null. Replaced whole, so that a reader never sees half of it."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
